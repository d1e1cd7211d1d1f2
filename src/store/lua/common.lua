-- Put before every script of the store that writes. Numbers of payloads never pass through here: they are text
-- inside `head` and `data`. Positions are whole numbers below 2^53, which Lua's doubles hold exactly.

local function int(n)
  return string.format('%.0f', n)
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function job_wire(epoch, seq, head, data)
  return '{"feed":"job","epoch":"' .. epoch .. '","seq":' .. int(seq) .. ',' .. head .. ',"data":' .. data .. '}'
end

local function tenant_wire(epoch, seq, job_epoch, job_seq, head, data)
  local position = ''
  if job_epoch ~= '' then
    position = '"job_position":{"epoch":"' .. job_epoch .. '","seq":' .. int(job_seq) .. '},'
  end
  return '{"feed":"tenant","epoch":"' .. epoch .. '","seq":' .. int(seq) .. ',' .. position .. head .. ',"data":' .. data .. '}'
end

-- Merged fields → JSON object. Names are JSON already; m"name" is one of `metrics`.
local function join_fields(fields)
  local names, plain, metrics = {}, {}, {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    if string.sub(name, 1, 1) == 'm' then
      metrics[#metrics + 1] = string.sub(name, 2) .. ':' .. fields[name]
    else
      plain[#plain + 1] = name .. ':' .. fields[name]
    end
  end
  if #metrics > 0 then plain[#plain + 1] = '"metrics":{' .. table.concat(metrics, ',') .. '}' end
  return '{' .. table.concat(plain, ',') .. '}'
end

-- Bus messages: pairs of lines, a header and an event. See bus/redis.ts.
local function new_outbox(channel)
  return { channel = channel, lines = {}, bytes = 0 }
end

local function post(outbox)
  if #outbox.lines > 0 then redis.call('SPUBLISH', outbox.channel, table.concat(outbox.lines, '\n')) end
  outbox.lines, outbox.bytes = {}, 0
end

local function put(outbox, epoch, seq, class, type, job, key, wire)
  local lines = outbox.lines
  lines[#lines + 1] = '1 ' .. epoch .. ' ' .. int(seq) .. ' ' .. class .. ' ' .. type .. ' ' .. job .. ' ' .. key
  lines[#lines + 1] = wire
  outbox.bytes = outbox.bytes + #wire
  if outbox.bytes > 262144 then post(outbox) end
end

-- Meta of a feed. Fields: e epoch, g server generation, n seq, se and sl last seq of each stream,
-- be and bl their bytes, c last conflatable seq, x expiry (ms), l life (ms).
-- A feed of another generation may have lost acknowledged events: it goes on under a new epoch.
local function open_meta(key, generation, epoch, life)
  local m = redis.call('HMGET', key, 'e', 'g', 'n', 'se', 'sl', 'be', 'bl', 'c', 'x', 'l')
  local meta = {
    key = key, is_new = not m[1], epoch = m[1] or epoch, generation = generation,
    seq = tonumber(m[3] or 0), conflatable = tonumber(m[8] or 0),
    last = { e = tonumber(m[4] or 0), l = tonumber(m[5] or 0) },
    bytes = { e = tonumber(m[6] or 0), l = tonumber(m[7] or 0) },
    expires = tonumber(m[9] or 0), life = tonumber(m[10] or life), stored_epoch = m[1] or '',
    changes = {},
  }
  if m[1] and m[2] ~= generation then meta.epoch = epoch end
  return meta
end

-- The commit: nothing before it counts, see `roll_back`.
local function save_meta(meta)
  redis.call('HSET', meta.key, 'e', meta.epoch, 'g', meta.generation, 'n', int(meta.seq),
    'se', int(meta.last.e), 'sl', int(meta.last.l), 'be', int(meta.bytes.e), 'bl', int(meta.bytes.l),
    'c', int(meta.conflatable), 'x', int(meta.expires), 'l', int(meta.life), unpack(meta.changes))
end

-- Entries above the meta's last come from a script that broke before its commit.
local function roll_back(stream, last)
  local found = false
  while true do
    local orphans = redis.call('XRANGE', stream, '(' .. int(last) .. '-0', '+', 'COUNT', 100)
    if #orphans == 0 then break end
    found = true
    for _, orphan in ipairs(orphans) do redis.call('XDEL', stream, orphan[1]) end
  end
  -- XSETID refuses 0-0 while entries remain, and there are none then.
  if found then
    if last == 0 then redis.call('UNLINK', stream) else redis.call('XSETID', stream, int(last) .. '-0') end
  end
end

-- Removes the oldest entries beyond the caps. Entry fields: t type, p prev, h head, d data, so 6 and 8 are the texts.
local function trim(stream, meta, name, max_count, max_bytes)
  local length = redis.call('XLEN', stream)
  while length > max_count or (meta.bytes[name] > max_bytes and length > 1) do
    local batch = math.max(1, math.min(100, length - max_count))
    for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', batch)) do
      local f = entry[2]
      meta.bytes[name] = meta.bytes[name] - #f[6] - #f[8] - 64
      redis.call('XDEL', stream, entry[1])
    end
    length = redis.call('XLEN', stream)
  end
end

-- Renews the expiry of a feed's keys when half its life is over (or its life has changed), meta last; keys that were
-- written for the first time in between get the feed's own.
local function renew(meta, keys, written, now, changed)
  if changed or meta.is_new or now > meta.expires - meta.life / 2 then
    meta.expires = now + meta.life
    redis.call('HSET', meta.key, 'x', int(meta.expires))
    for _, key in ipairs(keys) do redis.call('PEXPIREAT', key, int(meta.expires)) end
    redis.call('PEXPIREAT', meta.key, int(meta.expires))
    return true
  end
  for key in pairs(written) do redis.call('PEXPIREAT', key, int(meta.expires), 'NX') end
  return false
end

-- An event on the tenant feed's log.
-- tenant: { meta, stream, outbox }
local function add_to_tenant(tenant, type, job, job_epoch, job_seq, head, data)
  local meta = tenant.meta
  local seq, prev = meta.seq + 1, meta.last.e
  redis.call('XADD', tenant.stream, int(seq) .. '-0', 't', type, 'p', int(prev), 'h', head, 'd', data,
    'j', job, 'e', job_epoch, 'q', int(job_seq))
  put(tenant.outbox, meta.epoch, seq, 'd', type, job == '' and '-' or job, '',
    tenant_wire(meta.epoch, seq, job_epoch, job_seq, head, data))
  meta.seq, meta.last.e = seq, seq
  meta.bytes.e = meta.bytes.e + #head + #data + 64
end

-- The newest progress of a job on the tenant feed. `values`: unpacked newest values of the job's own progress.
-- tenant: { meta, newest, order, outbox }
local function add_progress(tenant, job, job_epoch, values, max_newest)
  local value
  for _, candidate in ipairs(values) do
    if candidate and (not value or candidate.seq > value.seq) then value = candidate end
  end
  if not value then return end
  local meta = tenant.meta
  local seq, data = meta.seq + 1, join_fields(value.fields)
  redis.call('HSET', tenant.newest, job, cmsgpack.pack({
    seq = seq, attempt = value.attempt, type = value.type, head = value.head, fields = value.fields,
    job_epoch = job_epoch, job_seq = value.seq }))
  redis.call('ZADD', tenant.order, int(seq), job)
  local over = redis.call('ZCARD', tenant.order) - max_newest
  if over > 0 then
    for _, old in ipairs(redis.call('ZRANGE', tenant.order, 0, over - 1)) do
      redis.call('HDEL', tenant.newest, old)
      redis.call('ZREM', tenant.order, old)
    end
  end
  put(tenant.outbox, meta.epoch, seq, 'c', value.type, job, job,
    tenant_wire(meta.epoch, seq, job_epoch, value.seq, value.head, data))
  meta.seq, meta.conflatable = seq, seq
end
