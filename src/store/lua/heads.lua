-- The heads of feeds.
--
-- KEYS   metas
-- Returns of each: epoch and seq, or '' and ''

local reply = {}
for _, key in ipairs(KEYS) do
  local meta = redis.call('HMGET', key, 'e', 'n')
  reply[#reply + 1] = meta[1] or ''
  reply[#reply + 1] = meta[2] or ''
end
return reply
