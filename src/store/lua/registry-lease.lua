-- Gives a common work to one instance for a while.
--
-- KEYS   1 lease
-- ARGV   instance, ms
-- Returns 1 if it is this instance's

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
