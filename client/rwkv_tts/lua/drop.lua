-- Drops a finished job that was fetched, with all that lies beside it.
-- KEYS: job. ARGV: its results, the entry that was fetched, finished registry, job id, then the other keys to drop.
-- Returns 1, or 0 when there is a newer result, of a job that repeats: that one was not fetched.
--
-- Only the job is a declared key: a producer may read the others or write them, not both.
local last = redis.call('XREVRANGE', ARGV[1], '+', '-', 'COUNT', 1)
if not last[1] or last[1][1] ~= ARGV[2] then return 0 end
redis.call('DEL', ARGV[1], unpack(ARGV, 5))
if redis.call('HGET', KEYS[1], 'status') == 'finished' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', ARGV[3], ARGV[4])
end
return 1
