-- Takes an instance's trainer from a job.
--
-- KEYS   1 trainers (hash; see registry-announce.lua)
-- ARGV   id, instance
-- Returns 1 if it was there

local trainer = redis.call('HGET', KEYS[1], ARGV[1])
if not trainer or string.match(trainer, '%S+$') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
-- Only the order is left, and nobody to compare it with.
if redis.call('HLEN', KEYS[1]) == 1 then redis.call('DEL', KEYS[1]) end
return 1
