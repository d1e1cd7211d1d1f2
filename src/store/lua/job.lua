-- The state of one job.
--
-- KEYS   1 meta, 2 newest (hash)
-- Returns { meta pairs, newest pairs as in read.lua }, or {} if there is no job

if redis.call('HEXISTS', KEYS[1], 'e') == 0 then return {} end
return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
