-- Puts the merged progress of changed jobs on the tenant feed, each at most once a second.
--
-- KEYS   1 tenant meta, 2 tenant events, 3 tenant channel, 4 tenant newest, 5 its order, 6 jobs with unshown
--        progress, 7 index of jobs, 8 tenant ids, 9 tenant producers, then of each job: meta, newest
-- ARGV   generation, epoch for a new tenant feed, life (ms), tenant newest (limit), least time between two (ms), job ids…
-- Returns the number of events

local now, gone, due = now_ms(), {}, {}
for i = 6, #ARGV do
  local job_meta, job_newest = KEYS[10 + (i - 6) * 2], KEYS[11 + (i - 6) * 2]
  local m = redis.call('HMGET', job_meta, 'e', 'f')
  local shown = tonumber(m[2] or 0)
  if not m[1] then
    gone[#gone + 1] = ARGV[i]
  elseif now - shown >= tonumber(ARGV[5]) or now < shown then
    local values = redis.call('HMGET', job_newest, 'training_progress\31\31', 'training_progress\31\0310')
    for v = 1, 2 do values[v] = values[v] and unpack_newest(values[v]) end
    due[#due + 1] = { id = ARGV[i], epoch = m[1], meta = job_meta, values = values }
  end
end

local done = gone
if #due > 0 then
  local tenant = open_tenant(ARGV[1], ARGV[2], tonumber(ARGV[3]))
  local meta = tenant.meta
  local made = {}
  if redis.call('HLEN', KEYS[4]) == 0 then made[KEYS[4]] = true end
  if redis.call('ZCARD', KEYS[5]) == 0 then made[KEYS[5]] = true end
  begin_tenant(tenant, meta.seq + #due, now)
  for _, job in ipairs(due) do
    add_progress(tenant, job.id, job.epoch, job.values, tonumber(ARGV[4]))
    redis.call('HSET', job.meta, 'f', now)
    done[#done + 1] = job.id
  end
  set_lives(meta, is_due(meta, meta.life, now), tenant_keys(), made, now)
  save_meta(meta)
  post(tenant.outbox)
end
-- Last: a job that stays here is only shown again.
if #done > 0 then redis.call('SREM', KEYS[6], unpack(done)) end
return #due
