"""What RQ writes when a job ends, as commands that a script can run under a condition."""

from datetime import timedelta
from typing import Any

from loguru import logger
from redis import Redis
from redis.client import Pipeline
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.job import JobStatus
from rq.repeat import Repeat
from rq.results import Result
from rq.utils import now

from rwkv_tts.keys import CANCELLED_PREFIX, DEATHS_PREFIX, FUNCTION, REFUSAL_FIELD, chunks_key, kept_key
from rwkv_tts.refusal import Refusal
from worker.broker.claim import EXECUTION_PREFIX, EXECUTIONS_PREFIX, Claimed
from worker.broker.jobs import POSTPONED, HeldJob
from worker.broker.outcome import Fate, Outcome
from worker.broker.tolerance import is_malformed

Commands = list[list[Any]]

_LEAST_HEARD_SECONDS = 60
"""A stream stays for so long after its end, whatever becomes of its result: a listener may be behind."""

_HEAVY_SECONDS = 3600
"""How long a failed job is kept at most that takes as much room as audio, unless its producer says."""

_SPENT: tuple[Any, ...] = (FUNCTION, None, (), {})
"""What is left of the call of a finished job that took as much room."""


class _Result(Result):
    """RQ's, whose entry also says why a job has failed; RQ reads the fields that it knows."""

    refusal: Refusal | None = None

    def serialize(self) -> dict[str, Any]:
        """The fields of its entry."""
        told = {} if self.refusal is None else {REFUSAL_FIELD: self.refusal.dump()}
        return super().serialize() | told


class Recorder:
    """Records the commands that RQ's own methods would send.

    Args:
        connection: Redis; nothing is sent.
        worker_name: RQ's name of the worker.
        worker_key: Redis key of the worker's hash, which counts its jobs.
        result_ttl: Seconds that a result is kept where the job does not say; -1 for ever.
        failure_ttl: The same of a job that has failed.
    """

    def __init__(
        self, connection: Redis, worker_name: str, worker_key: str, result_ttl: int, failure_ttl: int
    ) -> None:
        self._connection = connection
        self._worker, self._worker_key = worker_name, worker_key
        self._executions_key = WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker_name)
        self._result_ttl, self._failure_ttl = result_ttl, failure_ttl

    def commands(self, outcome: Outcome) -> Commands:
        """The commands that record an outcome; a failure where RQ stumbles over the job."""
        try:
            return self._of(outcome)
        except Exception as error:
            if not is_malformed(error):
                raise
            logger.error("job {job}: its outcome cannot be recorded: {!r}", error, job=outcome.claimed.id)
            return self.defect(outcome, f"{type(error).__name__}: {str(error)[:200]!r}")

    def defect(self, outcome: Outcome, error: str) -> Commands:
        """The commands that fail a job in the plainest way, because Redis or RQ does not take its outcome."""
        job, registry = outcome.claimed.job, outcome.claimed.queue.failed_job_registry
        ttl = self._failed_seconds(job)
        reason = f"storage: {error}; the job's keys in Redis are not what RQ writes"
        with self._connection.pipeline() as pipeline:
            failure: dict[Any, Any] = {"status": JobStatus.FAILED.value, "exc_info": reason}
            pipeline.hset(job.key, mapping=failure)
            job.cleanup(ttl, pipeline=pipeline, remove_from_queue=False)
            pipeline.zadd(registry.key, {job.id: ttl if ttl < 0 else now().timestamp() + ttl})
            self.forget(outcome.claimed, pipeline)
            return take(pipeline)

    def _of(self, outcome: Outcome) -> Commands:
        with self._connection.pipeline() as pipeline:
            if outcome.fate is Fate.FINISHED:
                self._record_success(outcome, pipeline)
            elif outcome.delay:
                self._record_delay(outcome, pipeline)
            elif outcome.fate is Fate.PUT_BACK:
                outcome.claimed.queue._enqueue_job(outcome.claimed.job, pipeline=pipeline, at_front=True)
            elif outcome.tries_again:
                self._record_retry(outcome, pipeline)
            else:
                self._record_failure(outcome, pipeline)
            if outcome.fate is not Fate.PUT_BACK:
                pipeline.delete(DEATHS_PREFIX + outcome.claimed.id)
            if outcome.fate is not Fate.PUT_BACK and not outcome.tries_again:
                pipeline.zrem(CANCELLED_PREFIX + outcome.claimed.job.origin, outcome.claimed.id)
                if outcome.claimed.job.postponed_at is not None:
                    pipeline.hdel(outcome.claimed.job.key, POSTPONED)
                if outcome.claimed.job.made:
                    self._end_progress(outcome, pipeline)
            self.forget(outcome.claimed, pipeline)
            return take(pipeline)

    def _record_success(self, outcome: Outcome, pipeline: Pipeline) -> None:
        job, queue = outcome.claimed.job, outcome.claimed.queue
        job.ended_at = outcome.ended_at
        self._count("successful_job_count", outcome, pipeline)
        ttl = job.get_result_ttl(self._result_ttl)
        if ttl != 0:
            for key, content in outcome.attachments.items():
                pipeline.set(key, content, ex=ttl if ttl > 0 else None)
            job._status = JobStatus.FINISHED
            job.save(pipeline=pipeline)
            self._record_result(outcome, Result.Type.SUCCESSFUL, ttl, pipeline)
            queue.finished_job_registry.add(job, ttl, pipeline)
        if (job.repeats_left or 0) > 0:
            repeats = job.repeats_left, job.repeat_intervals
            Repeat.schedule(job, queue, pipeline=pipeline)
            job.repeats_left, job.repeat_intervals = repeats
        else:
            if job.heavy and ttl != 0:
                pipeline.hset(job.key, "data", job.serializer.dumps(_SPENT))
            job.cleanup(ttl, pipeline=pipeline, remove_from_queue=False)
            job._status = JobStatus.FINISHED

    def _end_progress(self, outcome: Outcome, pipeline: Pipeline) -> None:
        """Tell listeners that there is no more, and keep for as long as a result what they have not heard yet."""
        job, ttl = outcome.claimed.job, outcome.claimed.job.get_result_ttl(self._result_ttl)
        pipeline.delete(kept_key(job.id))
        if job.heard:
            key = chunks_key(job.id)
            pipeline.xadd(key, {"end": outcome.fate.value}, id=f"{job.made + 1}-0")
            if ttl < 0:
                pipeline.persist(key)
            else:
                pipeline.expire(key, max(ttl, _LEAST_HEARD_SECONDS))

    def _record_retry(self, outcome: Outcome, pipeline: Pipeline) -> None:
        """As ``Job.retry``, which would write the status before the transaction."""
        job, queue = outcome.claimed.job, outcome.claimed.queue
        self._count("failed_job_count", outcome, pipeline)
        job.ended_at = outcome.ended_at
        interval, left = job.get_retry_interval(), job.retries_left
        job.retries_left = (left or 0) - 1
        if interval:
            queue.schedule_job(job, now() + timedelta(seconds=interval), pipeline=pipeline)
        else:
            queue._enqueue_job(job, pipeline=pipeline, at_front=job.enqueue_at_front_on_retry)
        job.retries_left = left

    def _record_delay(self, outcome: Outcome, pipeline: Pipeline) -> None:
        job, moment = outcome.claimed.job, now()
        outcome.claimed.queue.schedule_job(job, moment + timedelta(seconds=outcome.delay), pipeline=pipeline)
        pipeline.hsetnx(job.key, POSTPONED, str(moment.timestamp()))

    def _record_failure(self, outcome: Outcome, pipeline: Pipeline) -> None:
        job, queue = outcome.claimed.job, outcome.claimed.queue
        job.ended_at, ttl = outcome.ended_at, self._failed_seconds(outcome.claimed.job)
        self._count("failed_job_count", outcome, pipeline)
        job.set_status(outcome.fate.value, pipeline=pipeline)
        queue.failed_job_registry.add(job, ttl=ttl, exc_string=outcome.reason, pipeline=pipeline)
        self._record_result(outcome, Result.Type.FAILED, ttl, pipeline)

    def _failed_seconds(self, job: HeldJob) -> int:
        """How long a failed job is kept; -1 for ever."""
        if job.failure_ttl is not None:
            return job.failure_ttl
        return self._failure_ttl if 0 <= self._failure_ttl < _HEAVY_SECONDS or not job.heavy else _HEAVY_SECONDS

    def _record_result(self, outcome: Outcome, kind: Result.Type, ttl: int, pipeline: Pipeline) -> None:
        job, execution = outcome.claimed.job, outcome.claimed.execution
        result = _Result(
            job.id,
            kind,
            job.connection,
            return_value=outcome.result,
            exc_string=outcome.reason or None,
            worker_name=self._worker,
            serializer=job.serializer,
            execution_id=execution.id,
            execution_started_at=execution.created_at,
            execution_ended_at=job.ended_at,
        )
        result.refusal = outcome.refusal
        result.save(ttl=ttl, pipeline=pipeline)

    def forget(self, claimed: Claimed, pipeline: Pipeline) -> None:
        """Forget the execution; the fence itself falls last."""
        pipeline.delete(EXECUTION_PREFIX + claimed.member)
        pipeline.zrem(EXECUTIONS_PREFIX + claimed.id, claimed.execution.id)
        pipeline.srem(self._executions_key, claimed.member)
        pipeline.zrem(claimed.queue.started_job_registry.key, claimed.member)

    def _count(self, field: str, outcome: Outcome, pipeline: Pipeline) -> None:
        pipeline.hincrby(self._worker_key, field, 1)
        worked = outcome.ended_at - outcome.claimed.execution.created_at
        pipeline.hincrbyfloat(self._worker_key, "total_working_time", worked.total_seconds())


def take(pipeline: Pipeline) -> Commands:
    """The commands that were recorded on a pipeline, which forgets them."""
    commands = [list(args) for args, _ in pipeline.command_stack]
    pipeline.command_stack.clear()
    return commands
