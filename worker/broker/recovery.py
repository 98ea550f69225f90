"""Finds jobs of dead workers: they go back to the front of their queue, or fail when it happens too often."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.queue import Queue
from rq.utils import now

from rwkv_tts.keys import DEATHS_PREFIX, LEASE_PREFIX, RECOVERY_PREFIX
from worker.broker.claim import (
    EXECUTION_PREFIX,
    EXECUTIONS_PREFIX,
    HORIZON_SECONDS,
    JOB_PREFIX,
    Claimed,
    Claimer,
)

# KEYS: started registry, queue, lock. ARGV: lock in ms, worker, lease, now, horizon, attempts, prefixes of the
# deaths of a job, of jobs, executions and executions of a job, pattern of a worker's executions, prefix of leases.
# An execution is dead when the lease that it names is gone, or, where it names none (another kind of worker), when
# its time in the registry has run out. What no RQ writes there, ids that no job has and keys of other types, is
# removed or read as nothing.
# Returns how many jobs went back, and those that are to fail: their executions are now the caller's.
_RECOVER = """
local worker, lease, now, horizon = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
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
"""

# KEYS: intermediate list, queue. ARGV: id. Stock workers of one queue leave ids there when they die early.
_RESCUE = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end
"""


@dataclass(frozen=True)
class Exhausted:
    """A job that must fail now, because too many workers have died while they ran it."""

    claimed: Claimed
    last_worker: str


class Recovery:
    """Looks after the jobs of dead workers.

    Args:
        connection: Redis.
        worker_name: RQ's name of the worker that looks.
        lease: Its lease.
        max_attempts: Starts of a job that may end in a worker's death.
        claimer: Reads the jobs that are to fail.
    """

    def __init__(
        self, connection: Redis, worker_name: str, lease: str, max_attempts: int, claimer: Claimer
    ) -> None:
        self._connection = connection
        self._worker, self._lease = worker_name, lease
        self._max_attempts = max_attempts
        self._claimer = claimer
        self._recover = connection.register_script(_RECOVER)
        self._rescue = connection.register_script(_RESCUE)

    def run(self, queue: Queue, lock_seconds: float) -> tuple[int, Sequence[Exhausted]]:
        """Look once, unless another worker has just done so.

        Returns:
            How many jobs went back to the queue, and the jobs that the caller must fail.
        """
        back, exhausted = self._recover(
            keys=[queue.started_job_registry.key, queue.key, RECOVERY_PREFIX + queue.name],
            args=[
                round(lock_seconds * 1000),
                self._worker,
                self._lease,
                now().timestamp(),
                HORIZON_SECONDS,
                self._max_attempts,
                DEATHS_PREFIX,
                JOB_PREFIX,
                EXECUTION_PREFIX,
                EXECUTIONS_PREFIX,
                WORKER_EXECUTIONS_KEY_TEMPLATE.format("%s"),
                LEASE_PREFIX,
            ],
        )
        jobs = [
            Exhausted(
                self._claimer.read(job_id.decode(), execution.decode(), flat, queue),
                worker.decode(errors="replace"),
            )
            for job_id, execution, worker, flat in exhausted
        ]
        return back, jobs

    def rescue(self, queue: Queue) -> None:
        """Put back what stock workers took off the queue and never started."""
        stranded = queue.intermediate_queue
        for raw_id in self._connection.lrange(stranded.key, 0, -1):
            job_id = raw_id.decode(errors="replace") if isinstance(raw_id, bytes) else raw_id
            if stranded.should_be_cleaned_up(job_id):
                self._rescue(keys=[stranded.key, queue.key], args=[raw_id])
            else:
                stranded.set_first_seen(job_id)
