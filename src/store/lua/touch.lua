-- Signs of life of jobs' trainers that are not events.
--
-- KEYS   1 the tenant's deadlines (zset), then job metas
-- ARGV   least life of the deadlines (ms), then of each job: id, JSON of the time of its last step or '', ms until which
--        none is missed or '', 1 if its trainer has just come
-- Returns of each job its liveness (JSON text) or ''

local now, reply = now_ms(), {}
local ENDED = { ['"completed"'] = true, ['"failed"'] = true, ['"cancelled"'] = true }
for k = 2, #KEYS do
  local i = 2 + (k - 2) * 4
  local meta = redis.call('HMGET', KEYS[k], 'e', 'field:status', 'field:liveness')
  local liveness = meta[3] or ''
  if meta[1] then
    local change = { 'field:seen', now }
    if ARGV[i + 1] ~= '' then
      change[#change + 1] = 'field:last_step_at'
      change[#change + 1] = ARGV[i + 1]
    end
    if ARGV[i + 2] ~= '' then
      change[#change + 1] = 'expect'
      change[#change + 1] = now + tonumber(ARGV[i + 2])
      -- The deadline may lie where an earlier expectation has put it.
      redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i] .. '/liveness')
    end
    if liveness == '' and ARGV[i + 3] == '1' and not ENDED[meta[2]] then
      liveness = '"live"'
      change[#change + 1] = 'field:liveness'
      change[#change + 1] = liveness
      redis.call('ZADD', KEYS[1], now, ARGV[i] .. '/liveness')
      redis.call('PEXPIRE', KEYS[1], ARGV[1])
    end
    redis.call('HSET', KEYS[k], unpack(change))
  end
  reply[#reply + 1] = liveness
end
return reply
