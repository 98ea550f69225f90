"""How jobs leave a worker: what is decided about them, their callbacks, and what is recorded."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from loguru import logger
from redis.exceptions import RedisError
from rq.job import JobStatus

from rwkv_tts.refusal import Cause, Refusal
from worker.broker.backend import Backend, Ended
from worker.broker.callbacks import Callbacks
from worker.broker.claim import Claimed
from worker.broker.commit import Committer, ServerRefusalError
from worker.broker.messages import CalledBack
from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome, Verdict
from worker.broker.running import Deadlines, Running, RunningJobs

_STOPPED = Verdict(Fate.STOPPED, Refusal("", Cause.CANCELLED, "stopped on request"))
AT_ONCE = 256
"""Jobs of one call of a script."""

_MOST_BYTES = 8 << 20
"""Of the results in one call, unless it brings only one."""


class Endings:
    """Ends jobs; nothing is lost when Redis is away: what has ended waits here.

    Args:
        jobs: Those that run.
        backend: Does them.
        committer: Records outcomes.
        callbacks: Those that jobs may name.
        observer: Is told of every end.
        post: Puts a message into the worker's inbox, from any thread.

    Attributes:
        deadlines: Of jobs and of their callbacks.
        ended: How many jobs have left.
        any_finished: Whether a job has ended that was not put back.
    """

    def __init__(
        self,
        jobs: RunningJobs,
        backend: Backend,
        committer: Committer,
        callbacks: Callbacks,
        observer: Observer,
        post: Callable[[CalledBack], None],
    ) -> None:
        self._jobs, self._backend = jobs, backend
        self._committer, self._callbacks = committer, callbacks
        self._observer, self._post = observer, post
        self._waiting: list[Outcome] = []
        self.deadlines = Deadlines()
        self.ended = 0
        self.any_finished = False

    @property
    def waiting(self) -> int:
        """Outcomes that are not recorded yet."""
        return len(self._waiting)

    @property
    def waiting_ids(self) -> set[str]:
        """Their jobs; a master may have recorded them already, without its replicas."""
        return {outcome.claimed.id for outcome in self._waiting}

    # What is decided.

    def conclude(self, ended: Ended) -> None:
        """From what the backend says to what is recorded; an earlier verdict has precedence."""
        running = self._jobs.get(ended.job_id)
        if running is None or running.outcome is not None:
            return
        if ended.worked:
            running.worked = True
            return
        claimed, verdict = running.claimed, running.verdict
        if verdict is not None:
            self.end(Outcome(claimed, verdict.fate, refusal=verdict.refusal, stages=ended.stages))
        elif ended.result is None:
            refusal = ended.refusal or Refusal("", Cause.INTERNAL, "failed")
            self.end(Outcome(claimed, Fate.FAILED, refusal=refusal, stages=ended.stages))
        else:
            self.end(Outcome(claimed, Fate.FINISHED, ended.result, ended.attachments, stages=ended.stages))

    def stop(self, job_id: str) -> None:
        """Stop a job because somebody wants it."""
        running = self._jobs.get(job_id)
        if running is None:
            logger.warning("command stop-job: job {job} does not run here", job=job_id)
        else:
            self.stop_early(running, _STOPPED)

    def stop_early(self, running: Running, verdict: Verdict) -> None:
        """End a job before its time; what the backend says of it later is not recorded."""
        if running.verdict is None and running.outcome is None:
            running.verdict = verdict
            self._backend.cancel(running.claimed.id, verdict.refusal)

    def check_deadlines(self) -> None:
        """End what has run for too long."""
        for deadline in self.deadlines.due():
            running = deadline.running
            if deadline.met or self._jobs.get(running.claimed.id) is not running:
                continue
            if running.outcome is not None:
                self.called_back(CalledBack(running.outcome, deadline.refusal))
            else:
                self.stop_early(running, Verdict(Fate.FAILED, deadline.refusal))

    # Callbacks.

    def end(self, outcome: Outcome) -> None:
        """Record an outcome, after the callback and the exception handlers that it calls for."""
        called = self._callbacks.event_for(outcome)
        running = self._jobs.get(outcome.claimed.id)
        if called is None or running is None:
            self._waiting.append(outcome)
            return
        running.outcome = outcome
        event, seconds = called
        late = Refusal(event, Cause.CALLBACK, f"it ran for more than {seconds} s")
        self.deadlines.add(running, seconds, late)
        self._callbacks.start(outcome, event, lambda refusal: self._post(CalledBack(outcome, refusal)))

    def called_back(self, message: CalledBack) -> None:
        """A failed on_success makes the job fail (and tells on_failure); other errors join the reason."""
        outcome = message.outcome
        running = self._jobs.get(outcome.claimed.id)
        if running is None or running.outcome is not outcome:
            return
        running.outcome = None
        if message.refusal is None:
            self._waiting.append(outcome)
        elif outcome.fate is Fate.FINISHED:
            self.end(Outcome(outcome.claimed, Fate.FAILED, refusal=message.refusal, stages=outcome.stages))
        else:
            assert outcome.refusal is not None
            told = replace(outcome.refusal, message=f"{outcome.refusal.message}; {message.refusal}")
            self._waiting.append(replace(outcome, refusal=told))

    # What is recorded.

    def commit(self) -> None:
        """Record what has ended; on an error of Redis all of it stays for the next turn."""
        while self._waiting:
            batch = self._next_batch()
            self._observer.delivering(len(batch))
            start = time.perf_counter()
            try:
                idle = len(batch) == len(self._jobs)
                recorded: Sequence[bool | None] = self._committer.commit(batch, idle=idle)
            except ServerRefusalError as error:
                self._observer.refused(error.recorded.count(None))
                self._settle_all(batch, error.recorded)
                raise
            self._observer.delivered(time.perf_counter() - start)
            self._settle_all(batch, recorded)

    def _next_batch(self) -> Sequence[Outcome]:
        """What one call may bring: Redis counts it against its limit before it writes anything."""
        totals = accumulate(outcome.size for outcome in self._waiting[:AT_ONCE])
        return self._waiting[: max(1, sum(total <= _MOST_BYTES for total in totals))]

    def put_back(self, claims: Iterable[Claimed]) -> None:
        """Give jobs back to the front of their queues, the last one first."""
        outcomes = [Outcome(claimed, Fate.PUT_BACK) for claimed in claims]
        for outcome, recorded in zip(outcomes, self._committer.commit(outcomes), strict=True):
            if recorded:
                self._observer.ended(outcome)

    def put_back_unfinished(self) -> None:
        """Record what has ended, and give all other jobs back: the worker ends."""
        finished = self.waiting_ids
        unfinished = [running.claimed for running in self._jobs if running.claimed.id not in finished]
        try:
            self.commit()
            self.put_back(reversed(unfinished))
        except RedisError as error:
            logger.error("redis: {}: {}; recovery will find {} jobs", type(error).__name__, error, len(unfinished))
        logger.warning("{} unfinished jobs went back to their queues", len(unfinished))

    def _settle_all(self, batch: Sequence[Outcome], recorded: Sequence[bool | None]) -> None:
        """Let go of what is decided; what Redis has refused to record waits on, ahead of what came later."""
        pairs = list(zip(batch, recorded, strict=True))
        self._waiting[: len(batch)] = [outcome for outcome, is_recorded in pairs if is_recorded is None]
        for outcome, is_recorded in pairs:
            if is_recorded is not None:
                self._settle(outcome, is_recorded)
                self.ended += 1

    def _settle(self, outcome: Outcome, recorded: bool) -> None:
        job = outcome.claimed.job
        self._jobs.leave(outcome.claimed)
        if not recorded:
            self._observer.lost(outcome)
            return
        self._observer.ended(outcome)
        self.any_finished |= outcome.fate is not Fate.PUT_BACK
        if job.webhooks and job._status in (JobStatus.FINISHED, JobStatus.FAILED):
            self._callbacks.send_webhooks(outcome)
