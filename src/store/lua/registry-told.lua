-- Notes that a job's watchers have been told.
--
-- KEYS   1 watchers (hash; see registry-share.lua)
-- ARGV   incarnation, changes that were told
-- Returns 1 if that was news

local m = redis.call('HMGET', KEYS[1], ':i', ':told')
if m[1] ~= ARGV[1] or tonumber(m[2] or 0) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ':told', ARGV[2])
return 1
