"""How the records of jobs change in Redis: each change is one script, so that it happens as a whole."""

# A script, not WATCH and MULTI: when Redis stalls between those two, a connection is left to be tidied up, and redis-py
# waits for that without a limit.
#
# The record is written last. Redis takes nothing back of a script that it refuses halfway: with its record, a job would
# be accepted that is never due.
#
# `change` is a JSON object, in which a field that is not needed is absent: a null would count as true in Lua. Times are
# strings, for Lua would write a number with 14 digits.
#
# `was` and `is` are the indexes of all jobs of the status that it had, and has now; `of_was` and `of_is` the caller's.
#
# "A version without this index" is this service as it was before `cruft update` brought the index. During a deploy both
# versions change the same records.
COMPARE_AND_SET = """
local record, payload, result, events, due, waits, was, is, of_was, of_is = unpack(KEYS)
local change = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
if (redis.call('GET', record) or nil) ~= change.before then return {false} end
if change.event then redis.call('PUBLISH', change.channel, change.id) end
if change.payload then redis.call('SET', payload, change.payload) end
if change.result then redis.call('SET', result, change.result) end
if change.due then redis.call('ZADD', due, change.due, change.id) else redis.call('ZREM', due, change.id) end
if change.waits then redis.call('ZADD', waits, change.waits, change.id) else redis.call('ZREM', waits, change.id) end
if was ~= is or not change.before then
    redis.call('ZREM', was, change.id)
    redis.call('ZADD', is, now, change.id)
    redis.call('ZREM', of_was, change.id)
    redis.call('ZADD', of_is, now, change.id)
elseif not redis.call('ZSCORE', of_is, change.id) then  -- a version without this index has accepted it
    redis.call('ZADD', of_is, redis.call('ZSCORE', is, change.id) or now, change.id)
end
if change.event then
    -- What is no list was not written by this service.
    if redis.call('TYPE', events).ok ~= 'list' then redis.call('DEL', events) end
    redis.call('RPUSH', events, change.event)
end
for _, key in ipairs({payload, result, events}) do
    if change.expires_in then redis.call('EXPIRE', key, change.expires_in) else redis.call('PERSIST', key) end
end
if change.expires_in then
    for _, index in ipairs({is, of_is}) do
        -- Those whose time is over, but not all of 100,000 at once, for which everybody would wait.
        local over = math.min(redis.call('ZCOUNT', index, '-inf', now - change.expires_in), 1000)
        if over > 0 then redis.call('ZREMRANGEBYRANK', index, 0, over - 1) end
        redis.call('EXPIRE', index, change.expires_in)
    end
    redis.call('SET', record, change.after, 'EX', change.expires_in)
else
    -- A version without this index may end a job that stands in it. So it is kept for 30 days behind the time at which
    -- its last job is due, and not for ever. A job is written when it is due. With a day more, few writes need EXPIRE.
    local needed = math.min(math.max(0, math.ceil((change.due or now) - now)), 1e10) + 30 * 86400
    if redis.call('TTL', of_is) < needed then redis.call('EXPIRE', of_is, needed + 86400) end
    redis.call('SET', record, change.after)
end
return {1, change.gives_payload and redis.call('TYPE', payload).ok == 'string' and redis.call('GET', payload)}
"""

# Not a plain ZREM: the job may have been accepted since somebody has looked for its record.
FORGET = """
if redis.call('EXISTS', KEYS[1]) == 1 then return end
for each = 2, #KEYS do redis.call('ZREM', KEYS[each], ARGV[1]) end
"""

# For an id that the set has at another time than its record: it would be found again and again.
ALIGN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
if ARGV[3] then redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2]) else redis.call('ZREM', KEYS[2], ARGV[2]) end
"""

# Whether Redis takes what a change writes. The empty id is that of no job.
CHECK = "redis.call('SET', KEYS[1], 1, 'PX', 1000) redis.call('PUBLISH', ARGV[1], '')"

# How many jobs are queued, running and retrying, and since when the one has waited that ought to have begun first. A
# version without the index `waits` may have begun or ended a job that stands in it: such a one is taken out.
BACKLOG = """
local queued, running, retrying, waits = unpack(KEYS)
local counts = {redis.call('ZCARD', queued), redis.call('ZCARD', running), redis.call('ZCARD', retrying)}
for _ = 1, 1000 do
    local id, since = unpack(redis.call('ZRANGE', waits, 0, 0, 'WITHSCORES'))
    if not id then break end
    if redis.call('ZSCORE', queued, id) or redis.call('ZSCORE', retrying, id) then
        counts[4] = since
        break
    end
    redis.call('ZREM', waits, id)
end
return counts
"""
