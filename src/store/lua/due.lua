-- Deadlines that are over, soonest first.
--
-- KEYS   1 the tenant's deadlines (zset)
-- ARGV   how many
-- Returns { member, … }

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
