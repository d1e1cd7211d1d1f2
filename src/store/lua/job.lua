-- The state of one job.
--
-- KEYS   1 meta, 2 newest (hash)
-- ARGV   1 for a list: without the newest durable events
-- Returns { meta pairs, newest pairs as in read.lua }, or {} if there is no job

if redis.call('HEXISTS', KEYS[1], 'e') == 0 then return {} end
local meta = redis.call('HGETALL', KEYS[1])
if ARGV[1] == '1' then
  local brief = {}
  for i = 1, #meta, 2 do
    if string.sub(meta[i], 1, 7) ~= 'latest:' then
      brief[#brief + 1] = meta[i]
      brief[#brief + 1] = meta[i + 1]
    end
  end
  meta = brief
end
return { meta, redis.call('HGETALL', KEYS[2]) }
