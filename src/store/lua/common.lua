-- Put before the scripts that append, flush, touch and defer. Numbers of payloads never pass through here: they are text
-- inside `head` and `data`. Positions are whole numbers below 2^53, which Lua's doubles hold exactly; Redis takes them
-- as they are, but where they become part of a text it must be `int` that writes them.
--
-- A script that breaks leaves what it has written so far, and Redis takes nothing back. So append and flush begin with a
-- mark in the feed's meta (`w`, the seq up to which it will write), and one HSET of the same meta is the commit. A
-- mark above the head tells the next script that the one before has not come to its end: see `repair`.

local function int(n)
  return string.format('%d', n)
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- An event on the bus: a line of header (see bus/redis.ts) and a line of JSON, the same as wire.ts makes. One
-- expression each, because Redis' Lua hashes every string it makes, byte by byte.
local function job_lines(epoch, at, class, type, job, key, head, data)
  return '1 ' .. epoch .. ' ' .. at .. ' ' .. class .. ' ' .. type .. ' ' .. job .. ' ' .. key
    .. '\n{"feed":"job","epoch":"' .. epoch .. '","seq":' .. at .. ',' .. head .. ',"data":' .. data .. '}'
end

local function tenant_lines(epoch, seq, class, type, job, key, job_epoch, job_seq, head, data)
  local at, position = int(seq), ''
  if job_epoch ~= '' then
    position = '"job_position":{"epoch":"' .. job_epoch .. '","seq":' .. int(job_seq) .. '},'
  end
  return '1 ' .. epoch .. ' ' .. at .. ' ' .. class .. ' ' .. type .. ' ' .. job .. ' ' .. key
    .. '\n{"feed":"tenant","epoch":"' .. epoch .. '","seq":' .. at .. ',' .. position .. head .. ',"data":' .. data .. '}'
end

-- By bytes, as wire.ts; `<` would follow the server's locale.
local function by_bytes(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Merged fields → JSON object. Names are JSON already; m"name" is one of `metrics`.
local function join_fields(fields)
  local names, plain, metrics = {}, {}, {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names, by_bytes)
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

-- Bus messages are pairs of lines. They are kept until everything is committed.
local function new_outbox(channel)
  return { channel = channel, messages = {}, lines = {}, bytes = 0 }
end

local function close_message(outbox)
  local lines = outbox.lines
  if #lines == 0 then return end
  outbox.messages[#outbox.messages + 1] = lines[2] and table.concat(lines, '\n') or lines[1]
  outbox.lines, outbox.bytes = {}, 0
end

local function put(outbox, lines)
  outbox.lines[#outbox.lines + 1] = lines
  outbox.bytes = outbox.bytes + #lines
  if outbox.bytes > 262144 then close_message(outbox) end
end

local function post(outbox)
  close_message(outbox)
  for _, message in ipairs(outbox.messages) do redis.call('SPUBLISH', outbox.channel, message) end
end

-- Meta of a feed. Fields: e epoch, g server generation, n seq, se and sl last seq of each stream, be and bl their
-- bytes, c last conflatable seq, x expiry (ms), l life (ms); w seq up to which a script has begun to write, and v and t,
-- the job's epoch and the tenant's seq of the last one that wrote to both. A job's also has `created`, `updated`, `expect` (until when none is missed), `f` (when its progress was shown to the tenant), counters
-- (`type:…`, `products:…`), and its state (`field:…`, `latest:…`).
-- A feed of another generation may have lost acknowledged events: it goes on under a new epoch.
local function open_meta(key, generation, epoch, life, more)
  local m = redis.call('HMGET', key, 'e', 'g', 'n', 'se', 'sl', 'be', 'bl', 'c', 'x', 'l', 'w', unpack(more))
  local meta = {
    key = key, is_new = not m[1], epoch = m[1] or epoch, generation = generation, stored_epoch = m[1] or '',
    seq = tonumber(m[3] or 0), conflatable = tonumber(m[8] or 0),
    last = { e = tonumber(m[4] or 0), l = tonumber(m[5] or 0) },
    bytes = { e = tonumber(m[6] or 0), l = tonumber(m[7] or 0) },
    expires = tonumber(m[9] or 0), life = tonumber(m[10] or life),
    begun = tonumber(m[11] or 0), more = { unpack(m, 12, 11 + #more) }, changes = {},
  }
  if m[1] and m[2] ~= generation then meta.epoch = epoch end
  return meta
end

local function is_broken(meta)
  return meta.begun > meta.seq
end

-- The mark. A meta that holds nothing else must not stay for ever.
local function begin(meta, up_to, now, ...)
  redis.call('HSET', meta.key, 'w', up_to, ...)
  if meta.is_new then redis.call('PEXPIREAT', meta.key, now + meta.life) end
end

-- The commit: nothing before it counts.
local function save_meta(meta)
  local last, bytes, changes = meta.last, meta.bytes, meta.changes
  if meta.is_new or meta.epoch ~= meta.stored_epoch then
    redis.call('HSET', meta.key, 'n', meta.seq, 'w', meta.seq, 'c', meta.conflatable, 'x', meta.expires, 'l', meta.life,
      'se', last.e, 'be', bytes.e, 'sl', last.l, 'bl', bytes.l, 'e', meta.epoch, 'g', meta.generation, unpack(changes))
  else
    redis.call('HSET', meta.key, 'n', meta.seq, 'w', meta.seq, 'c', meta.conflatable, 'x', meta.expires, 'l', meta.life,
      'se', last.e, 'be', bytes.e, 'sl', last.l, 'bl', bytes.l, unpack(changes))
  end
end

-- Fields of a logged entry: t type, p prev, h head, d data, and on the tenant's feed j job, e its epoch, q its seq. As
-- a list, names and values take turns.
local PREV, HEAD, DATA, JOB, JOB_EPOCH, JOB_SEQ = 4, 6, 8, 10, 12, 14

local function entry_bytes(fields)
  return #fields[HEAD] + #fields[DATA] + 64
end

-- Deletes what was logged but not committed.
local function drop_above(stream, last)
  while true do
    local orphans = redis.call('XRANGE', stream, '(' .. int(last) .. '-0', '+', 'COUNT', 100)
    if #orphans == 0 then return end
    for _, orphan in ipairs(orphans) do redis.call('XDEL', stream, orphan[1]) end
  end
end

local function bytes_of(stream)
  local bytes, from = 0, '-'
  while true do
    local chunk = redis.call('XRANGE', stream, from, '+', 'COUNT', 100)
    if #chunk == 0 then return bytes end
    for _, entry in ipairs(chunk) do bytes = bytes + entry_bytes(entry[2]) end
    from = '(' .. chunk[#chunk][1]
  end
end

-- Takes back what a script has written that broke before its commit. Its numbers are not used again, and so the newest
-- values that it has set may stay: a conflatable event that was not acknowledged is there zero or one times.
-- keys: { e, l (streams), ids, producers, members, points }; a tenant's feed has no l, members, points
local function repair(meta, keys)
  local head = meta.seq
  for name, stream in pairs({ e = keys.e, l = keys.l }) do
    drop_above(stream, meta.last[name])
    meta.bytes[name] = bytes_of(stream)
  end
  redis.call('ZREMRANGEBYSCORE', keys.ids, '(' .. int(head), '+inf')
  local producers = redis.call('HGETALL', keys.producers)
  for i = 1, #producers, 2 do
    local seq, before = string.match(producers[i + 1], '^%d+ %d+ (%d+) ?(.*)$')
    if tonumber(seq) > head then
      if before == '' then redis.call('HDEL', keys.producers, producers[i])
      else redis.call('HSET', keys.producers, producers[i], before) end
    end
  end
  if keys.members then
    local members = redis.call('HGETALL', keys.members)
    for i = 1, #members, 2 do
      local seq, before = string.match(members[i + 1], '^(%d+) %a ?(.*)$')
      if tonumber(seq) > head then
        if before == '' then redis.call('HDEL', keys.members, members[i])
        else redis.call('HSET', keys.members, members[i], before) end
      end
    end
  end
  while keys.points do
    local point = redis.call('LINDEX', keys.points, -1)
    if not point or tonumber(string.match(point, '^%d+')) <= head then break end
    redis.call('RPOP', keys.points)
  end
  meta.seq, meta.conflatable, meta.is_repaired = meta.begun, meta.begun, true
  -- Keys that the script has made may have no expiry yet: the next one that stores anything renews all of them.
  meta.expires = 0
  redis.call('HSET', meta.key, 'n', meta.seq, 'c', meta.conflatable, 'be', meta.bytes.e, 'bl', meta.bytes.l, 'x', 0)
end

-- KEYS 1 to 9 of every script that writes to the tenant's feed.
local function open_tenant(generation, epoch, life)
  local meta = open_meta(KEYS[1], generation, epoch, life, {})
  if not meta.is_new and is_broken(meta) then repair(meta, { e = KEYS[2], ids = KEYS[8], producers = KEYS[9] }) end
  return { meta = meta, stream = KEYS[2], newest = KEYS[4], order = KEYS[5], outbox = new_outbox(KEYS[3]) }
end

-- Keys that expire with the tenant's meta.
local function tenant_keys()
  return { KEYS[2], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9] }
end

-- What lies under the names of a feed whose meta is gone. Jobs and their unshown progress are not the feed's.
local function begin_tenant(tenant, up_to, now)
  begin(tenant.meta, up_to, now)
  if tenant.meta.is_new then redis.call('UNLINK', KEYS[2], KEYS[4], KEYS[5], KEYS[8], KEYS[9]) end
end

-- The tenant's feed is committed before the job's: what a broken script has put there of its job is not the job's. If
-- nobody has added anything since, it leaves no trace; otherwise the next event names one before it that is gone.
local function withdraw_copies(tenant, job, meta)
  local own = tenant.meta
  if own.is_new then return end
  local copies = {}
  local begun = redis.call('HMGET', meta.key, 'v', 't')
  local entries = redis.call('XRANGE', tenant.stream, '(' .. (begun[2] or '0') .. '-0', '+')
  for i = #entries, 1, -1 do
    local id, fields = entries[i][1], entries[i][2]
    if fields[JOB] == job and fields[JOB_EPOCH] == begun[1] and tonumber(fields[JOB_SEQ]) > meta.seq then
      copies[#copies + 1] = id
      if own.last.e == tonumber(string.match(id, '^%d+')) then own.last.e = tonumber(fields[PREV]) end
    end
  end
  if #copies == 0 then return end
  redis.call('HSET', own.key, 'se', own.last.e)
  redis.call('XDEL', tenant.stream, unpack(copies))
  own.bytes.e = bytes_of(tenant.stream)
  redis.call('HSET', own.key, 'be', own.bytes.e)
end

-- Removes the oldest entries beyond the caps.
local function trim(stream, meta, name, length, max_count, max_bytes)
  local function is_over()
    return length > max_count or (meta.bytes[name] > max_bytes and length > 1)
  end
  while is_over() do
    local ids = {}
    local chunk = redis.call('XRANGE', stream, '-', '+', 'COUNT', math.max(1, math.min(100, length - max_count)))
    for _, entry in ipairs(chunk) do
      if not is_over() then break end
      ids[#ids + 1] = entry[1]
      meta.bytes[name] = meta.bytes[name] - entry_bytes(entry[2])
      length = length - 1
    end
    redis.call('XDEL', stream, unpack(ids))
  end
end

local function is_due(meta, life, now)
  return meta.is_new or meta.is_repaired or life ~= meta.life or now > meta.expires - life / 2
end

-- All keys of a feed expire together. They are renewed when half the life is over; what is made in between (`made`: by
-- key) gets the feed's own expiry.
local function set_lives(meta, due, keys, made, now)
  if due then
    meta.expires = now + meta.life
    for _, key in ipairs(keys) do redis.call('PEXPIREAT', key, meta.expires) end
    redis.call('PEXPIREAT', meta.key, meta.expires)
  else
    for key in pairs(made) do redis.call('PEXPIREAT', key, meta.expires) end
  end
end

-- A newest value is lines of text, and so read without Lua's help: seq, attempt, type, head, epoch and seq of the job
-- (`-` and 0 but on the tenant's feed), then fields and their JSON in turns.
local function pack_newest(value, job_epoch, job_seq)
  local lines = { int(value.seq), value.attempt, value.type, value.head, job_epoch or '-', int(job_seq or 0) }
  for field, json in pairs(value.fields) do
    lines[#lines + 1] = field
    lines[#lines + 1] = json
  end
  return table.concat(lines, '\n')
end

local function unpack_newest(text)
  local lines = {}
  for line in string.gmatch(text, '[^\n]+') do lines[#lines + 1] = line end
  local value = { seq = tonumber(lines[1]), attempt = tonumber(lines[2]), type = lines[3], head = lines[4], fields = {},
    size = (#lines - 6) / 2 }
  for i = 7, #lines, 2 do value.fields[lines[i]] = lines[i + 1] end
  return value
end

-- An event on the tenant feed's log.
-- tenant: { meta, stream, outbox }
local function add_to_tenant(tenant, type, job, job_epoch, job_seq, head, data)
  local meta = tenant.meta
  local seq = meta.seq + 1
  redis.call('XADD', tenant.stream, seq, 't', type, 'p', meta.last.e, 'h', head, 'd', data, 'j', job, 'e', job_epoch,
    'q', job_seq)
  put(tenant.outbox, tenant_lines(meta.epoch, seq, 'd', type, job, '', job_epoch, job_seq, head, data))
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
  local shown = { seq = seq, attempt = value.attempt, type = value.type, head = value.head, fields = value.fields }
  redis.call('HSET', tenant.newest, job, pack_newest(shown, job_epoch, value.seq))
  redis.call('ZADD', tenant.order, seq, job)
  local over = redis.call('ZCARD', tenant.order) - max_newest
  if over > 0 then
    for _, old in ipairs(redis.call('ZRANGE', tenant.order, 0, over - 1)) do
      redis.call('HDEL', tenant.newest, old)
      redis.call('ZREM', tenant.order, old)
    end
  end
  put(tenant.outbox, tenant_lines(meta.epoch, seq, 'c', value.type, job, job, job_epoch, value.seq, value.head, data))
  meta.seq, meta.conflatable = seq, seq
end
