-- The state of one job.
--
-- KEYS   1 meta, 2 state (hash), 3 newest (hash)
-- Returns { meta pairs, state pairs, newest rows as in read.lua }, or {} if there is no job

local meta = redis.call('HGETALL', KEYS[1])
if #meta == 0 then return {} end
local newest, all = {}, redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  local value = cmsgpack.unpack(all[i + 1])
  local row = { all[i], string.format('%.0f', value.seq), tostring(value.attempt), value.type, value.head, '', '0' }
  for field, json in pairs(value.fields) do
    row[#row + 1] = field
    row[#row + 1] = json
  end
  newest[#newest + 1] = row
end
return { meta, redis.call('HGETALL', KEYS[2]), newest }
