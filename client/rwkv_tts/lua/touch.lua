-- Writes to a job what is there, so that WAIT on this connection waits for all that was written of the job before.
-- KEYS: job. Returns 1, or 0 when there is no such job.
local origin = redis.call('HGET', KEYS[1], 'origin')
if not origin then return 0 end
redis.call('HSET', KEYS[1], 'origin', origin)
return 1
