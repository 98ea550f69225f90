-- Enqueues the jobs whose time has come.
-- KEYS: scheduled registry, queue. ARGV: now, limit, prefix of jobs, now as RQ writes it.
-- Returns the jobs with a rate limit, which wait for a slot instead, each as id and the fields of its hash.
local limited = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])) do
  local job = ARGV[3] .. id
  local exists = string.match(id, '^[%w_-]+$') and redis.call('TYPE', job).ok == 'hash'
  if exists and redis.call('HEXISTS', job, 'rate_limit_key') == 1 then
    limited[#limited + 1] = {id, redis.call('HGETALL', job)}
  else
    redis.call('ZREM', KEYS[1], id)
    if exists then
      local front = redis.call('HMGET', job, 'enqueue_at_front', 'enqueue_at_front_on_retry', 'ended_at')
      local first = front[1] == '1' or (front[2] == '1' and front[3] and front[3] ~= '')
      redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[4])
      redis.call(first and 'LPUSH' or 'RPUSH', KEYS[2], id)
    end
  end
end
return limited
