"""Takes jobs off queues and starts them, in one atomic step: a job is on a queue or it is running."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from loguru import logger
from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now, utcformat

from rwkv_tts.keys import CANCELLED_PREFIX, DEATHS_PREFIX, HOLDERS_PREFIX, KEPT_PREFIX
from rwkv_tts.refusal import Cause, Refusal, RequestError
from worker.broker.jobs import HeldJob, RawJob, read_request, restore_job
from worker.broker.scripts import lua
from worker.broker.turns import Turns

MOST_DROPPED = 1000
"""Ids that one look at the queues takes off without starting a job: the script blocks Redis meanwhile."""

_SHOWN = 5
HORIZON_SECONDS = 24 * 3600
"""RQ's own tools fail an execution after so long without a heartbeat; leases are watched far more closely."""

JOB_PREFIX = Job.redis_job_namespace_prefix
EXECUTION_PREFIX = f"{RQ_KEY_PREFIX}:execution:"
EXECUTIONS_PREFIX = ExecutionRegistry.key_template.format("")


@dataclass(frozen=True)
class Claimed:
    """A job that this worker has started.

    Attributes:
        request: The JSON value that its call brings.
        refusal: Why it must fail instead of being served.
        stop: It was cancelled where it ran before, so that it must stop at once.
        begun: An earlier execution has kept something for this one.
    """

    job: HeldJob
    queue: Queue
    execution: Execution
    request: Any = None
    refusal: Refusal | None = None
    stop: bool = False
    begun: bool = False

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

    Attributes:
        turns: In which order the queues are served.
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
        self.turns = Turns(queues)
        self._worker, self._worker_key, self._lease = worker_name, worker_key, lease
        self._script = connection.register_script(lua("claim"))
        self._payload_limit, self._deadly = payload_limit, deadly

    def claim(self, count: int, running: int = 0) -> Claim:
        """Start up to ``count`` jobs, while ``running`` others run.

        Ids that no longer name a job, of cancelled or finished jobs, and of jobs that run already are dropped.
        """
        keys = [WORKERS_SUSPENDED, WORKER_EXECUTIONS_KEY_TEMPLATE.format(self._worker), self._worker_key]
        queues = self.turns.order()
        for queue in queues:
            keys += [queue.key, queue.started_job_registry.key]
            keys += [HOLDERS_PREFIX + queue.name, CANCELLED_PREFIX + queue.name]
        moment = now()
        times = (moment.timestamp(), HORIZON_SECONDS, self._worker, self._lease, utcformat(moment))
        prefixes = (JOB_PREFIX, EXECUTION_PREFIX, EXECUTIONS_PREFIX)
        suspects = (running, self._deadly, DEATHS_PREFIX, KEPT_PREFIX)
        executions = [uuid4().hex for _ in range(count)]
        limits = (self.turns.in_a_row(count), MOST_DROPPED)
        suspended, dropped, alone, blocked, pairs, refused = self._script(
            keys=keys, args=[count, *times, *prefixes, *suspects, *executions, *limits]
        )
        if refused:
            shown = ", ".join(repr(job_id.decode(errors="replace")[:80]) for job_id in refused[:_SHOWN])
            logger.warning("{} jobs failed: no job may have an id such as {}", len(refused), shown)
        jobs = [
            replace(
                self.read(job_id.decode(), execution.decode(), flat, queues[index - 1]),
                stop=bool(stop),
                begun=bool(begun),
            )
            for job_id, execution, index, flat, stop, begun in pairs
        ]
        if jobs:
            self.turns.served(jobs[-1].queue)
        return Claim(bool(suspended), dropped, bool(alone), bool(blocked), jobs)

    def disown(self) -> None:
        """Let what an earlier worker of this name has left running be that of a worker that is dead."""
        gone = f"{self._worker}:gone"
        mine, its = (WORKER_EXECUTIONS_KEY_TEMPLATE.format(name) for name in (self._worker, gone))
        if not self._connection.exists(mine):
            return
        with self._connection.pipeline() as pipeline:
            pipeline.rename(mine, its)
            for queue in self._queues:
                pipeline.sadd(HOLDERS_PREFIX + queue.name, gone)
            pipeline.execute()

    def read_members(self, members: Collection[str]) -> Iterator[Claimed]:
        """The jobs of entries that belong to this worker, in one round trip.

        A job's hash may name another queue than it was on, so that the registries are asked.
        """
        with self._connection.pipeline(transaction=False) as pipeline:
            for member in members:
                pipeline.hgetall(JOB_PREFIX + member.rpartition(":")[0])
                for queue in self._queues:
                    pipeline.zscore(queue.started_job_registry.key, member)
            replies = iter(pipeline.execute(raise_on_error=False))
        for member in members:
            raw, *scores = [next(replies) for _ in range(1 + len(self._queues))]
            holding = [isinstance(score, float) for score in scores]
            queue = self._queues[holding.index(True) if True in holding else 0]
            fields = raw if isinstance(raw, dict) else {}
            job_id, _, execution_id = member.rpartition(":")
            yield self.read(job_id, execution_id, [part for pair in fields.items() for part in pair], queue)

    def read(self, job_id: str, execution_id: str, flat: Sequence[bytes], queue: Queue) -> Claimed:
        """The job of a hash, as Redis lists it, whose execution belongs to this worker."""
        raw: RawJob = dict(zip(flat[::2], flat[1::2], strict=True))
        job = restore_job(job_id, raw, self._connection, queue.name)
        execution = Execution(execution_id, job_id, self._connection, self._worker)
        job.started_at = job.last_heartbeat = execution.created_at
        job.worker_name = self._worker
        job._status = JobStatus.STARTED
        if job.unreadable:
            problem = f"its hash is not readable ({job.unreadable}); accepted: what RQ writes"
            return Claimed(job, queue, execution, refusal=Refusal("job", Cause.INVALID, problem))
        try:
            return Claimed(job, queue, execution, read_request(raw, self._payload_limit))
        except RequestError as error:
            return Claimed(job, queue, execution, refusal=error.refusal)
