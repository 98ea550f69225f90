"""Takes jobs off a queue, as many as there is room for, without a moment in which a crash could lose one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from redis import Redis
from rq.executions import Execution
from rq.job import validate_job_id
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED

from worker.jobs import RawJob, SpeechJob, read_request, restore_job, unreadable_job
from worker.schema import RequestError, SynthesisRequest

# Moves up to ARGV[1] ids from the queue to its intermediate list, where maintenance finds those whose worker
# died, and returns each with its hash. Takes nothing while workers are suspended.
_CLAIM = """
if redis.call('EXISTS', KEYS[3]) == 1 then return {} end
local claimed = {}
for i = 1, tonumber(ARGV[1]) do
  local id = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  if not id then break end
  local hash = redis.pcall('HGETALL', ARGV[2] .. id)
  claimed[i] = {id, hash.err and {} or hash}
end
return claimed
"""


@dataclass
class Claimed:
    """A job taken off a queue: with a request to serve, or with the reason why it is refused."""

    job: SpeechJob
    queue: Queue
    request: SynthesisRequest | None
    refusal: str | None
    execution: Execution = field(init=False)


class Claimer:
    """Claims jobs from one Redis.

    Args:
        connection: Redis.
        payload_limit: Bytes that a job's decoded data may have.
    """

    def __init__(self, connection: Redis, payload_limit: int) -> None:
        self._connection = connection
        self._script = connection.register_script(_CLAIM)
        self._payload_limit = payload_limit

    def claim(self, queue: Queue, count: int, running: Collection[str] = ()) -> tuple[int, list[Claimed]]:
        """Take up to ``count`` jobs.

        Args:
            queue: Where to take them.
            count: How many at most.
            running: Ids of jobs that the caller already runs.

        Returns:
            The number of ids taken, and the jobs to start; ids of jobs that were deleted or cancelled
            meanwhile, and ids that came twice, are dropped.
        """
        keys = [queue.key, queue.intermediate_queue_key, WORKERS_SUSPENDED]
        pairs = self._script(keys=keys, args=[count, SpeechJob.redis_job_namespace_prefix])
        claimed, dropped, seen = [], [], set(running)
        for raw_id, flat in pairs:
            raw = dict(zip(flat[::2], flat[1::2], strict=True))
            job = self._read(raw_id, raw, queue)
            if job is None or job.job.id in seen:
                dropped.append(raw_id)
            else:
                seen.add(job.job.id)
                claimed.append(job)
        self._drop(queue, dropped)
        return len(pairs), claimed

    def _read(self, raw_id: bytes, raw: RawJob, queue: Queue) -> Claimed | None:
        if not raw or raw.get(b"status") in (b"canceled", b"finished"):
            return None
        try:
            job_id = raw_id.decode()
            validate_job_id(job_id)
        except ValueError:  # no RQ client makes such an id and no RQ tool could look it up
            return None
        try:
            request = read_request(raw, self._payload_limit)
            job = restore_job(job_id, raw, self._connection)
        except RequestError as error:
            return Claimed(self._refused(job_id, raw, queue), queue, None, str(error))
        job.origin = job.origin or queue.name
        return Claimed(job, queue, request, None)

    def _refused(self, job_id: str, raw: RawJob, queue: Queue) -> SpeechJob:
        """The job of a refused hash, without its data, which may not even be safe to inflate."""
        try:
            job = restore_job(job_id, {**raw, b"data": b""}, self._connection)
        except RequestError:
            return unreadable_job(job_id, queue.name, self._connection)
        job.origin = job.origin or queue.name
        return job

    def _drop(self, queue: Queue, raw_ids: Sequence[bytes]) -> None:
        if raw_ids:
            with self._connection.pipeline() as pipeline:
                for raw_id in raw_ids:
                    pipeline.lrem(queue.intermediate_queue_key, 1, raw_id)  # type: ignore[arg-type]
                pipeline.execute()
