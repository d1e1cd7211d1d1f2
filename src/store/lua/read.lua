-- A page of a feed after a cursor, with the head and the newest values, in one step.
--
-- KEYS   1 meta, 2 newest (hash), then one or two streams
-- ARGV   epoch of the cursor ('' for any), after, events at most, bytes at most, then of each stream e|l
-- Returns { epoch, seq, reset 0|1, newest, then of each stream: { last seq, entries } }, or {} if there is no feed

local meta = redis.call('HMGET', KEYS[1], 'e', 'n', 'se', 'sl', 'c')
if not meta[1] then return {} end
local after, head = tonumber(ARGV[2]), tonumber(meta[2])
if (ARGV[1] ~= '' and ARGV[1] ~= meta[1]) or after > head then return { meta[1], meta[2], 1, {} } end

local newest = {}
if tonumber(meta[5]) > after then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    local value = cmsgpack.unpack(all[i + 1])
    local seq = math.min(value.seq, head) -- above the head: set by a script that broke
    if seq > after then
      local row = { all[i], string.format('%.0f', seq), tostring(value.attempt), value.type, value.head,
        value.job_epoch or '', string.format('%.0f', value.job_seq or 0) }
      for field, json in pairs(value.fields) do
        row[#row + 1] = field
        row[#row + 1] = json
      end
      newest[#newest + 1] = row
    end
  end
end

local reply = { meta[1], meta[2], 0, newest }
local limit, max_bytes = tonumber(ARGV[3]), math.max(1, tonumber(ARGV[4]))
for s = 3, #KEYS do
  local last = ARGV[2 + s] == 'l' and meta[4] or meta[3]
  local entries, bytes, from = {}, 0, '(' .. ARGV[2] .. '-0'
  while #entries < limit and bytes < max_bytes do
    -- Up to the meta's last: what lies above was never committed.
    local chunk = redis.call('XRANGE', KEYS[s], from, last .. '-0', 'COUNT', math.min(32, limit - #entries))
    if #chunk == 0 then break end
    for _, entry in ipairs(chunk) do
      entries[#entries + 1] = entry
      bytes = bytes + #entry[2][6] + #entry[2][8] + 64
    end
    from = '(' .. chunk[#chunk][1]
  end
  reply[#reply + 1] = { last, entries }
end
return reply
