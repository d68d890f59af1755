"""How answers in Redis change: each change is one script, so that it happens as a whole.

The first argument of each is a JSON object. A field that is not needed is absent: a null would count as true in Lua.
"""

CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ask = cjson.decode(ARGV[1])
"""

# Adds the events behind the first `from`, and renews the lease. The place makes a repeat harmless. Comparing the holder
# keeps out a writer whose answer was ended by a reader. A record that is missing was lost with Redis's data: it is
# written anew, if the writer has sent all that it needs.
APPEND = (
    CLOCK
    + """
local events, state, name, running, ended, bytes, own = unpack(KEYS)
local holder, over, stop, read = unpack(redis.call('HMGET', state, 'holder', 'ended', 'stop', 'read'))
if not holder then
    if not ask.caller then return {'LOST'} end
    redis.call('HSET', state, 'holder', ask.holder, 'caller', ask.caller, 'fingerprint', ask.fingerprint)
    redis.call('DEL', events)
    if ask.named and (ask.takes_name or redis.call('EXISTS', name) == 0) then
        redis.call('SET', name, ask.id, 'PX', ask.expires_in)
    end
elseif holder ~= ask.holder then
    return {'FENCED'}
end
local have = redis.call('LLEN', events)
if over then return {'OK', have} end
if ask.from > have then return {'GAP', have} end

local added = 0
for i = 2 + have - ask.from, #ARGV do
    redis.call('RPUSH', events, ARGV[i])
    added = added + #ARGV[i] + 16
end
redis.call('HSET', state, 'lease', now + ask.lease)
redis.call('HDEL', state, 'suspected')
if ask.stopped then redis.call('HSET', state, 'stop', 1) end
if ask.last then
    redis.call('HSET', state, 'ended', 1)
    redis.call('ZREM', running, ask.id)
    redis.call('ZREM', own, ask.id)
elseif ask.most then
    redis.call('ZADD', own, now + ask.lease, ask.id)
    redis.call('PEXPIRE', own, ask.expires_in)
end
local index, expires_in = running, ask.expires_in
if ask.last then index, expires_in = ended, ask.retention end
redis.call('ZADD', index, now + expires_in, ask.id)
redis.call('HINCRBY', bytes, ask.id, added)
redis.call('HINCRBY', bytes, 'total', added)
redis.call('PEXPIRE', events, expires_in)
redis.call('PEXPIRE', state, expires_in)
if ask.named and redis.call('GET', name) == ask.id then redis.call('PEXPIRE', name, expires_in) end
for _, key in ipairs({running, ended, bytes}) do redis.call('PEXPIRE', key, ask.expires_in + ask.retention) end
return {'OK', have, stop or ask.stopped and '1' or '', read and now - read or -1}
"""
)

# Gives the events behind the first `from`, at most `most` of them, and `limit` bytes. Whoever looks ends what nobody
# writes any more: when the lease has run out, and `suspicion` later still has. Redis may have stood still, and then all
# leases have run out at once. With a `caller`, another's answer is as one that is not there: it is neither ended, nor
# noted as read.
LOOK = (
    CLOCK
    + """
local events, state, running, ended, bytes = unpack(KEYS)
local names = {'holder', 'lease', 'ended', 'suspected', 'stop', 'caller', 'fingerprint'}
local holder, lease, over, suspected, stop, caller, fingerprint = unpack(redis.call('HMGET', state, unpack(names)))
if not holder or (ask.caller and ask.caller ~= caller) then return {} end
local left, ends = tonumber(lease or 0) - now, 0
if not over and left < 0 then
    if not suspected then
        redis.pcall('HSET', state, 'suspected', now)  -- a Redis that is full can be read
    elseif now - suspected >= ask.suspicion then
        redis.call('RPUSH', events, ask.error, ask.done)
        redis.call('HSET', state, 'ended', 1, 'holder', '')
        holder, over, ends = '', '1', 1
        redis.call('PEXPIRE', events, ask.retention)
        redis.call('PEXPIRE', state, ask.retention)
        redis.call('ZREM', running, ask.id)
        redis.call('ZADD', ended, now + ask.retention, ask.id)
        redis.call('PEXPIRE', ended, ask.retention)
    end
end
if ask.stamp then redis.pcall('HSET', state, 'read', now) end

local length, place, size, found = redis.call('LLEN', events), ask.from, 0, {}
while place < length and size < ask.limit and #found < ask.most do
    for _, event in ipairs(redis.call('LRANGE', events, place, place + 63)) do
        if size >= ask.limit or #found >= ask.most then break end
        found[#found + 1] = event
        size = size + #event
        place = place + 1
    end
end
return {holder, left, over or '', stop or '', caller or '', fingerprint or '', length, found, ends}
"""
)

# Whether Redis takes what is written, and by a script.
CHECK = "return redis.call('SET', KEYS[1], 1, 'PX', 1000)"

STOP = """
local holder, over = unpack(redis.call('HMGET', KEYS[1], 'holder', 'ended'))
if holder and not over then redis.call('HSET', KEYS[1], 'stop', 1) end
"""
