-- Gives the turn to tell a job's watchers to one instance at a time.
--
-- KEYS   1 watchers (hash; see registry-share.lua)
-- ARGV   least time between two turns (ms)
-- Returns { 'told' }, { 'wait', ms }, or { 'turn', incarnation, changes, shares… }

local m = redis.call('HMGET', KEYS[1], ':i', ':n', ':told', ':turn')
if not m[2] or tonumber(m[3] or 0) >= tonumber(m[2]) then return { 'told' } end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local least = tonumber(ARGV[1])
local left = m[4] and tonumber(m[4]) + least - now or 0
-- More than the whole time: the clock was set back.
if left > 0 and left <= least then return { 'wait', left } end
redis.call('HSET', KEYS[1], ':turn', string.format('%d', now))
local reply = { 'turn', m[1], m[2] }
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 1) ~= ':' then reply[#reply + 1] = all[i + 1] end
end
return reply
