-- Marks an instance as one that is to be forgotten: should it still live, its next beat tells it so.
--
-- KEYS   1 instances
-- ARGV   instance, the time-out (ms) that it must have been silent for; -1 whether it has or not
-- Returns { 1 if it was marked, number of the others that are not }

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local timeout = tonumber(ARGV[2])
local marked = score and (timeout < 0 or tonumber(score) < now - timeout)
if marked then redis.call('ZADD', KEYS[1], 0, ARGV[1]) end
return { marked and 1 or 0, redis.call('ZCOUNT', KEYS[1], 1, '+inf') }
