-- An instance says that it is there.
--
-- KEYS   1 instances (zset by when they were heard of, ms; 0: is to be forgotten)
-- ARGV   instance, time-out (ms), life of the key (ms), 1 to enter a new instance, the one that it has been before ('')
-- Returns { 1 if it was known or has been entered, instances that are silent… }

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local known = ARGV[4] == '1' or (score and tonumber(score) > 0)
if known then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  if ARGV[5] ~= '' then redis.call('ZADD', KEYS[1], 0, ARGV[5]) end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local silent = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%d', now - tonumber(ARGV[2])))
table.insert(silent, 1, known and 1 or 0)
return silent
