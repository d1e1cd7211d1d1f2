-- Writes one series of a job, as it is after folding, if nobody else has written it meanwhile.
--
-- KEYS   1 meta, 2 series (hash), 3 buckets (hash)
-- ARGV   epoch, field (the series' slot, or `dropped`), name of the series ('' for `dropped`), its state as it was read
--        ('' for none), then fields of the buckets' hash and their texts in turns; the state is one of them
-- Returns 1 if it was written
--
-- One HSET writes state and buckets, so that a script that breaks leaves both or none. A slot is taken when it has a
-- name: what lies under one without is of a script that broke, and is overwritten.

local meta = redis.call('HMGET', KEYS[1], 'e', 'x')
if meta[1] ~= ARGV[1] then return 0 end
local slot, name = ARGV[2], ARGV[3]
local known = name ~= '' and redis.call('HGET', KEYS[2], slot)
if known and known ~= name then return 0 end
local state = ''
if known or name == '' then state = redis.call('HGET', KEYS[3], slot) or '' end
if state ~= ARGV[4] then return 0 end
redis.call('HSET', KEYS[3], unpack(ARGV, 5))
redis.call('PEXPIREAT', KEYS[3], meta[2])
if name ~= '' and not known then
  redis.call('HSET', KEYS[2], slot, name)
  redis.call('PEXPIREAT', KEYS[2], meta[2])
end
return 1
