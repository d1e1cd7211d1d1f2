-- Adds a trainer to a job, or puts it in the place of the one with its id.
--
-- KEYS   1 trainers (hash): id → order, rank, instance; `:order` of the last announcement
-- ARGV   id, rank, instance, trainers (limit), life (ms), '' or how the names of this instance begin: then one that
--        another has announced stays
-- Returns its order, 0 if there are too many, or -1 if it is another's

local size = redis.call('HLEN', KEYS[1])
if size > tonumber(ARGV[4]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and ARGV[6] ~= '' then
  local name = string.match(known, '^%d+ %d+ (.*)$')
  if string.sub(name, 1, #ARGV[6]) ~= ARGV[6] then return -1 end
end
local order = redis.call('HINCRBY', KEYS[1], ':order', 1)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', order) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return order
