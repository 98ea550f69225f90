"""Takes jobs off queues and starts them, in one atomic step: a job is on a queue or it is running."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now, utcformat

from rwkv_tts.keys import DEATHS_PREFIX
from rwkv_tts.schema import RequestError, SynthesisRequest
from worker.broker.jobs import RawJob, SpeechJob, read_request, restore_job

HORIZON_SECONDS = 24 * 3600
"""RQ's own tools fail an execution after so long without a heartbeat; leases are watched far more closely."""

JOB_PREFIX = Job.redis_job_namespace_prefix
EXECUTION_PREFIX = f"{RQ_KEY_PREFIX}:execution:"
EXECUTIONS_PREFIX = ExecutionRegistry.key_template.format("")

# KEYS: suspended flag, the worker's executions and hash, then for each queue its list and its started registry.
# ARGV: count, now, horizon, worker, lease, now as RQ writes it, prefixes of jobs, executions and executions of a
# job, jobs that run already, deaths of workers that make a job a suspect, prefix of the keys that count them, then
# an execution id for each job. A suspect runs alone, so that it takes no other job along should it be what kills
# workers. A job's keys are written by producers, so their types are checked: an error in a script would leave what
# was written before it. The id leaves its queue last for the same reason.
_CLAIM = """
if redis.call('EXISTS', KEYS[1]) == 1 then return {1, 0, 0, 0, {}} end
local count, now, horizon, worker, lease, iso = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), unpack(ARGV, 4, 6)
local running, deadly = tonumber(ARGV[10]), tonumber(ARGV[11])
local claimed, dropped, alone, blocked = {}, 0, 0, 0
local function runnable(id, job, runs)
  if not string.match(id, '^[%w_-]+$') or redis.call('TYPE', job).ok ~= 'hash' then return false end
  if not string.match(redis.call('TYPE', runs).ok, '^[nz]') then redis.call('DEL', runs) end
  local status = redis.call('HGET', job, 'status')
  if status == 'started' then return redis.call('ZCOUNT', runs, '(' .. now, '+inf') == 0 end
  return status ~= 'canceled' and status ~= 'finished'
end
for k = 4, #KEYS, 2 do
  while #claimed < count and alone + blocked == 0 do
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
      local execution = ARGV[13 + #claimed]
      local member = id .. ':' .. execution
      claimed[#claimed + 1] = {id, execution, (k - 2) / 2, redis.call('HGETALL', job)}
      redis.call('HSET', ARGV[8] .. member, 'id', execution, 'job_id', id, 'created_at', now,
                 'last_heartbeat', now, 'worker_name', worker, 'lease', lease)
      redis.call('EXPIRE', ARGV[8] .. member, horizon)
      redis.call('ZADD', runs, now + horizon, execution)
      redis.call('EXPIRE', runs, horizon)
      redis.call('ZADD', KEYS[k + 1], now + horizon + #claimed * 1e-6, member)
      redis.call('SADD', KEYS[2], member)
      redis.call('HSET', job, 'status', 'started', 'started_at', iso, 'last_heartbeat', iso, 'worker_name', worker)
      redis.call('PERSIST', job)
    else
      dropped = dropped + 1
    end
    redis.call('LPOP', KEYS[k])
  end
end
if #claimed > 0 then
  redis.call('EXPIRE', KEYS[2], horizon)
  redis.call('HSET', KEYS[3], 'state', 'busy')
end
return {0, dropped, alone, blocked, claimed}
"""


@dataclass(frozen=True)
class Claimed:
    """A job that this worker has started: with a request to serve, or with the reason why it is refused."""

    job: SpeechJob
    queue: Queue
    execution: Execution
    request: SynthesisRequest | None
    refusal: str | None

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def member(self) -> str:
        """The entry in the queue's started registry: who holds it may finish the job."""
        return f"{self.job.id}:{self.execution.id}"


@dataclass(frozen=True)
class Claim:
    """What one look at the queues has brought.

    Attributes:
        suspended: Workers are suspended; nothing was taken.
        dropped: Ids that were taken off and name nothing that could run.
        alone: The job that was taken must run alone.
        blocked: The next job must run alone and waits for the end of those that run.
    """

    suspended: bool
    dropped: int
    alone: bool
    blocked: bool
    claimed: Sequence[Claimed]


class Claimer:
    """Claims jobs for one worker.

    Args:
        connection: Redis.
        queues: By priority.
        worker_name: RQ's name of the worker.
        worker_key: Redis key of its hash.
        lease: The key that is there as long as the worker lives.
        payload_limit: Bytes that a job's decoded data may have.
        deadly: Deaths of workers after which a job runs alone.
    """

    def __init__(
        self,
        connection: Redis,
        queues: Sequence[Queue],
        worker_name: str,
        worker_key: str,
        lease: str,
        payload_limit: int,
        deadly: int,
    ) -> None:
        self._connection = connection
        self._queues = queues
        self._worker, self._worker_key, self._lease = worker_name, worker_key, lease
        self._script = connection.register_script(_CLAIM)
        self._payload_limit, self._deadly = payload_limit, deadly

    def claim(self, count: int, running: int = 0) -> Claim:
        """Start up to ``count`` jobs, while ``running`` others run.

        Ids that no longer name a job, of cancelled or finished jobs, and of jobs that run already are dropped.
        """
        keys = [WORKERS_SUSPENDED, WORKER_EXECUTIONS_KEY_TEMPLATE.format(self._worker), self._worker_key]
        for queue in self._queues:
            keys += [queue.key, queue.started_job_registry.key]
        moment = now()
        suspended, dropped, alone, blocked, pairs = self._script(
            keys=keys,
            args=[
                count,
                moment.timestamp(),
                HORIZON_SECONDS,
                self._worker,
                self._lease,
                utcformat(moment),
                JOB_PREFIX,
                EXECUTION_PREFIX,
                EXECUTIONS_PREFIX,
                running,
                self._deadly,
                DEATHS_PREFIX,
                *(uuid4().hex for _ in range(count)),
            ],
        )
        jobs = [
            self.read(job_id.decode(), execution.decode(), flat, self._queues[index - 1])
            for job_id, execution, index, flat in pairs
        ]
        return Claim(bool(suspended), dropped, bool(alone), bool(blocked), jobs)

    def owned(self, queue: Queue, known: Collection[str]) -> Iterator[Claimed]:
        """The jobs that this worker has started, as Redis sees it, besides those that it knows of."""
        registry = queue.started_job_registry.key
        found: list[Any] = self._connection.zrange(registry, 0, -1)
        unknown = [m for m in (raw.decode(errors="replace") for raw in found) if m not in known]
        with self._connection.pipeline(transaction=False) as pipeline:
            for member in unknown:
                pipeline.hget(EXECUTION_PREFIX + member, "lease")
            leases = pipeline.execute(raise_on_error=False)
        for member, lease in zip(unknown, leases, strict=True):
            if lease == self._lease.encode():
                job_id, _, execution_id = member.rpartition(":")
                raw: dict[Any, Any] = self._connection.hgetall(JOB_PREFIX + job_id)
                yield self.read(job_id, execution_id, [part for pair in raw.items() for part in pair], queue)

    def read(self, job_id: str, execution_id: str, flat: Sequence[bytes], queue: Queue) -> Claimed:
        """The job of a hash, as Redis lists it, whose execution belongs to this worker."""
        raw: RawJob = dict(zip(flat[::2], flat[1::2], strict=True))
        job = restore_job(job_id, raw, self._connection, queue.name)
        execution = Execution(execution_id, job_id, self._connection, self._worker)
        job.started_at = job.last_heartbeat = execution.created_at
        job.worker_name = self._worker
        job._status = JobStatus.STARTED
        try:
            request, refusal = read_request(raw, self._payload_limit), None
        except RequestError as error:
            request, refusal = None, str(error)
        if job.unreadable:
            request = None
            refusal = f"job: its hash is not readable ({job.unreadable}); accepted: what RQ writes"
        return Claimed(job, queue, execution, request, refusal)
