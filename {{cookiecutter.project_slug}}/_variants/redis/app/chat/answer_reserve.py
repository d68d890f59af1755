"""How an answer gets its name, and space, in Redis: `answer_scripts.py` has all that follows."""

from app.chat.answer_scripts import CLOCK

# Gives false if the name, and the space, are the answer's now. Else nothing is written of it, and it gives the id that
# has the name; or FULL if there is no space; or CROWDED if `most` of the caller's answers run; or ADMIT if it may
# begin, but for what is still to be asked.
#
# The answers of a caller, `own`, are counted by their leases: one whose process has died is gone when its lease is. A
# lease that ends later than it could was given by a clock that was set back since. `over` are those of this process
# that have ended, which it may not have written yet.
RESERVE = (
    CLOCK
    + """
local state, name, running, ended, bytes, own = unpack(KEYS)
local has = ask.named and redis.call('GET', name)
if has == ask.id then return false end
if has and has ~= ask.instead_of then return has end
if redis.call('EXISTS', state) == 1 then return false end  -- this is repeated
if ask.full then return 'FULL' end
if ask.most then
    local count = redis.call('ZCOUNT', own, '(' .. now, now + 2 * ask.lease)
    for _, id in ipairs(ask.over) do
        if (tonumber(redis.call('ZSCORE', own, id) or 0)) > now then count = count - 1 end
    end
    if ask.crowded or count >= ask.most then return 'CROWDED' end
end

local function forget(id)
    redis.call('DEL', ask.prefix .. id .. ':events', ask.prefix .. id .. ':state')
    redis.call('ZREM', running, id)
    redis.call('ZREM', ended, id)
    -- Not a minus alone: of one that was never begun, Redis 7.0 would be given a -0, which is no integer to it.
    redis.call('HINCRBY', bytes, 'total', 0 - (redis.call('HGET', bytes, id) or 0))
    redis.call('HDEL', bytes, id)
end
for _, index in ipairs({running, ended}) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 100)) do forget(id) end
end
while tonumber(redis.call('HGET', bytes, 'total') or 0) > ask.budget do
    local oldest = redis.call('ZRANGE', ended, 0, 0)[1]
    if not oldest then return 'FULL' end
    forget(oldest)
end

if ask.to_admit then return 'ADMIT' end
-- Whoever has reserved the name, and not begun, may be late: its answer must not be made as well.
local before = has and ask.prefix .. has
if before and redis.call('EXISTS', before .. ':state') == 1 and redis.call('EXISTS', before .. ':events') == 0 then
    redis.call('HSET', before .. ':state', 'holder', '')
end

redis.call('HSET', state, 'holder', ask.holder, 'lease', now + ask.lease, 'caller', ask.caller,
           'fingerprint', ask.fingerprint)
redis.call('PEXPIRE', state, ask.expires_in)
if ask.named then redis.call('SET', name, ask.id, 'PX', ask.expires_in) end
redis.call('ZADD', running, now + ask.expires_in, ask.id)
if ask.most then
    redis.call('ZREMRANGEBYSCORE', own, '-inf', now)
    redis.call('ZADD', own, now + ask.lease, ask.id)
    redis.call('PEXPIRE', own, ask.expires_in)
end
for _, key in ipairs({running, ended, bytes}) do redis.call('PEXPIRE', key, ask.expires_in + ask.retention) end
return false
"""
)
