-- Appends entries to a feed and publishes them: check everything, then write, then commit, then publish.
--
-- KEYS   1 tenant meta, 2 tenant events, 3 tenant channel, 4 tenant newest (hash), 5 its order (zset),
--        6 jobs with unshown progress (set), 7 index of jobs (zset by creation), 8 ids (zset), 9 producers (hash),
--        and for a job: 10 meta, 11 events, 12 log, 13 channel, 14 state (hash), 15 newest (hash), 16 members (hash),
--        17 raw points (list)
-- ARGV   generation, epoch for a new job feed, epoch for a new tenant feed, job id ('' for the tenant's own feed),
--        limits: events, log lines, bytes, points, jobs, life finished (ms), life silent (ms), ids, producers,
--        conflation keys, merged fields, tenant newest; 1 if the first entry is the `created` one for a new job, number
--        of entries, then of each:
--        type, class d|c, stream e|l, tenant feed 0|1|m, latest 0|1, ends y|n|'', head, data, id, producer,
--        incarnation, n, number of fields to set + pairs, set, member, conflation key, attempt, number of fields to
--        merge + pairs, point
-- Returns { epoch, then of each entry but `created`: 'a' seq (accepted), 'd' seq (duplicate) or 'r' code (refused) },
--        or {} if the job is new and no `created` came along
--
-- Nothing after the first write can fail on good input: every key is read, and so its type checked, before. Should
-- the server break a script in spite of that, the missing commit shows, and the next append rolls back.

local generation, job_id = ARGV[1], ARGV[4]
local limits = {}
for i, name in ipairs({ 'events', 'log', 'bytes', 'points', 'jobs', 'finished', 'silent', 'ids', 'producers', 'keys', 'fields', 'newest' }) do
  limits[name] = tonumber(ARGV[4 + i])
end
local has_created, count = ARGV[17] == '1', tonumber(ARGV[18])
local is_job = job_id ~= ''
local at = 18
local function arg()
  at = at + 1
  return ARGV[at]
end
local function pairs_of(n)
  local list = {}
  for i = 1, n * 2 do list[i] = arg() end
  return list
end

local entries = {}
for i = 1, count do
  local entry = { type = arg(), class = arg(), stream = arg(), tenant = arg(), latest = arg(), ends = arg(),
    head = arg(), data = arg(), id = arg(), producer = arg(), incarnation = arg(), n = arg() }
  entry.set = pairs_of(tonumber(arg()))
  entry.add_set, entry.add_member = arg(), arg()
  entry.key, entry.attempt = arg(), tonumber(arg())
  entry.fields = pairs_of(tonumber(arg()))
  entry.point = arg()
  entries[i] = entry
end

-- 1. Read and check.
local tenant_meta = open_meta(KEYS[1], generation, ARGV[3], limits.silent)
local tenant = { meta = tenant_meta, stream = KEYS[2], newest = KEYS[4], order = KEYS[5], outbox = new_outbox(KEYS[3]) }
local meta = tenant_meta
if is_job then meta = open_meta(KEYS[10], generation, ARGV[2], limits.silent) end
if is_job and meta.is_new and not has_created then return {} end
local answers = { meta.stored_epoch }
local now = now_ms()

redis.call('ZCARD', KEYS[5])
redis.call('HLEN', KEYS[4])
redis.call('SCARD', KEYS[6])
redis.call('XLEN', KEYS[2])
if is_job then
  if meta.is_new and redis.call('ZCARD', KEYS[7]) >= limits.jobs and not redis.call('ZSCORE', KEYS[7], job_id) then
    for i = 1, count do
      if not (has_created and i == 1) then
        answers[#answers + 1] = 'r'
        answers[#answers + 1] = 'too_many_jobs'
      end
    end
    return answers
  end
  redis.call('XLEN', KEYS[11])
  redis.call('XLEN', KEYS[12])
  redis.call('HLEN', KEYS[14])
  redis.call('HLEN', KEYS[16])
  redis.call('LLEN', KEYS[17])
end
local producers_left = limits.producers - redis.call('HLEN', KEYS[9])
local ids_size = redis.call('ZCARD', KEYS[8])
local keys_left = is_job and limits.keys - redis.call('HLEN', KEYS[15]) or 0
local fresh = meta.is_new -- what lies under the other keys belongs to a feed that is gone

local seen_ids, seen_producers, newest = {}, {}, {}
local function producer_of(id)
  local known = seen_producers[id]
  if known == nil then
    local text = not fresh and redis.call('HGET', KEYS[9], id)
    known = false
    if text then
      local incarnation, n, seq = string.match(text, '^(%d+) (%d+) (%d+)$')
      -- Above the head: written by a script that did not commit.
      if tonumber(seq) <= meta.seq then
        known = { incarnation = tonumber(incarnation), n = tonumber(n), seq = tonumber(seq) }
      end
    end
    seen_producers[id] = known
  end
  return known
end
local function newest_of(key)
  local value = newest[key]
  if value == nil then
    local packed = not fresh and redis.call('HGET', KEYS[15], key)
    value = packed and cmsgpack.unpack(packed) or false
    newest[key] = value
  end
  return value
end

local seq = meta.seq
local created_here = not fresh
-- Returns the code of a refusal, or the seq of a duplicate, or nothing.
local function check(entry)
  if entry.id ~= '' then
    local known = seen_ids[entry.id]
    if not known and not fresh then
      known = redis.call('ZSCORE', KEYS[8], entry.id)
      if known and tonumber(known) > meta.seq then known = nil end
    end
    if known then return nil, tonumber(known) end
  end
  if entry.producer ~= '' then
    local known, incarnation = producer_of(entry.producer), tonumber(entry.incarnation)
    if known then
      if incarnation < known.incarnation then return 'producer_fenced' end
      if incarnation == known.incarnation and tonumber(entry.n) <= known.n then return nil, known.seq end
    elseif producers_left <= 0 then
      return 'too_many_producers'
    end
  end
  if entry.type == 'job_created' and created_here then return 'job_exists' end
  if entry.key == '' then return end
  local value = newest_of(entry.key)
  if not value and keys_left <= 0 then return 'too_many_keys' end
  if value and value.attempt == entry.attempt then
    local size = value.size
    for f = 1, #entry.fields, 2 do
      if not value.fields[entry.fields[f]] then size = size + 1 end
    end
    if size > limits.fields then return 'too_many_metrics' end
  end
end

local accepted = {}
for i, entry in ipairs(entries) do
  local silent = has_created and i == 1
  local skip = silent and (not fresh or (entries[2] and entries[2].type == 'job_created'))
  local code, duplicate
  if not skip then code, duplicate = check(entry) end
  if skip then
    -- The job is there, or its first event creates it.
  elseif code then
    answers[#answers + 1] = 'r'
    answers[#answers + 1] = code
  elseif duplicate then
    answers[#answers + 1] = 'd'
    answers[#answers + 1] = int(duplicate)
  else
    seq = seq + 1
    entry.seq = seq
    created_here = true
    if entry.id ~= '' then seen_ids[entry.id] = seq end
    if entry.producer ~= '' then
      if not producer_of(entry.producer) then producers_left = producers_left - 1 end
      seen_producers[entry.producer] = { incarnation = tonumber(entry.incarnation), n = tonumber(entry.n), seq = seq, changed = true }
    end
    if entry.key ~= '' then
      local value = newest_of(entry.key)
      if not value then
        keys_left = keys_left - 1
        value = { attempt = entry.attempt, size = 0, fields = {} }
      elseif entry.attempt > value.attempt then
        value = { attempt = entry.attempt, size = 0, fields = {} }
      end
      if entry.attempt == value.attempt then
        for f = 1, #entry.fields, 2 do
          if not value.fields[entry.fields[f]] then value.size = value.size + 1 end
          value.fields[entry.fields[f]] = entry.fields[f + 1]
        end
        value.seq, value.type, value.head, value.changed = seq, entry.type, entry.head, true
      end
      newest[entry.key] = value
    end
    accepted[#accepted + 1] = entry
    if not silent then
      answers[#answers + 1] = 'a'
      answers[#answers + 1] = int(seq)
    end
  end
end
if #accepted == 0 then return answers end
answers[1] = meta.epoch

local counts = {}
if is_job then
  local names = {}
  for _, entry in ipairs(accepted) do
    local counter = 'type:' .. entry.type
    if not counts[counter] then names[#names + 1] = counter end
    counts[counter] = (counts[counter] or 0) + 1
    if entry.add_set ~= '' then
      counter = 'set:' .. entry.add_set
      if not counts[counter] then names[#names + 1] = counter end
      counts[counter] = counts[counter] or 0
    end
  end
  local before = redis.call('HMGET', KEYS[10], unpack(names))
  for i, counter in ipairs(names) do counts[counter] = counts[counter] + tonumber(before[i] or 0) end
end

-- 2. Write.
local written, tenant_written = {}, {}
if fresh then
  if is_job then
    redis.call('UNLINK', KEYS[8], KEYS[9], KEYS[11], KEYS[12], KEYS[14], KEYS[15], KEYS[16], KEYS[17])
    redis.call('ZADD', KEYS[7], int(now), job_id)
    tenant_written[KEYS[7]] = true
    meta.changes = { 'created', int(now) }
  else
    redis.call('UNLINK', KEYS[8], KEYS[9])
  end
end
if tenant_meta.is_new then redis.call('UNLINK', KEYS[2], KEYS[4], KEYS[5]) end
local to_write = {}
for _, entry in ipairs(accepted) do
  if not is_job or entry.tenant == '1' then to_write.tenant = true end
  if is_job and entry.class == 'd' then to_write[entry.stream] = true end
end
if to_write.tenant then roll_back(KEYS[2], tenant_meta.last.e) end
if to_write.e then roll_back(KEYS[11], meta.last.e) end
if to_write.l then roll_back(KEYS[12], meta.last.l) end

local old_life = meta.life
local points, dirty = {}, false
local outbox = is_job and new_outbox(KEYS[13]) or tenant.outbox
for _, entry in ipairs(accepted) do
  if not is_job then
    add_to_tenant(tenant, entry.type, '', '', 0, entry.head, entry.data)
  else
    if entry.class == 'd' then
      local stream = entry.stream == 'l' and KEYS[12] or KEYS[11]
      redis.call('XADD', stream, int(entry.seq) .. '-0', 't', entry.type, 'p', int(meta.last[entry.stream]),
        'h', entry.head, 'd', entry.data)
      written[stream] = true
      meta.last[entry.stream] = entry.seq
      meta.bytes[entry.stream] = meta.bytes[entry.stream] + #entry.head + #entry.data + 64
    else
      meta.conflatable = entry.seq
    end
    meta.seq = entry.seq
    if entry.latest == '1' then
      redis.call('HSET', KEYS[14], 'latest:' .. entry.type, int(entry.seq) .. '\n' .. entry.head .. '\n' .. entry.data)
      written[KEYS[14]] = true
    end
    if #entry.set > 0 then
      for f = 1, #entry.set, 2 do redis.call('HSET', KEYS[14], 'field:' .. entry.set[f], entry.set[f + 1]) end
      written[KEYS[14]] = true
    end
    if entry.add_set ~= '' then
      if redis.call('HSETNX', KEYS[16], entry.add_set .. '\31' .. entry.add_member, int(entry.seq)) == 1 then
        local counter = 'set:' .. entry.add_set
        counts[counter] = counts[counter] + 1
      end
      written[KEYS[16]] = true
    end
    if entry.point ~= '' then points[#points + 1] = int(entry.seq) .. ' ' .. entry.point end
    if entry.ends == 'y' then meta.life = limits.finished elseif entry.ends == 'n' then meta.life = limits.silent end
    put(outbox, meta.epoch, entry.seq, entry.class, entry.type, job_id, entry.key,
      job_wire(meta.epoch, entry.seq, entry.head, entry.data))
    if entry.tenant == 'm' then
      dirty = true
    elseif entry.tenant == '1' then
      if entry.ends == 'y' and (dirty or redis.call('SISMEMBER', KEYS[6], job_id) == 1) then
        redis.call('SREM', KEYS[6], job_id)
        dirty = false
        add_progress(tenant, job_id, meta.epoch,
          { newest_of('training_progress\31\31'), newest_of('training_progress\31\0310') }, limits.newest)
        tenant_written[KEYS[4]], tenant_written[KEYS[5]] = true, true
      end
      add_to_tenant(tenant, entry.type, job_id, meta.epoch, entry.seq, entry.head, entry.data)
    end
  end
end

if is_job then
  for key, value in pairs(newest) do
    if value and value.changed then
      value.changed = nil
      redis.call('HSET', KEYS[15], key, cmsgpack.pack(value))
      written[KEYS[15]] = true
    end
  end
  if #points > 0 then
    redis.call('RPUSH', KEYS[17], unpack(points))
    redis.call('LTRIM', KEYS[17], -limits.points, -1)
    written[KEYS[17]] = true
  end
  if dirty then
    redis.call('SADD', KEYS[6], job_id)
    tenant_written[KEYS[6]] = true
  end
end
for _, entry in ipairs(accepted) do
  if entry.id ~= '' then
    redis.call('ZADD', KEYS[8], int(entry.seq), entry.id)
    ids_size = ids_size + 1
    written[KEYS[8]] = true
  end
end
if ids_size > limits.ids then redis.call('ZREMRANGEBYRANK', KEYS[8], 0, -limits.ids - 1) end
for id, producer in pairs(seen_producers) do
  if producer and producer.changed then
    redis.call('HSET', KEYS[9], id, int(producer.incarnation) .. ' ' .. int(producer.n) .. ' ' .. int(producer.seq))
    written[KEYS[9]] = true
  end
end
if is_job then
  if written[KEYS[11]] then trim(KEYS[11], meta, 'e', limits.events, limits.bytes) end
  if written[KEYS[12]] then trim(KEYS[12], meta, 'l', limits.log, limits.bytes) end
  for counter, value in pairs(counts) do
    meta.changes[#meta.changes + 1] = counter
    meta.changes[#meta.changes + 1] = int(value)
  end
  meta.changes[#meta.changes + 1] = 'updated'
  meta.changes[#meta.changes + 1] = int(now)
end
if to_write.tenant then
  tenant_written[KEYS[2]] = true
  trim(KEYS[2], tenant_meta, 'e', limits.events, limits.bytes)
end

-- 3. Commit: the tenant's feed first, so that a job's event that counts is never missing there.
if is_job then
  if next(tenant_written) then save_meta(tenant_meta) end
  save_meta(meta)
else
  for key in pairs(written) do tenant_written[key] = true end
  save_meta(meta)
end

-- 4. Lives.
local tenant_keys = { KEYS[2], KEYS[4], KEYS[5], KEYS[6], KEYS[7] }
if is_job then
  local keys = { KEYS[8], KEYS[9], KEYS[11], KEYS[12], KEYS[14], KEYS[15], KEYS[16], KEYS[17] }
  if renew(meta, keys, written, now, meta.life ~= old_life) then
    -- The tenant's keys outlive its jobs, and the index has each job that lives.
    redis.call('ZADD', KEYS[7], 'NX', int(now), job_id)
    if tenant_meta.expires < meta.expires + 1 then tenant_meta.expires = 0 end
    tenant_written[KEYS[7]] = true
  end
else
  tenant_keys[#tenant_keys + 1] = KEYS[8]
  tenant_keys[#tenant_keys + 1] = KEYS[9]
end
if next(tenant_written) then renew(tenant_meta, tenant_keys, tenant_written, now, false) end

-- 5. Publish.
if is_job then post(outbox) end
post(tenant.outbox)
return answers
