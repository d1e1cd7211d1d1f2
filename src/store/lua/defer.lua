-- Moves a deadline. It goes away with the job's field of its name, not before.
--
-- KEYS   1 the tenant's deadlines (zset), 2 job meta
-- ARGV   member (`<job>/<field>`), name of the field, ms from now or '' to take it away, least life of the deadlines (ms)

if ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[1], 'XX', now_ms() + tonumber(ARGV[3]), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[3]), tonumber(ARGV[4])))
elseif (redis.call('HGET', KEYS[2], 'field:' .. ARGV[2]) or '') == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
