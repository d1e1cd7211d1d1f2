-- Adds a trainer to a job, or puts it in the place of the one with its id.
--
-- KEYS   1 trainers (hash): id → order, rank, instance; `:order` of the last announcement
-- ARGV   id, rank, instance, trainers (limit), life (ms)
-- Returns its order, or 0 if there are too many

local size = redis.call('HLEN', KEYS[1])
if size > tonumber(ARGV[4]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local order = redis.call('HINCRBY', KEYS[1], ':order', 1)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', order) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return order
