-- Sets what an instance has of a job's watchers, and counts the change.
--
-- KEYS   1 watchers (hash): instance → share; `:i` incarnation, `:n` changes, `:told` of them, `:turn` when the last turn began
-- ARGV   instance, share ('' for none), life (ms)
-- Returns 1 if something has changed

local before = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if before ~= ARGV[2] then
  if redis.call('HEXISTS', KEYS[1], ':n') == 0 then
    local t = redis.call('TIME')
    redis.call('HSET', KEYS[1], ':i', string.format('%d', tonumber(t[1]) * 1000000 + tonumber(t[2])))
  end
  redis.call('HINCRBY', KEYS[1], ':n', 1)
  if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return before ~= ARGV[2] and 1 or 0
