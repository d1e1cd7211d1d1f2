-- Puts the merged progress of changed jobs on the tenant feed, each at most once a second.
--
-- KEYS   1 tenant meta, 2 tenant events, 3 tenant channel, 4 tenant newest, 5 its order, 6 jobs with unshown
--        progress, then of each job: meta, newest
-- ARGV   generation, epoch for a new tenant feed, life (ms), tenant newest (limit), least time between two (ms), job ids…
-- Returns the number of events

local tenant = { stream = KEYS[2], newest = KEYS[4], order = KEYS[5], outbox = new_outbox(KEYS[3]) }
tenant.meta = open_meta(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]))
local now, shown, flushed = now_ms(), 0, {}
redis.call('HLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
local due = {}
for i = 6, #ARGV do
  local job_meta, job_newest = KEYS[7 + (i - 6) * 2], KEYS[8 + (i - 6) * 2]
  local m = redis.call('HMGET', job_meta, 'e', 'f')
  if not m[1] then
    due[#due + 1] = { job = ARGV[i] }
  elseif now - tonumber(m[2] or 0) >= tonumber(ARGV[5]) or now < tonumber(m[2] or 0) then
    local values = redis.call('HMGET', job_newest, 'training_progress\31\31', 'training_progress\31\0310')
    for v = 1, 2 do values[v] = values[v] and cmsgpack.unpack(values[v]) end
    due[#due + 1] = { job = ARGV[i], epoch = m[1], meta = job_meta, values = values }
  end
end
for _, job in ipairs(due) do
  redis.call('SREM', KEYS[6], job.job)
  if job.epoch then
    add_progress(tenant, job.job, job.epoch, job.values, tonumber(ARGV[4]))
    redis.call('HSET', job.meta, 'f', int(now))
    shown = shown + 1
  end
end
if shown > 0 then
  save_meta(tenant.meta)
  renew(tenant.meta, { KEYS[2], KEYS[4], KEYS[5], KEYS[6] }, { [KEYS[4]] = true, [KEYS[5]] = true }, now, false)
  post(tenant.outbox)
end
return shown
