-- Finds executions of dead workers: their jobs go back to the front of their queue, or are handed to the caller.
--
-- KEYS: started registry, queue, lock. ARGV: lock in ms, worker, lease, now, horizon, attempts, prefixes of the deaths
-- of a job, of jobs, executions and executions of a job, pattern of a worker's executions, prefix of leases.
-- Returns: how many jobs went back, and those that are to fail: their executions are now the caller's.
--
-- An execution is dead when the lease that it names is gone, or, where it names none (another kind of worker), when
-- its time in the registry has run out. What no RQ writes there, ids that no job has and keys of other types, is
-- removed or read as nothing.
--
-- A right that is missing in the midst, or a queue that is no list, would leave a job in no place: then nothing is done.
local worker, lease, now, horizon = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if not string.match(redis.call('TYPE', KEYS[2]).ok, '^[ln]') then return {0, {}} end
for _, command in ipairs(redis.acl_check_cmd and { -- since Redis 7.0
  {'ZREM', KEYS[1], ''}, {'LPUSH', KEYS[2], ''}, {'INCR', ARGV[7]}, {'EXPIRE', ARGV[7], 1}, {'HSET', ARGV[8], '', ''},
  {'DEL', ARGV[9]}, {'HSET', ARGV[9], '', ''}, {'EXPIRE', ARGV[9], 1}, {'ZADD', KEYS[1], 1, ''},
  {'SADD', string.format(ARGV[11], worker), ''},
} or {}) do
  if not redis.acl_check_cmd(unpack(command)) then
    error('NOPERM this user may not run ' .. command[1] .. ' as recovery needs')
  end
end
if not redis.call('SET', KEYS[3], worker, 'NX', 'PX', ARGV[1]) then return {0, {}} end
local alive, back, exhausted = {[lease] = 1}, {}, {}
local function dead(fields, score)
  if not fields[1] or string.find(fields[1], ARGV[12], 1, true) ~= 1 then return tonumber(score) <= now end
  if not alive[fields[1]] then alive[fields[1]] = redis.call('EXISTS', fields[1]) end
  return alive[fields[1]] == 0
end
local entries = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #entries, 2 do
  local member, id, execution = entries[i], string.match(entries[i], '^([%w_-]+):?([^:]*)$')
  local fields = redis.pcall('HMGET', ARGV[9] .. member, 'lease', 'worker_name')
  if not id then
    redis.call('ZREM', KEYS[1], member)
  elseif dead(fields, entries[i + 1]) then
    local job, runs = ARGV[8] .. id, ARGV[10] .. id
    redis.call('ZREM', KEYS[1], member)
    redis.call('DEL', ARGV[9] .. member)
    redis.pcall('SREM', string.format(ARGV[11], fields[2] or ''), member)
    redis.pcall('ZREM', runs, execution)
    if redis.call('TYPE', job).ok == 'hash' and redis.call('HGET', job, 'status') == 'started' then
      local deaths = redis.call('INCR', ARGV[7] .. id)
      redis.call('EXPIRE', ARGV[7] .. id, horizon)
      if deaths < tonumber(ARGV[6]) then
        redis.call('HSET', job, 'status', 'queued', 'worker_name', '')
        back[#back + 1] = id
      else
        execution = string.gsub(execution, '[^%w_-]', '') .. '-' .. deaths
        member = id .. ':' .. execution
        redis.call('HSET', ARGV[9] .. member, 'id', execution, 'job_id', id, 'created_at', now,
                   'last_heartbeat', now, 'worker_name', worker, 'lease', lease)
        redis.call('ZADD', KEYS[1], now + horizon, member)
        redis.call('EXPIRE', ARGV[9] .. member, horizon)
        redis.call('SADD', string.format(ARGV[11], worker), member)
        exhausted[#exhausted + 1] = {id, execution, fields[2] or '', redis.call('HGETALL', job)}
      end
    end
  end
end
for i = #back, 1, -1 do redis.call('LPUSH', KEYS[2], back[i]) end
return {#back, exhausted}
