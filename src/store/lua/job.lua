-- The state of one job.
--
-- KEYS   1 meta, 2 newest (hash)
-- Returns { meta pairs, newest rows as in read.lua }, or {} if there is no job

local head = tonumber(redis.call('HGET', KEYS[1], 'n') or nil)
if not head then return {} end
local newest, all = {}, redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local value = cmsgpack.unpack(all[i + 1])
  -- Above the head: set by a script that broke.
  local row = { all[i], string.format('%.0f', math.min(value.seq, head)), tostring(value.attempt), value.type, value.head, '', '0' }
  for field, json in pairs(value.fields) do
    row[#row + 1] = field
    row[#row + 1] = json
  end
  newest[#newest + 1] = row
end
return { redis.call('HGETALL', KEYS[1]), newest }
