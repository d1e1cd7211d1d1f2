-- Appends entries to a feed and publishes them: check everything, mark, write, commit, publish.
--
-- KEYS   1 tenant meta, 2 tenant events, 3 tenant channel, 4 tenant newest (hash), 5 its order (zset),
--        6 jobs with unshown progress (set), 7 index of jobs (zset by creation), 8 tenant ids (zset),
--        9 tenant producers (hash), and for a job: 10 meta, 11 events, 12 log, 13 channel, 14 newest (hash),
--        15 members (hash), 16 raw points (list), 17 ids (zset), 18 producers (hash), 19 series (hash), 20 buckets
--        (hash), and 21 the tenant's deadlines (zset)
-- ARGV   generation, epoch for a new job feed, epoch for a new tenant feed, job id ('' for the tenant's own feed),
--        limits: events, log lines, bytes, points, jobs, life finished (ms), life silent (ms), ids, producers,
--        conflation keys, merged fields, tenant newest; number of entries; 1 if `created` for a new job follows them;
--        then these, as lua/entry.lua reads them
-- Returns { epoch, 1 if a job that counts as stale or lost has given a sign of life, raw points in the list (0: none was
--        added), then of each entry but `created`: 'a' seq (accepted), 'd' seq (duplicate) or 'r' code (refused) }
--
-- Nothing after the mark can fail on good input: what is written was read before, and so its type checked.

local generation, job_id = ARGV[1], ARGV[4]
local function number(i) return tonumber(ARGV[i]) end
local limits = { events = number(5), log = number(6), bytes = number(7), points = number(8), jobs = number(9),
  finished = number(10), silent = number(11), ids = number(12), producers = number(13), keys = number(14),
  fields = number(15), newest = number(16) }
local is_job = job_id ~= ''
local entries = {}
for i = 1, number(17) do entries[i] = parse_entry() end

-- 1. Read and check.
local now = now_ms()
local tenant
local function the_tenant()
  tenant = tenant or open_tenant(generation, ARGV[3], math.max(limits.silent, limits.finished))
  return tenant
end

local counters, counter_names = {}, {}
local fields = {}
local meta, keys
if is_job then
  local known = {}
  local function read(name)
    if not known[name] then counter_names[#counter_names + 1] = name end
    known[name] = true
  end
  read('type:job_created')
  read('type:training_progress')
  for _, name in ipairs(job_names(entries)) do read(name) end
  for _, entry in ipairs(entries) do read('type:' .. entry.type) end
  meta = open_meta(KEYS[10], generation, ARGV[2], limits.silent, counter_names)
  keys = { e = KEYS[11], l = KEYS[12], newest = KEYS[14], members = KEYS[15], points = KEYS[16], ids = KEYS[17],
    producers = KEYS[18], series = KEYS[19], buckets = KEYS[20] }
  for i, name in ipairs(counter_names) do
    local value = meta.more[i]
    if string.sub(name, 1, 6) ~= 'field:' then counters[name] = tonumber(value or 0)
    elseif value and value ~= '' then fields[string.sub(name, 7)] = value end
  end
  if is_broken(meta) then
    withdraw_copies(the_tenant(), job_id, meta)
    if not meta.is_new then repair(meta, keys) end
  end
else
  meta = the_tenant().meta
  keys = { e = KEYS[2], ids = KEYS[8], producers = KEYS[9] }
end
local fresh = meta.is_new -- what lies under the other keys belongs to a feed that is gone
local answers = { meta.stored_epoch, '0', '0' }

if fresh and is_job then
  if ARGV[18] == '1' and not (entries[1] and entries[1].type == 'job_created') then
    local created = parse_entry()
    created.silent = true
    table.insert(entries, 1, created)
  end
  if redis.call('ZCARD', KEYS[7]) >= limits.jobs and not redis.call('ZSCORE', KEYS[7], job_id) then
    for _, entry in ipairs(entries) do
      if not entry.silent then
        answers[#answers + 1] = 'r'
        answers[#answers + 1] = 'too_many_jobs'
      end
    end
    return answers
  end
end

-- How much the keys hold that may be written; 0 for one that the writing makes.
local sizes = {}
local function measure(command, key)
  if not sizes[key] then sizes[key] = fresh and 0 or redis.call(command, key) end
  return sizes[key]
end

-- What the entries refer to, read in one call for all of them.
local function known(command, key, field, decode)
  local names, asked, map = {}, {}, {}
  for _, entry in ipairs(entries) do
    local name = entry[field]
    if name and name ~= '' and not asked[name] then
      asked[name] = true
      names[#names + 1] = name
    end
  end
  if #names == 0 or fresh then return map, #names end
  for i, value in ipairs(redis.call(command, key, unpack(names))) do
    if value then map[names[i]] = decode(value) end
  end
  return map, #names
end
local ids, id_count = known('ZMSCORE', keys.ids, 'id', tonumber)
if id_count > 0 then measure('ZCARD', keys.ids) end
local producers = known('HMGET', keys.producers, 'producer', function(text)
  local incarnation, n, seq = string.match(text, '^(%d+) (%d+) (%d+)')
  return { incarnation = incarnation, n = n, seq = tonumber(seq), stored = incarnation .. ' ' .. n .. ' ' .. seq }
end)
local newest = is_job and known('HMGET', keys.newest, 'key', unpack_newest)

local job = is_job and new_job(fields, counters, keys.members, fresh, limits.keys)

local seq = meta.seq
local job_exists = not fresh
local new_producers, new_keys = 0, 0
-- Returns the code of a refusal, or the seq of a duplicate, or nothing.
local function check(entry)
  if entry.id and ids[entry.id] then return nil, ids[entry.id] end
  if entry.producer then
    local before = producers[entry.producer]
    if before then
      local newer = tonumber(entry.incarnation) - tonumber(before.incarnation)
      if newer < 0 then return 'producer_fenced' end
      if newer == 0 and tonumber(entry.n) <= tonumber(before.n) then return nil, before.seq end
    elseif measure('HLEN', keys.producers) + new_producers >= limits.producers then
      return 'too_many_producers'
    end
  end
  if entry.type == 'job_created' and job_exists then return 'job_exists' end
  if not is_job then return end
  local code, duplicate = job.check(entry)
  if code or duplicate then return code, duplicate end
  if entry.key == '' then return end
  local value = newest[entry.key]
  if not value and measure('HLEN', keys.newest) + new_keys >= limits.keys then return 'too_many_keys' end
  if value and value.attempt == (entry.attempt or job.attempt) then
    local size = value.size
    for f = 1, #entry.fields, 2 do
      if not value.fields[entry.fields[f]] then size = size + 1 end
    end
    if size > limits.fields then return 'too_many_metrics' end
  end
end

local function merge(entry)
  local value = newest[entry.key]
  if not value then new_keys = new_keys + 1 end
  local own = entry.attempt or job.attempt
  if not value or own > value.attempt then
    value = { attempt = own, size = 0, fields = {} }
    newest[entry.key] = value
  end
  if own < value.attempt then return end
  for f = 1, #entry.fields, 2 do
    if not value.fields[entry.fields[f]] then value.size = value.size + 1 end
    value.fields[entry.fields[f]] = entry.fields[f + 1]
  end
  value.seq, value.type, value.head, value.changed = entry.seq, entry.type, entry.head, true
end

local accepted, life = {}, meta.life
local function accept(entry)
  seq = seq + 1
  entry.seq, entry.at = seq, int(seq)
  job_exists = true
  if entry.id then ids[entry.id] = seq end
  if entry.producer then
    local before = producers[entry.producer]
    if not before then new_producers = new_producers + 1 end
    producers[entry.producer] = { incarnation = entry.incarnation, n = entry.n, seq = seq,
      stored = before and before.stored, changed = true }
  end
  if is_job then job.follow(entry) end
  if is_job and entry.key ~= '' then merge(entry) end
  if entry.ends == 'y' then life = limits.finished elseif entry.ends == 'n' then life = limits.silent end
  accepted[#accepted + 1] = entry
end

-- With the progress of the job that follows from its products.
local function tell(progress)
  if not progress then return end
  if newest[JOB_PROGRESS] == nil and not fresh then
    local stored = redis.call('HGET', keys.newest, JOB_PROGRESS)
    newest[JOB_PROGRESS] = stored and unpack_newest(stored) or nil
  end
  accept(progress)
end

local function take(entry)
  if is_job then tell(job.before(entry)) end
  accept(entry)
  if is_job then tell(job.after(entry)) end
end

for _, entry in ipairs(entries) do
  local code, duplicate = check(entry)
  if not code and not duplicate then take(entry) end
  if not entry.silent then
    answers[#answers + 1] = code and 'r' or duplicate and 'd' or 'a'
    answers[#answers + 1] = code or duplicate and int(duplicate) or entry.at
  end
end
if #accepted == 0 then return answers end
answers[1] = meta.epoch

local copies, endings, has_progress = 0, 0, false
for _, entry in ipairs(accepted) do
  if not is_job or entry.tenant == '1' then copies = copies + 1 end
  if is_job then
    if entry.tenant == 'm' then has_progress = true end
    if entry.ends == 'y' then endings = endings + 1 end
    if entry.class == 'd' and measure('XLEN', keys[entry.stream]) == 0 then meta.bytes[entry.stream] = 0 end
    if entry.product then measure('HLEN', keys.members) end
    if entry.point then measure('LLEN', keys.points) end
    if entry.deadlines or job.changed.liveness then measure('ZCARD', KEYS[21]) end
  end
end

local due = is_due(meta, life, now)
local tenant_due = false
if due or copies > 0 or has_progress then
  local own = the_tenant().meta
  -- The tenant's keys outlive its jobs, and the index has each job that lives.
  tenant_due = is_due(own, own.life, now) or (is_job and due and own.expires < now + life)
  if is_job and due then sizes[KEYS[7]] = redis.call('ZCARD', KEYS[7]) end
  if copies > 0 then
    sizes[KEYS[2]] = own.is_new and 0 or redis.call('XLEN', KEYS[2])
    if sizes[KEYS[2]] == 0 then own.bytes.e = 0 end
  end
end

-- Progress that the tenant has not seen comes before the status that ends the job.
local in_set = (has_progress or endings > 0) and redis.call('SISMEMBER', KEYS[6], job_id) == 1
local unshown, shown, progress = in_set, false, {}
if endings > 0 and (in_set or has_progress) then
  sizes[KEYS[4]] = redis.call('HLEN', KEYS[4])
  sizes[KEYS[5]] = redis.call('ZCARD', KEYS[5])
  for i, key in ipairs({ JOB_PROGRESS, 'training_progress\31\0310' }) do
    local stored = not newest[key] and not fresh and redis.call('HGET', keys.newest, key)
    progress[i] = newest[key] or stored and unpack_newest(stored) or false
  end
end

-- 2. Mark.
local writes_tenant = copies > 0 or tenant_due
if writes_tenant then begin_tenant(tenant, tenant.meta.seq + copies + endings, now) end
if is_job then
  if writes_tenant then begin(meta, seq, now, 'v', meta.epoch, 't', tenant.meta.seq) else begin(meta, seq, now) end
  if fresh then
    redis.call('UNLINK', keys.e, keys.l, keys.newest, keys.members, keys.points, keys.ids, keys.producers, keys.series,
      keys.buckets)
    meta.changes = { 'created', now }
  end
end

-- 3. Write.
local made, tenant_made = {}, {}
local function makes(key, list)
  if sizes[key] == 0 then (list or made)[key] = true end
end
local outbox = is_job and new_outbox(KEYS[13]) or tenant.outbox
local added = { e = 0, l = 0 }
local latest, counted, points = {}, {}, {}

-- As text: a number would be written as a double is.
local last = { e = int(meta.last.e), l = int(meta.last.l) }

local function add(entry)
  meta.seq = entry.seq
  if entry.class == 'd' then
    local stream = keys[entry.stream]
    redis.call('XADD', stream, entry.at, 't', entry.type, 'p', last[entry.stream], 'h', entry.head, 'd', entry.data)
    last[entry.stream] = entry.at
    makes(stream)
    added[entry.stream] = added[entry.stream] + 1
    meta.last[entry.stream] = entry.seq
    meta.bytes[entry.stream] = meta.bytes[entry.stream] + #entry.head + #entry.data + 64
  else
    meta.conflatable = entry.seq
  end
  put(outbox, job_lines(meta.epoch, entry.at, entry.class, entry.type, job_id, entry.key, entry.head, entry.data))
end

local function patch(entry)
  local counter = 'type:' .. entry.type
  counted[counter] = true
  counters[counter] = counters[counter] + 1
  if entry.latest then latest[entry.type] = entry end
  if entry.point then points[#points + 1] = entry.at .. ' ' .. entry.point end
end

local function tell_tenant(entry)
  if entry.tenant == 'm' then unshown = true end
  if entry.tenant ~= '1' then return end
  if entry.ends == 'y' and unshown then
    add_progress(tenant, job_id, meta.epoch, progress, limits.newest)
    makes(KEYS[4], tenant_made)
    makes(KEYS[5], tenant_made)
    unshown, shown = false, true
  end
  add_to_tenant(tenant, entry.type, job_id, meta.epoch, entry.seq, entry.head, entry.data)
end

for _, entry in ipairs(accepted) do
  if is_job then
    add(entry)
    patch(entry)
    tell_tenant(entry)
  else
    add_to_tenant(tenant, entry.type, '', '', 0, entry.head, entry.data)
  end
end
if copies > 0 then
  makes(KEYS[2], tenant_made)
  trim(KEYS[2], tenant.meta, 'e', sizes[KEYS[2]] + copies, limits.events, limits.bytes)
end

local function set_all(command, key, list)
  if #list == 0 then return end
  redis.call(command, key, unpack(list))
  makes(key)
end
local id_list, producer_list, newest_list = {}, {}, {}
for _, entry in ipairs(accepted) do
  if entry.id then
    id_list[#id_list + 1] = entry.at
    id_list[#id_list + 1] = entry.id
  end
end
-- With what was known before, for `repair`.
for id, producer in pairs(producers) do
  if producer.changed then
    producer_list[#producer_list + 1] = id
    producer_list[#producer_list + 1] = producer.incarnation .. ' ' .. producer.n .. ' ' .. int(producer.seq)
      .. (producer.stored and ' ' .. producer.stored or '')
  end
end
set_all('ZADD', keys.ids, id_list)
set_all('HSET', keys.producers, producer_list)
if is_job then
  for key, value in pairs(newest) do
    if value.changed then
      newest_list[#newest_list + 1] = key
      newest_list[#newest_list + 1] = pack_newest(value)
    end
  end
  set_all('HSET', keys.newest, newest_list)
  local product_list = {}
  -- With what was known before, for `repair`.
  for member, product in pairs(job.products) do
    if product and product.changed then
      product_list[#product_list + 1] = member
      product_list[#product_list + 1] = int(product.seq) .. ' ' .. product.outcome
        .. (product.stored and ' ' .. product.stored or '')
    end
  end
  set_all('HSET', keys.members, product_list)
  set_all('RPUSH', keys.points, points)
  if #points > 0 and sizes[keys.points] + #points > limits.points then
    redis.call('LTRIM', keys.points, -limits.points, -1)
  end
  if added.e > 0 then trim(keys.e, meta, 'e', sizes[keys.e] + added.e, limits.events, limits.bytes) end
  if added.l > 0 then trim(keys.l, meta, 'l', sizes[keys.l] + added.l, limits.log, limits.bytes) end
  if unshown and not in_set then
    redis.call('SADD', KEYS[6], job_id)
    tenant_made[KEYS[6]] = true
  end
  if due then
    redis.call('ZADD', KEYS[7], 'NX', now, job_id)
    makes(KEYS[7], tenant_made)
  end

  local changes = meta.changes
  local function change(field, value)
    changes[#changes + 1] = field
    changes[#changes + 1] = value
  end
  change('updated', now)
  if shown then change('f', now) end
  for counter in pairs(counted) do change(counter, counters[counter]) end
  if job.counts_changed then
    change('products:completed', counters['products:completed'])
    change('products:failed', counters['products:failed'])
  end
  for field, json in pairs(job.changed) do change('field:' .. field, json) end
  if job.is_seen then change('field:seen', now) end
  -- What a trainer expected in an attempt before is no longer so.
  if job.changed.attempt then change('expect', 0) end
  -- Before the commit: a deadline without anything to judge goes by itself.
  local function set_deadline(what, ms)
    redis.call('ZADD', KEYS[21], now + ms, job_id .. '/' .. what)
    redis.call('PEXPIRE', KEYS[21], math.max(limits.silent, limits.finished, ms))
  end
  if job.changed.liveness == '"live"' then set_deadline('liveness', 0) end
  for _, entry in ipairs(accepted) do
    for d = 1, #(entry.deadlines or NONE), 2 do
      if entry.deadlines[d + 1] ~= '' then set_deadline(entry.deadlines[d], tonumber(entry.deadlines[d + 1])) end
    end
  end
  for type, entry in pairs(latest) do
    change('latest:' .. type, entry.at .. '\n' .. entry.head .. '\n' .. entry.data)
  end
end

-- 4. Lives, and the commit: the tenant's feed first, so that a job's event that counts is never missing there.
meta.life = life
if is_job then
  set_lives(meta, due, { keys.ids, keys.producers, keys.e, keys.l, keys.newest, keys.members, keys.points, keys.series,
    keys.buckets }, made, now)
else
  for key in pairs(made) do tenant_made[key] = true end
end
if writes_tenant or next(tenant_made) then set_lives(tenant.meta, tenant_due, tenant_keys(), tenant_made, now) end
if writes_tenant then save_meta(tenant.meta) end
if is_job then save_meta(meta) end

-- 5. What may be missing without harm, should the script break here.
if is_job then
  local gone = {}
  for field, json in pairs(job.changed) do
    if json == '' then gone[#gone + 1] = 'field:' .. field end
  end
  if #gone > 0 then redis.call('HDEL', meta.key, unpack(gone)) end
  for _, entry in ipairs(accepted) do
    for d = 1, #(entry.deadlines or NONE), 2 do
      if entry.deadlines[d + 1] == '' then redis.call('ZREM', KEYS[21], job_id .. '/' .. entry.deadlines[d]) end
    end
  end
  if job.changed.attempt then
    -- Products of attempts before are not asked for any more.
    for _, member in ipairs(redis.call('HKEYS', keys.members)) do
      if tonumber(string.match(member, '^%d+')) < job.attempt then redis.call('HDEL', keys.members, member) end
    end
  end
  if job.is_seen and fields.liveness and fields.liveness ~= '"live"' then answers[2] = '1' end
  if #points > 0 then answers[3] = int(math.min(sizes[keys.points] + #points, limits.points)) end
end
if in_set and not unshown then redis.call('SREM', KEYS[6], job_id) end
if id_count > 0 and sizes[keys.ids] + #id_list / 2 > limits.ids then
  redis.call('ZREMRANGEBYRANK', keys.ids, 0, -limits.ids - 1)
end
if is_job then post(outbox) end
if tenant then post(tenant.outbox) end
return answers
