-- Takes a job out of the index if it is gone.
--
-- KEYS   1 index (zset), 2 job meta
-- ARGV   job id
-- Returns 1 if it was taken out

if redis.call('HEXISTS', KEYS[2], 'e') == 0 then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
