"""Ends jobs in Redis: many in one round trip, each only if it is still ours.

The commands that RQ's own methods would send are recorded and run inside one script, each job's under the
condition that its execution is still in the started registry (the fence). Whoever took the execution out, a
recovery, a cancel or an earlier try of the same commit, has decided the job; then nothing is written.
"""

from collections.abc import Sequence
from typing import Any

from loguru import logger
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError, WatchError
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry, release_slot
from rq.results import Result
from rq.serializers import JSONSerializer

from worker.broker.claim import Claimed
from worker.broker.jobs import HeldJob
from worker.broker.outcome import Fate, Outcome
from worker.broker.record import Recorder, take
from worker.broker.replicas import Replicas
from worker.broker.scripts import lua
from worker.broker.tolerance import is_malformed, is_of_the_server, tolerant


class ServerRefusalError(ResponseError):
    """Redis does not write at present: it is full, read-only, or its disk is; or its replicas do not confirm.

    Attributes:
        recorded: For each outcome of the commit, whether it was recorded; None for those that are to be committed
            again: nothing of them was written, because Redis refuses the first write of a script or none, or the
            master may yet lose them.
    """

    def __init__(self, reply: str, recorded: Sequence[bool | None]) -> None:
        super().__init__(reply)
        self.recorded = recorded


class Committer:
    """Records outcomes for one worker.

    Args:
        connection: Redis.
        worker_name: RQ's name of the worker.
        worker_key: Redis key of the worker's hash, which counts its jobs.
        result_ttl: Seconds that a result is kept where the job does not say; -1 for ever.
        failure_ttl: The same of a job that has failed.
        replicas: Those of Redis that must have an outcome before it counts as recorded; None where the master's
            word is enough.
    """

    def __init__(
        self,
        connection: Redis,
        worker_name: str,
        worker_key: str,
        result_ttl: int,
        failure_ttl: int,
        replicas: Replicas | None = None,
    ) -> None:
        self._connection, self._worker_key, self._replicas = connection, worker_key, replicas
        self._recorder = Recorder(connection, worker_name, worker_key, result_ttl, failure_ttl)
        self._unconfirmed: set[str] = set()
        self._refusal = ""
        self._script = connection.register_script(lua("commit"))

    def commit(self, outcomes: Sequence[Outcome], *, idle: bool = False) -> list[bool]:
        """Record outcomes; safe to repeat when an error left open whether it was done.

        Args:
            outcomes: What has become of jobs.
            idle: Whether they are the last that the worker has.

        Returns:
            For each outcome whether it was recorded, now or by an earlier try whose reply was lost or that was not
            confirmed; False when the job was not ours any more.

        Raises:
            ServerRefusalError: Redis refuses to write, or replicas do not confirm; what it has refused, and what
                they have not confirmed, is to be committed again.
            redis.exceptions.RedisError: Redis is away; nothing or all may have been written.
        """
        recorded: dict[str, bool | None] = {outcome.claimed.member: True for outcome in outcomes}
        fresh = [one for one in outcomes if one.claimed.member not in self._unconfirmed]
        recorded |= self._record(fresh, idle=idle)
        ends = [outcome for outcome in outcomes if recorded[outcome.claimed.member]]
        if self._replicas is not None and ends:
            recorded |= self._confirm(ends, self._replicas)
        if None in recorded.values():
            raise ServerRefusalError(self._refusal, list(recorded.values()))
        return [bool(one) for one in recorded.values()]

    def _record(self, outcomes: Sequence[Outcome], *, idle: bool) -> dict[str, bool | None]:
        """Whether outcomes are recorded on the master, by execution; None where it refuses."""
        arguments: list[Any] = []
        for outcome in outcomes:
            arguments += self._arguments(outcome, self._recorder.commands(outcome), alone=True)
        verdicts = self._run(arguments, "idle" if idle else "") if arguments else []
        pairs = zip(outcomes, verdicts, strict=True)
        return {outcome.claimed.member: self._follow(outcome, verdict) for outcome, verdict in pairs}

    def _confirm(self, ends: Sequence[Outcome], replicas: Replicas) -> dict[str, bool | None]:
        """Whether ends that a master has recorded are safe, by execution; None for those to be committed again.

        Where the execution is in the started registry again, another master has never heard of the end, and it is
        sent once more. Where it is not, an end stands, be it by an earlier try, and only replicas are waited for.
        """
        members = [outcome.claimed.member for outcome in ends]
        self._unconfirmed.update(members)
        heard, stand = replicas.have(ends)
        enough, forgotten = heard >= replicas.count, stand.count(None)
        known = dict(zip(members, stand, strict=True))
        self._unconfirmed.difference_update(one for one in members if enough or known[one] is None)
        self._refusal = f"{heard} replicas have confirmed within {replicas.seconds:g} s, {replicas.count} must"
        if enough and forgotten:
            self._refusal = f"another master does not know the ends of {forgotten} jobs"
        return known if enough else dict.fromkeys(members)

    def _run(self, arguments: Sequence[Any], state: str = "") -> list[str]:
        """Call the script; its verdicts."""
        return [verdict.decode() for verdict in self._script([self._worker_key], [state, *arguments])]

    def _follow(self, outcome: Outcome, verdict: str) -> bool | None:
        """Do what a verdict asks for; True when the outcome is recorded, None when the server refuses that."""
        claimed = outcome.claimed
        if verdict == "dependents":
            return self._commit_with_dependents(outcome)
        if verdict.startswith("error "):
            error = verdict.removeprefix("error ")
            if is_of_the_server(error):
                self._refusal = error
                return None
            return self._commit_defect(outcome, error)
        if verdict == "lost":
            self._clean(claimed)
            return self._has_ended(claimed)
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

    def _commit_with_dependents(self, outcome: Outcome) -> bool | None:
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
                    moves = take(pipeline)
                    commands = moves + self._recorder.commands(outcome)
                    arguments = self._arguments(outcome, commands, alone=False)
                    pipeline.eval(lua("commit"), 1, self._worker_key, "", *arguments)
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
            self._enqueue_dependents(job, name, job_ids)
        return self._follow(outcome, verdict.decode())

    def _enqueue_dependents(self, job: HeldJob, name: str, job_ids: list[str]) -> None:
        """Enqueue those that are ready; where Redis does not let us, they stay so until maintenance does it."""
        other = Queue(name, connection=self._connection, job_class=HeldJob, serializer=JSONSerializer)
        try:
            with tolerant(f"job {job.id}: its dependents in queue {name!r}"):
                other.ready_job_registry.enqueue_jobs(job_ids)
        except RedisError as error:
            logger.warning("job {job}: its dependents in queue {!r} wait: redis: {}", name, error, job=job.id)

    def _commit_without_dependents(self, outcome: Outcome, error: Exception) -> bool | None:
        """They are not what RQ writes: they stay where they are, as those of a failed job do."""
        logger.warning(
            "job {job}: its dependents are not readable ({}); they stay deferred",
            type(error).__name__,
            job=outcome.claimed.id,
        )
        (verdict,) = self._run(self._arguments(outcome, self._recorder.commands(outcome), alone=False))
        return self._follow(outcome, verdict)

    def _ready(self, outcome: Outcome, pipeline: Pipeline) -> dict[str, list[str]]:
        """RQ's choice of the dependents that may run, its commands recorded on the pipeline."""
        return outcome.claimed.queue.move_dependents_to_ready(
            outcome.claimed.job, pipeline=pipeline, refresh_job_status=False
        )

    def _commit_defect(self, outcome: Outcome, error: str) -> bool | None:
        """Fail a job whose outcome Redis did not take, in the plainest way."""
        logger.error("job {job}: its outcome cannot be stored: {}", error, job=outcome.claimed.id)
        commands = self._recorder.defect(outcome, error)
        (verdict,) = self._run(self._arguments(outcome, commands, alone=False))
        reply = verdict.removeprefix("error ")
        if verdict.startswith("error ") and is_of_the_server(reply):
            self._refusal = reply
            return None
        if verdict.startswith("error "):
            logger.error("job {job}: {}", reply, job=outcome.claimed.id)
            self._clean(outcome.claimed)
        return verdict == "done"

    def _release(self, outcome: Outcome) -> None:
        job = outcome.claimed.job
        if job.has_rate_limit:
            with tolerant(f"job {job.id}: its rate limit"):
                release_slot(job)

    def _has_ended(self, claimed: Claimed) -> bool:
        """Whether an execution has left a result: an earlier try of the same commit did, whose reply was lost."""
        with tolerant(f"job {claimed.id}: its results"):
            entries: Any = self._connection.xrevrange(Result.get_key(claimed.id), count=1)
            return any(fields.get(b"execution_id") == claimed.execution.id.encode() for _, fields in entries)
        return False

    def _clean(self, claimed: Claimed) -> None:
        """Forget an execution that is not ours any more; nobody else removes its keys."""
        with self._connection.pipeline() as pipeline:
            self._recorder.forget(claimed, pipeline)
            pipeline.execute()
        if claimed.job.has_rate_limit:
            with tolerant(f"job {claimed.id}: its rate limit"):
                RateLimitRegistry.from_job(claimed.job).release_stale_and_enqueue(claimed.id)
