-- What a job is by its attempts, status, products and signs of life: the same rules as memory-job.ts. Put before
-- append.lua. Numbers here are the hub's own counts, or whole numbers of the envelope.

local ENDED = { ['"completed"'] = true, ['"failed"'] = true, ['"cancelled"'] = true }
local JOB_PROGRESS = 'training_progress\31\31'

-- Fields of the meta that the entries need, beside those in which they count events.
local function job_names(entries)
  local names = { 'field:status', 'field:status_attempt', 'field:attempt', 'field:liveness' }
  local has_products = false
  for _, entry in ipairs(entries) do
    if entry.attempt or entry.product or entry.total or entry.progress_done then has_products = true end
    for f = 1, #(entry.only_if or {}), 2 do names[#names + 1] = 'field:' .. entry.only_if[f] end
  end
  if has_products then
    for _, name in ipairs({ 'products:completed', 'products:failed', 'field:products_total', 'field:products_progress' }) do
      names[#names + 1] = name
    end
  end
  return names
end

-- fields: JSON text by name, as the entries that were accepted so far have made them; nil for none
-- counters: `products:completed` and `products:failed`, where an entry needs them
-- members: key of the hash of products; fresh: there is no job yet; max_products: of an attempt
-- Returns { fields, changed (fields: JSON text, '' for none), products (by member), counts_changed, is_seen, attempt,
-- status_attempt, and the functions check, follow, before, after }
local function new_job(fields, counters, members, fresh, max_products)
  local job = { fields = fields, changed = {}, products = {}, counts_changed = false, is_seen = false,
    attempt = tonumber(fields.attempt or 1), status_attempt = tonumber(fields.status_attempt or 1) }

  local function change(name, json)
    fields[name], job.changed[name] = json, json or ''
  end

  local function attempt_of(entry)
    return entry.attempt or job.attempt
  end

  -- Of the attempt: { seq, outcome c|f, stored }, or false.
  local function product_of(entry)
    local member = int(attempt_of(entry)) .. '\31' .. entry.product
    if job.products[member] == nil then
      local stored = not fresh and redis.call('HGET', members, member)
      local at, outcome = string.match(stored or '', '^(%d+) (%a)')
      job.products[member] = at and { seq = tonumber(at), outcome = outcome, stored = at .. ' ' .. outcome } or false
    end
    return job.products[member], member
  end

  local function done_in(attempt)
    if attempt > job.attempt then return 0 end
    return counters['products:completed'] + counters['products:failed']
  end

  local function check_products(entry)
    local own = attempt_of(entry)
    if own < job.attempt then return end
    local done = done_in(own)
    if entry.product then
      local before = product_of(entry)
      if before and not (before.outcome == 'f' and entry.outcome == 'c') then return nil, before.seq end
      if not before then
        if done >= max_products then return 'too_many_keys' end
        done = done + 1
      end
    end
    if done > (entry.total or tonumber(fields.products_total or done)) then return 'invalid_total' end
  end

  local function is_illegal(entry)
    if not fields.status then return false end
    local own = attempt_of(entry)
    if own < job.attempt then return true end
    if own > job.status_attempt then return false end
    return not string.find(entry.from, ',' .. string.sub(fields.status, 2, -2) .. ',', 1, true)
  end

  local function is_as_expected(only_if)
    if fresh then return false end
    for f = 1, #only_if, 2 do
      if (fields[only_if[f]] or '') ~= only_if[f + 1] then return false end
    end
    return true
  end

  -- Returns the code of a refusal, or nil and the seq of a duplicate, or nothing.
  function job.check(entry)
    if entry.only_if and not is_as_expected(entry.only_if) then return 'conflict' end
    if entry.to and is_illegal(entry) then return 'invalid_transition' end
    if entry.product or entry.total then return check_products(entry) end
  end

  -- Where a job that has ended has come to, it stays.
  local function advance(total)
    if ENDED[fields.status] then return end
    change('products_progress', int(20 + math.floor(done_in(job.attempt) * 60 / math.max(total, 1))))
  end

  local function count(entry)
    if attempt_of(entry) < job.attempt then return end
    local before, member = product_of(entry)
    if before then counters['products:failed'] = counters['products:failed'] - 1 end
    local counter = entry.outcome == 'f' and 'products:failed' or 'products:completed'
    counters[counter], job.counts_changed = counters[counter] + 1, true
    job.products[member] = { seq = entry.seq, outcome = entry.outcome, stored = before and before.stored, changed = true }
    if entry.total then change('products_total', int(entry.total)) end
    local total, text = tonumber(fields.products_total), ''
    if total then
      advance(total)
      text = ',"total":' .. int(total)
    end
    entry.head = entry.head .. ',"products":{"completed":' .. int(counters['products:completed']) .. ',"failed":'
      .. int(counters['products:failed']) .. text .. ',"progress":' .. (fields.products_progress or '0') .. '}'
  end

  -- Takes what an accepted entry says of the job.
  function job.follow(entry)
    if entry.attempt and entry.attempt > job.attempt then
      job.attempt = entry.attempt
      change('attempt', int(job.attempt))
      counters['products:completed'], counters['products:failed'], job.counts_changed = 0, 0, true
      change('products_progress', nil)
    end
    if entry.progress_done then change('products_progress', '100') end
    if entry.to then
      job.status_attempt = attempt_of(entry)
      change('status', '"' .. entry.to .. '"')
      change('status_attempt', int(job.status_attempt))
    end
    if entry.alive == '0' then
      change('liveness', nil)
    elseif entry.alive == '1' then
      job.is_seen = true
      if not fields.liveness and not ENDED[fields.status] then change('liveness', '"live"') end
    end
    -- A point names its attempt, but for the first.
    if entry.point and not entry.attempt and job.attempt > 1 then
      entry.point = '{"attempt":' .. int(job.attempt) .. ',' .. string.sub(entry.point, 2)
    end
    for f = 1, #entry.set, 2 do
      change(entry.set[f], entry.set[f + 1] ~= '' and entry.set[f + 1] or nil)
    end
    if entry.product then count(entry) end
  end

  -- The job's percentage that follows from its products, as progress of the hub's own.
  local function progress(head)
    local done, percent, total = int(done_in(job.attempt)), fields.products_progress, fields.products_total
    return { class = 'c', stream = 'e', tenant = 'm', latest = false, ends = '-', type = 'training_progress',
      alive = '-', head = head, data = '{"current":' .. done .. ',"progress":' .. percent .. ',"total":' .. total .. '}', set = {},
      key = JOB_PROGRESS, attempt = job.attempt, silent = true,
      fields = { '"current"', done, '"progress"', percent, '"total"', total } }
  end

  -- What is told before an accepted entry, if anything.
  function job.before(entry)
    if not entry.progress_done or not fields.products_total or attempt_of(entry) ~= job.attempt then return end
    change('products_progress', '100')
    return progress(entry.progress_done)
  end

  -- What is told after it.
  function job.after(entry)
    if not (entry.product or entry.total) or attempt_of(entry) < job.attempt then return end
    if not entry.product then
      change('products_total', int(entry.total))
      if entry.progress ~= '' then advance(entry.total) end
    end
    if entry.progress == '' or not fields.products_total or ENDED[fields.status] then return end
    return progress(entry.progress)
  end

  return job
end
