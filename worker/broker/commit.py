"""Ends jobs in Redis: many in one round trip, each only if it is still ours.

The commands that RQ's own methods would send are recorded and run inside one script, each job's under the
condition that its execution is still in the started registry (the fence). Whoever took the execution out, a
recovery, a cancel or an earlier try of the same commit, has decided the job; then nothing is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from loguru import logger
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.job import JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry, release_slot
from rq.repeat import Repeat
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import now

from rwkv_tts.keys import DEATHS_PREFIX, audio_key, tokens_key
from worker.broker.backend import Cause
from worker.broker.claim import EXECUTION_PREFIX, EXECUTIONS_PREFIX, Claimed
from worker.broker.jobs import SpeechJob
from worker.broker.tolerance import is_malformed, tolerant

# ARGV, for each job: started registry, entry in it, set of dependents or '', number of commands, and each command
# as its length and its words. A command that fails ends its job's commands, not the others'.
_COMMIT = """
local i, verdicts = 1, {}
while i <= #ARGV do
  local wip, member, dependents, commands = unpack(ARGV, i, i + 3)
  i = i + 4
  local verdict = 'done'
  if not redis.call('ZSCORE', wip, member) then
    verdict = 'lost'
  elseif dependents ~= '' and redis.call('EXISTS', dependents) == 1 then
    verdict = 'dependents'
  end
  for _ = 1, tonumber(commands) do
    local size = tonumber(ARGV[i])
    if verdict == 'done' then
      local reply = redis.pcall(unpack(ARGV, i + 1, i + size))
      if type(reply) == 'table' and reply.err then verdict = 'error ' .. reply.err end
    end
    i = i + size + 1
  end
  verdicts[#verdicts + 1] = verdict
end
return verdicts
"""


class Fate(Enum):
    """How a job ends for this worker."""

    FINISHED = JobStatus.FINISHED
    FAILED = JobStatus.FAILED
    STOPPED = JobStatus.STOPPED
    PUT_BACK = JobStatus.QUEUED


@dataclass(frozen=True)
class Outcome:
    """What to record of a job.

    Attributes:
        result: The return value of a finished job.
        audio: Stored beside it.
        tokens: Stored beside it, too, unless empty.
        reason: One line, for a failed or stopped job.
        cause: What the reason is about.
        retry: Whether a failed job may use up one of its RQ retries.
    """

    claimed: Claimed
    fate: Fate
    result: dict[str, Any] | None = None
    audio: bytes = b""
    tokens: str = ""
    reason: str = ""
    cause: Cause = Cause.INTERNAL
    retry: bool = True

    @property
    def tries_again(self) -> bool:
        """Whether a failed job uses up one of its RQ retries."""
        return self.fate is Fate.FAILED and self.retry and self.claimed.job.should_retry


class Committer:
    """Records outcomes for one worker.

    Args:
        connection: Redis.
        worker_name: RQ's name of the worker.
        worker_key: Redis key of the worker's hash, which counts its jobs.
        result_ttl: Seconds that a result is kept where the job does not say.
    """

    def __init__(self, connection: Redis, worker_name: str, worker_key: str, result_ttl: int) -> None:
        self._connection = connection
        self._worker, self._worker_key = worker_name, worker_key
        self._executions_key = WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker_name)
        self._result_ttl = result_ttl
        self._script = connection.register_script(_COMMIT)

    def commit(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """Record outcomes; safe to repeat when an error left open whether it was done.

        Returns:
            For each outcome whether it was recorded now; False when the job was not ours any more.

        Raises:
            redis.exceptions.RedisError: Redis is away; nothing or all may have been written.
        """
        arguments: list[Any] = []
        for outcome in outcomes:
            arguments += self._arguments(outcome, self._commands(outcome), alone=True)
        verdicts = [verdict.decode() for verdict in self._script(args=arguments)]
        return [self._follow(outcome, verdict) for outcome, verdict in zip(outcomes, verdicts, strict=True)]

    def _follow(self, outcome: Outcome, verdict: str) -> bool:
        """Do what a verdict asks for; True when the outcome is recorded."""
        claimed = outcome.claimed
        if verdict == "dependents":
            return self._commit_with_dependents(outcome)
        if verdict.startswith("error "):
            return self._commit_defect(outcome, verdict.removeprefix("error "))
        if verdict == "lost":
            self._clean(claimed)
            return False
        self._release(outcome)
        return True

    def _arguments(self, outcome: Outcome, commands: Sequence[Sequence[Any]], *, alone: bool) -> list[Any]:
        """The script's arguments for one job; ``alone``: only if it has no dependents."""
        claimed = outcome.claimed
        ends = outcome.fate is not Fate.PUT_BACK and not outcome.tries_again
        dependents = claimed.job.dependents_key if alone and ends else ""
        arguments = [claimed.queue.started_job_registry.key, claimed.member, dependents, len(commands)]
        for command in commands:
            arguments += [len(command), *command]
        return arguments

    def _commit_with_dependents(self, outcome: Outcome) -> bool:
        """Move the dependents that may run in the same transaction, then enqueue them."""
        job = outcome.claimed.job
        while True:
            with self._connection.pipeline() as pipeline:
                try:
                    pipeline.watch(job.dependents_key)
                    job._status = outcome.fate.value
                    ready = self._ready(outcome, pipeline)
                    if not pipeline.explicit_transaction:
                        pipeline.multi()
                    moves = _take(pipeline)
                    commands = moves + self._commands(outcome)
                    pipeline.eval(_COMMIT, 0, *self._arguments(outcome, commands, alone=False))
                    ((verdict,),) = pipeline.execute()
                except WatchError:
                    continue
                except Exception as error:
                    if not is_malformed(error):
                        raise
                    return self._commit_without_dependents(outcome, error)
            break
        # Before the slot of a rate limit is free: they may have waited for it longer.
        for name, job_ids in ready.items() if verdict == b"done" else ():
            with tolerant(f"job {job.id}: its dependents in queue {name!r}"):
                other = Queue(name, connection=self._connection, job_class=SpeechJob, serializer=JSONSerializer)
                other.ready_job_registry.enqueue_jobs(job_ids)
        return self._follow(outcome, verdict.decode())

    def _commit_without_dependents(self, outcome: Outcome, error: Exception) -> bool:
        """They are not what RQ writes: they stay where they are, as those of a failed job do."""
        logger.warning(
            "job {}: its dependents are not readable ({}); they stay deferred",
            outcome.claimed.id,
            type(error).__name__,
        )
        (verdict,) = self._script(args=self._arguments(outcome, self._commands(outcome), alone=False))
        return self._follow(outcome, verdict.decode())

    def _ready(self, outcome: Outcome, pipeline: Pipeline) -> dict[str, list[str]]:
        """RQ's choice of the dependents that may run, its commands recorded on the pipeline."""
        return outcome.claimed.queue.move_dependents_to_ready(
            outcome.claimed.job, pipeline=pipeline, refresh_job_status=False
        )

    def _commit_defect(self, outcome: Outcome, error: str) -> bool:
        """Fail a job whose outcome Redis did not take, in the plainest way."""
        logger.error("job {}: its outcome cannot be stored: {}", outcome.claimed.id, error)
        commands = self._defect_commands(outcome, error)
        (verdict,) = self._script(args=self._arguments(outcome, commands, alone=False))
        if verdict.startswith(b"error"):
            logger.error("job {}: {}", outcome.claimed.id, verdict.decode())
            self._clean(outcome.claimed)
        return bool(verdict == b"done")

    def _defect_commands(self, outcome: Outcome, error: str) -> list[list[Any]]:
        job = outcome.claimed.job
        reason = f"storage: {error}; the job's keys in Redis are not what RQ writes"
        with self._connection.pipeline() as pipeline:
            pipeline.hset(job.key, mapping={"status": JobStatus.FAILED.value, "exc_info": reason})
            pipeline.zadd(outcome.claimed.queue.failed_job_registry.key, {job.id: "+inf"})
            self._record_end(outcome.claimed, pipeline)
            return _take(pipeline)

    def _release(self, outcome: Outcome) -> None:
        job = outcome.claimed.job
        if job.has_rate_limit:
            with tolerant(f"job {job.id}: its rate limit"):
                release_slot(job)

    def _clean(self, claimed: Claimed) -> None:
        """Forget an execution that is not ours any more; nobody else removes its keys."""
        with self._connection.pipeline() as pipeline:
            self._record_end(claimed, pipeline)
            pipeline.execute()
        if claimed.job.has_rate_limit:
            with tolerant(f"job {claimed.id}: its rate limit"):
                RateLimitRegistry.from_job(claimed.job).release_stale_and_enqueue(claimed.id)

    # What RQ writes, recorded.

    def _commands(self, outcome: Outcome) -> list[list[Any]]:
        """The commands that record an outcome; a failure where RQ stumbles over the job."""
        try:
            return self._record(outcome)
        except Exception as error:
            if not is_malformed(error):
                raise
            logger.error("job {}: its outcome cannot be recorded: {!r}", outcome.claimed.id, error)
            return self._defect_commands(outcome, f"{type(error).__name__}: {str(error)[:200]!r}")

    def _record(self, outcome: Outcome) -> list[list[Any]]:
        with self._connection.pipeline() as pipeline:
            if outcome.fate is Fate.FINISHED:
                self._record_success(outcome, pipeline)
            elif outcome.fate is Fate.PUT_BACK:
                outcome.claimed.queue._enqueue_job(outcome.claimed.job, pipeline=pipeline, at_front=True)
            elif outcome.tries_again:
                self._record_retry(outcome, pipeline)
            else:
                self._record_failure(outcome, pipeline)
            if outcome.fate is not Fate.PUT_BACK:
                pipeline.delete(DEATHS_PREFIX + outcome.claimed.id)
            self._record_end(outcome.claimed, pipeline)
            return _take(pipeline)

    def _record_success(self, outcome: Outcome, pipeline: Pipeline) -> None:
        job, queue = outcome.claimed.job, outcome.claimed.queue
        job.ended_at = now()
        self._count("successful_job_count", outcome, pipeline)
        ttl = job.get_result_ttl(self._result_ttl)
        if ttl != 0:
            pipeline.set(audio_key(job.id), outcome.audio, ex=ttl if ttl > 0 else None)
            if outcome.tokens:
                pipeline.set(tokens_key(job.id), outcome.tokens, ex=ttl if ttl > 0 else None)
            job._status = JobStatus.FINISHED
            job.save(pipeline=pipeline)
            self._record_result(outcome, Result.Type.SUCCESSFUL, ttl, pipeline)
            queue.finished_job_registry.add(job, ttl, pipeline)
        if (job.repeats_left or 0) > 0:
            repeats = job.repeats_left, job.repeat_intervals
            Repeat.schedule(job, queue, pipeline=pipeline)
            job.repeats_left, job.repeat_intervals = repeats
        else:
            job.cleanup(ttl, pipeline=pipeline, remove_from_queue=False)
            job._status = JobStatus.FINISHED

    def _record_retry(self, outcome: Outcome, pipeline: Pipeline) -> None:
        """As ``Job.retry``, which would write the status before the transaction."""
        job, queue = outcome.claimed.job, outcome.claimed.queue
        self._count("failed_job_count", outcome, pipeline)
        job.ended_at = now()
        interval, left = job.get_retry_interval(), job.retries_left
        job.retries_left = (left or 0) - 1
        if interval:
            queue.schedule_job(job, now() + timedelta(seconds=interval), pipeline=pipeline)
        else:
            queue._enqueue_job(job, pipeline=pipeline, at_front=job.enqueue_at_front_on_retry)
        job.retries_left = left

    def _record_failure(self, outcome: Outcome, pipeline: Pipeline) -> None:
        job, queue = outcome.claimed.job, outcome.claimed.queue
        job.ended_at = now()
        self._count("failed_job_count", outcome, pipeline)
        job.set_status(outcome.fate.value, pipeline=pipeline)
        queue.failed_job_registry.add(job, ttl=job.failure_ttl, exc_string=outcome.reason, pipeline=pipeline)
        self._record_result(outcome, Result.Type.FAILED, job.failure_ttl, pipeline)

    def _record_result(self, outcome: Outcome, kind: Result.Type, ttl: int | None, pipeline: Pipeline) -> None:
        job, execution = outcome.claimed.job, outcome.claimed.execution
        Result.create(
            job,
            kind,
            ttl,
            return_value=outcome.result,
            exc_string=outcome.reason or None,
            worker_name=self._worker,
            pipeline=pipeline,
            execution_id=execution.id,
            execution_started_at=execution.created_at,
            execution_ended_at=job.ended_at,
        )

    def _record_end(self, claimed: Claimed, pipeline: Pipeline) -> None:
        """Forget the execution; the fence itself falls last."""
        pipeline.delete(EXECUTION_PREFIX + claimed.member)
        pipeline.zrem(EXECUTIONS_PREFIX + claimed.id, claimed.execution.id)
        pipeline.srem(self._executions_key, claimed.member)
        pipeline.zrem(claimed.queue.started_job_registry.key, claimed.member)

    def _count(self, field: str, outcome: Outcome, pipeline: Pipeline) -> None:
        pipeline.hincrby(self._worker_key, field, 1)
        worked = now() - outcome.claimed.execution.created_at
        pipeline.hincrbyfloat(self._worker_key, "total_working_time", worked.total_seconds())


def _take(pipeline: Pipeline) -> list[list[Any]]:
    """The commands that were recorded on a pipeline, which forgets them."""
    commands = [list(args) for args, _ in pipeline.command_stack]
    pipeline.command_stack.clear()
    return commands
