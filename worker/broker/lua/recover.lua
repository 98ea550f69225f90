-- Finds executions of dead workers: their jobs go back to the front of their queue, or are handed to the caller.
--
-- KEYS: started registry, queue, lock, workers that may run the queue's jobs. ARGV: lock in ms, worker, lease, now,
-- horizon, attempts, most executions to end or to look at, seconds without a heartbeat after which an entry is looked
-- at, a random number from 0 to 1, prefixes of the deaths of a job, of jobs, executions and executions of a job,
-- pattern of a worker's executions, prefix of leases.
-- Returns: how many jobs went back, those that are to fail (their executions are now the caller's), and whether more
-- executions are dead, which the next look ends: a script must end soon.
--
-- The executions of a worker are dead when its lease is gone. The registry is not walked: it holds all running jobs.
-- Looked at are its entries whose time has run out, which is how an execution without a lease dies (another kind of
-- worker), and some of those that have had no heartbeat for a while: their worker has gone without a trace, or does
-- not count them as its own. What no RQ writes there, ids that no job has and keys of other types, is removed or read
-- as nothing.
--
-- A right that is missing in the midst, or a queue that is no list, would leave a job in no place: then nothing is done.
local worker, lease, now, horizon, attempts, most, silence = ARGV[2], ARGV[3], unpack(ARGV, 4, 8)
local deaths_of, jobs, executions, runs_of, worker_runs, leases = unpack(ARGV, 10)
now, horizon, most, attempts = tonumber(now), tonumber(horizon), tonumber(most), tonumber(attempts)
if not string.match(redis.call('TYPE', KEYS[2]).ok, '^[ln]') then return {0, {}, 0} end
for _, command in ipairs(redis.acl_check_cmd and { -- since Redis 7.0
  {'ZREM', KEYS[1], ''}, {'LPUSH', KEYS[2], ''}, {'INCR', deaths_of}, {'EXPIRE', deaths_of, 1}, {'HSET', jobs, '', ''},
  {'DEL', executions}, {'HSET', executions, '', ''}, {'EXPIRE', executions, 1}, {'ZADD', KEYS[1], 1, ''},
  {'SADD', string.format(worker_runs, worker), ''}, {'SREM', KEYS[4], ''},
} or {}) do
  if not redis.acl_check_cmd(unpack(command)) then
    error('NOPERM this user may not run ' .. command[1] .. ' as recovery needs')
  end
end
if not redis.call('SET', KEYS[3], worker, 'NX', 'PX', ARGV[1]) then return {0, {}, 0} end
local alive, dead, back, exhausted = {[lease] = 1}, {}, 0, {}
local function lives(key)
  if not alive[key] then alive[key] = redis.call('EXISTS', key) end
  return alive[key] == 1
end
local function belongs(member, name)
  return redis.pcall('SISMEMBER', string.format(worker_runs, name or ''), member) ~= 0
end
local function look_at(entries)
  for i = 1, #entries, 2 do
    local member, score = entries[i], tonumber(entries[i + 1])
    local fields = redis.pcall('HMGET', executions .. member, 'lease', 'worker_name')
    local ours = fields[1] and string.find(fields[1], leases, 1, true) == 1
    if not string.match(member, '^[%w_-]+:?[^:]*$') then
      redis.call('ZREM', KEYS[1], member)
    elseif ours and not (lives(fields[1]) and belongs(member, fields[2])) or not ours and score <= now then
      dead[#dead + 1] = {member, score, fields[2] or ''}
    end
  end
end
for _, name in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  if #dead <= most and not lives(leases .. name) then
    local before = #dead
    for _, member in ipairs(redis.pcall('SMEMBERS', string.format(worker_runs, name))) do
      local score = redis.call('ZSCORE', KEYS[1], member)
      if score then dead[#dead + 1] = {member, tonumber(score), name} end
    end
    if #dead == before then redis.call('SREM', KEYS[4], name) end
  end
end
local silent = now + horizon - silence
local skipped = math.floor(tonumber(ARGV[9]) * math.max(0, redis.call('ZCOUNT', KEYS[1], now, silent) - most))
look_at(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most))
look_at(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[4], silent, 'WITHSCORES', 'LIMIT', skipped, most))
table.sort(dead, function(a, b) return a[2] < b[2] end)
for i = #dead, math.max(1, #dead - most + 1), -1 do
  local member, name = dead[i][1], dead[i][3]
  local id, execution = string.match(member, '^([%w_-]+):?([^:]*)$')
  local job = jobs .. (id or '')
  if redis.call('ZREM', KEYS[1], member) == 1 and id then
    redis.call('DEL', executions .. member)
    redis.pcall('SREM', string.format(worker_runs, name), member)
    redis.pcall('ZREM', runs_of .. id, execution)
    if redis.call('TYPE', job).ok == 'hash' and redis.call('HGET', job, 'status') == 'started' then
      local deaths = redis.call('INCR', deaths_of .. id)
      redis.call('EXPIRE', deaths_of .. id, horizon)
      if deaths < attempts then
        redis.call('HSET', job, 'status', 'queued', 'worker_name', '')
        redis.call('LPUSH', KEYS[2], id)
        back = back + 1
      else
        execution = string.gsub(execution, '[^%w_-]', '') .. '-' .. deaths
        member = id .. ':' .. execution
        redis.call('HSET', executions .. member, 'id', execution, 'job_id', id, 'created_at', now,
                   'last_heartbeat', now, 'worker_name', worker, 'lease', lease)
        redis.call('ZADD', KEYS[1], now + horizon, member)
        redis.call('EXPIRE', executions .. member, horizon)
        redis.call('SADD', string.format(worker_runs, worker), member)
        redis.call('SADD', KEYS[4], worker)
        exhausted[#exhausted + 1] = {id, execution, name, redis.call('HGETALL', job)}
      end
    end
  end
end
if #dead > most then redis.call('DEL', KEYS[3]) end
return {back, exhausted, #dead > most and 1 or 0}
