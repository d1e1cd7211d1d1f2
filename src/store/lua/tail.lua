-- Positions and types of a stream, newest first.
--
-- KEYS   1 stream
-- ARGV   below this seq, how many
-- Returns { seq, type, … }

local reply = {}
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', '-', 'COUNT', ARGV[2])) do
  reply[#reply + 1] = string.match(entry[1], '^%d+')
  reply[#reply + 1] = entry[2][2]
end
return reply
