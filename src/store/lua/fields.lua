-- Fields of jobs, and when their trainers were last heard of.
--
-- KEYS   job metas
-- ARGV   names of fields
-- Returns of each job { ms since the last sign of life or '', ms from now until which none is missed or '', time of the
--        last sign (ms since 1970) or '', then JSON text of each field or '' }, or {} if there is none

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local names, reply = {}, {}
for i, name in ipairs(ARGV) do names[i] = 'field:' .. name end
for k, key in ipairs(KEYS) do
  local values = redis.call('HMGET', key, 'e', 'field:seen', 'expect', unpack(names))
  local seen, expect = tonumber(values[2] or ''), tonumber(values[3] or '')
  local job = {}
  if values[1] then
    job = { seen and string.format('%d', now - seen) or '', expect and string.format('%d', expect - now) or '',
      values[2] or '' }
    for i = 1, #names do job[3 + i] = values[3 + i] or '' end
  end
  reply[k] = job
end
return reply
