-- Takes points that are folded off the head of the raw list, if it begins as it did when they were read.
--
-- KEYS   1 meta, 2 raw points (list)
-- ARGV   epoch, seq of the first point, how many
-- Returns how many are left

if redis.call('HGET', KEYS[1], 'e') ~= ARGV[1] then return 0 end
local first = redis.call('LINDEX', KEYS[2], 0)
if not first or string.match(first, '^%d+') ~= ARGV[2] then return 0 end
redis.call('LTRIM', KEYS[2], ARGV[3], -1)
return redis.call('LLEN', KEYS[2])
