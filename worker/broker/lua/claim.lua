-- Takes jobs off queues and starts them: a job is on a queue or it is running.
--
-- KEYS: suspended flag, the worker's executions and hash, then for each queue its list, its started registry, the set
-- of workers that may run its jobs, and its jobs that are to stop.
-- ARGV: count, now, horizon, worker, lease, now as RQ writes it, prefixes of jobs, executions and executions of a
-- job, jobs that run already, deaths of workers that make a job a suspect, prefixes of the keys that count them and of
-- what a job has kept, then an execution id for each job, how many jobs one queue may give before it is the next one's turn, and the most ids to
-- drop at once: a script must end soon.
-- Returns: suspended, ids that were dropped, the job must run alone, the next job must run alone, the jobs, each as
-- id, execution, index of its queue, the fields of its hash, whether it is to stop and whether it has kept something,
-- and the ids that no job may have.
--
-- A queue that is no list is left alone. A job whose id RQ would not write fails, or it would stay queued for ever.
-- A suspect runs alone, so that it takes no other job along should it be what kills workers. A job's keys are written
-- by producers, so their types are checked: an error in a script would leave what was written before it. The id
-- leaves its queue last for the same reason.
if redis.call('EXISTS', KEYS[1]) == 1 then return {1, 0, 0, 0, {}, {}} end
local count, now, horizon, worker, lease, iso = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), unpack(ARGV, 4, 6)
local running, deadly, most = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[#ARGV])
local in_a_row = tonumber(ARGV[#ARGV - 1])
local claimed, dropped, alone, blocked, refused = {}, 0, 0, 0, {}
local function runnable(id, job, runs)
  if redis.call('TYPE', job).ok ~= 'hash' then return false end
  if not string.match(id, '^[%w_-]+$') then
    redis.call('HSET', job, 'status', 'failed', 'exc_info', 'job id: accepted are letters, digits, - and _')
    redis.call('EXPIRE', job, horizon)
    refused[#refused + 1] = id
    return false
  end
  if not string.match(redis.call('TYPE', runs).ok, '^[nz]') then redis.call('DEL', runs) end
  local status = redis.call('HGET', job, 'status')
  if status == 'started' then return redis.call('ZCOUNT', runs, '(' .. now, '+inf') == 0 end
  return status ~= 'canceled' and status ~= 'finished'
end
-- A right that is missing in the midst of them would leave a job started and queued. (The check: since Redis 7.0.)
local function all_or_none(commands)
  for _, command in ipairs(commands) do
    if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(command)) then
      error('NOPERM this user may not run ' .. command[1] .. ' as the start of a job needs')
    end
  end
  for _, command in ipairs(commands) do redis.call(unpack(command)) end
end
repeat
  local before = #claimed
  for k = 4, #KEYS, 4 do
    local kind, notes = redis.call('TYPE', KEYS[k]).ok, redis.call('TYPE', KEYS[k + 3]).ok == 'zset'
    local last = math.min(count, #claimed + in_a_row)
    while kind == 'list' and #claimed < last and dropped < most and alone + blocked == 0 do
      local id = redis.call('LINDEX', KEYS[k], 0)
      if not id then break end
      local job, runs = ARGV[7] .. id, ARGV[9] .. id
      local fit = runnable(id, job, runs)
      if fit and (tonumber(redis.call('GET', ARGV[12] .. id)) or 0) >= deadly then
        if running + #claimed > 0 then
          blocked = 1
          break
        end
        alone = 1
      end
      if fit then
        local execution = ARGV[14 + #claimed]
        local member = id .. ':' .. execution
        local stop = notes and redis.call('ZSCORE', KEYS[k + 3], id)
        claimed[#claimed + 1] = {id, execution, k / 4, redis.call('HGETALL', job), stop and 1 or 0,
                                 redis.call('EXISTS', ARGV[13] .. id)}
        all_or_none({
          {'HSET', ARGV[8] .. member, 'id', execution, 'job_id', id, 'created_at', now, 'last_heartbeat', now,
           'worker_name', worker, 'lease', lease},
          {'EXPIRE', ARGV[8] .. member, horizon},
          {'ZADD', runs, now + horizon, execution},
          {'EXPIRE', runs, horizon},
          {'ZADD', KEYS[k + 1], now + horizon + #claimed * 1e-6, member},
          {'SADD', KEYS[2], member},
          {'SADD', KEYS[k + 2], worker},
          {'EXPIRE', KEYS[k + 2], horizon},
          {'HSET', job, 'status', 'started', 'started_at', iso, 'last_heartbeat', iso, 'worker_name', worker},
          {'PERSIST', job},
          {'LPOP', KEYS[k]},
        })
      else
        dropped = dropped + 1
        redis.call('LPOP', KEYS[k])
      end
    end
  end
until #claimed == before or in_a_row >= count
if #claimed > 0 then
  redis.call('EXPIRE', KEYS[2], horizon)
  redis.call('HSET', KEYS[3], 'state', 'busy')
end
return {0, dropped, alone, blocked, claimed, refused}
