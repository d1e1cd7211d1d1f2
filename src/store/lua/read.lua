-- A page of a feed after a cursor, with the head and the newest values, in one step.
--
-- KEYS   1 meta, 2 newest (hash), 3 on the tenant's feed its order (zset), then one or two streams
-- ARGV   epoch of the cursor ('' for any), after, events at most, bytes at most, 1 on the tenant's feed, seq above which
--        newest values are wanted, then of each stream e|l
-- Returns { epoch, seq, reset 0|1, newest pairs, then of each stream: { last seq, entries } }, or {} if there is no
--        feed. Newest are key and text (see pack_newest in common.lua), some of which may not be above that seq.

local meta = redis.call('HMGET', KEYS[1], 'e', 'n', 'se', 'sl', 'c')
if not meta[1] then return {} end
local after, head = tonumber(ARGV[2]), tonumber(meta[2])
if (ARGV[1] ~= '' and ARGV[1] ~= meta[1]) or after > head then return { meta[1], meta[2], 1, {} } end

local limit, max_bytes, whole, streams = tonumber(ARGV[3]), math.max(1, tonumber(ARGV[4])), true, {}
local first_stream = ARGV[5] == '1' and 4 or 3
for s = first_stream, #KEYS do
  local last = ARGV[7 + s - first_stream] == 'l' and meta[4] or meta[3]
  -- Few at first: of large events, most of a chunk would be read for nothing.
  local entries, bytes, from, count = {}, 0, '(' .. ARGV[2] .. '-0', 4
  while #entries < limit and bytes < max_bytes do
    -- Up to the meta's last: what lies above was never committed.
    local chunk = redis.call('XRANGE', KEYS[s], from, last .. '-0', 'COUNT', math.min(count, limit - #entries))
    if #chunk == 0 then break end
    for _, entry in ipairs(chunk) do
      entries[#entries + 1] = entry
      bytes = bytes + #entry[2][6] + #entry[2][8] + 64
    end
    from = '(' .. chunk[#chunk][1]
    count = math.min(count * 2, 64)
  end
  whole = whole and (#entries == 0 or entries[#entries][1] == last .. '-0')
  streams[#streams + 1] = { last, entries }
end

-- What lies before the cursor comes with the last page.
local newest, newest_after = {}, whole and tonumber(ARGV[6]) or after
if ARGV[5] == '1' then
  local keys = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. newest_after, '+inf')
  if #keys > 0 then
    local texts = redis.call('HMGET', KEYS[2], unpack(keys))
    for i, key in ipairs(keys) do
      if texts[i] then
        newest[#newest + 1] = key
        newest[#newest + 1] = texts[i]
      end
    end
  end
elseif tonumber(meta[5]) > newest_after then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    if tonumber(string.match(all[i + 1], '^%d+')) > newest_after then
      newest[#newest + 1] = all[i]
      newest[#newest + 1] = all[i + 1]
    end
  end
end

return { meta[1], meta[2], 0, newest, unpack(streams) }
