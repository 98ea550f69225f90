-- Notes that a running job is to stop, for the worker that runs it and for any that takes it over.
-- KEYS: job, jobs of its queue that are to stop. ARGV: its id, now, seconds after which nobody asks any more.
-- Returns 1, or 0 when it does not run.
if redis.call('HGET', KEYS[1], 'status') ~= 'started' then return 0 end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
