"""An RQ worker that runs many jobs at once: claim, run, finish, and lose nothing on the way.

One thread owns everything here. It waits for messages (there are jobs, a job has ended, stop) and in between
keeps its lease alive, watches deadlines, recovers the jobs of dead workers and runs RQ's scheduler. While Redis
is away, jobs go on and finished ones wait in memory.
"""

import contextlib
import queue
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from functools import partial
from types import FrameType
from typing import Any

from loguru import logger
from redis import Redis
from redis.client import PubSub, PubSubWorkerThread
from redis.exceptions import RedisError
from rq.command import parse_payload
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import BaseWorker
from rq.worker.base import WorkerStatus
from rq.worker_registration import register

from rwkv_tts.keys import tune_channel
from rwkv_tts.load import Throughput
from rwkv_tts.schema import RequestError
from worker.broker import maintenance
from worker.broker.backend import BackendBrokenError, Cause, Ended, MakeBackend
from worker.broker.callbacks import Callbacks
from worker.broker.claim import HORIZON_SECONDS, Claimed, Claimer
from worker.broker.commit import Committer, Fate, Outcome
from worker.broker.jobs import SpeechJob
from worker.broker.lease import REPLIES, Lease
from worker.broker.observer import Observer
from worker.broker.recovery import Recovery
from worker.broker.rules import Rules
from worker.broker.running import Deadlines, Running
from worker.broker.scheduled import Scheduler
from worker.broker.watchdog import Watchdog
from worker.broker.watcher import QueueWatcher
from worker.ops.journal import MinuteLine, tell_end

_LOST_RACE_SECONDS = 0.05
_HEARTBEAT_SECONDS = 15.0
_SILENT_SECONDS = 60
"""RQ's tools list a dead worker for so long."""

_LONGEST_PAUSE_SECONDS = 2.0
_SAME_SIGNAL_SECONDS = 1.0
_DEFAULT_TIMEOUT = 180
_AT_ONCE = 256
_ANSWERS = 8
"""Answers to changes of values that the lease repeats, so that everyone who asks has the time to read theirs."""

_LONGEST_ID = 64


class ExitCode(IntEnum):
    """How the process of a worker ends; 1 is an unexpected error or the watchdog."""

    DRAINED = 0
    UNUSABLE = 2
    PUT_BACK = 3
    OUTAGE = 4
    BROKEN = 5


class _Signal(Enum):
    JOBS = auto()
    ROOM = auto()
    STOP = auto()


@dataclass(frozen=True)
class _CallbackDone:
    """A callback has returned: with None, or with what went wrong."""

    outcome: Outcome
    error: str | None


@dataclass(frozen=True)
class _Stop:
    """Somebody wants a job to stop."""

    job_id: str


@dataclass(frozen=True)
class _Tune:
    """Somebody wants values to change; ``id`` is the asker's name for it."""

    id: str
    change: dict[str, Any]


@dataclass(frozen=True)
class _Tuned:
    """A change has been made, or refused with an error."""

    id: str
    error: str | None


_Message = Ended | _CallbackDone | _Stop | _Tune | _Tuned | _Signal


class BatchWorker(BaseWorker):
    """Drains queues into a backend; to every RQ tool it is a worker with several executions.

    Args:
        connection: Redis; replies must not be decoded.
        make_backend: Builds what does the jobs.
        rules: How jobs are treated.
        max_jobs: Jobs that may be in the worker at once.
        observer: Is told what happens to jobs.

    Attributes:
        turned_at: When the main thread last began to look after everything, monotonic seconds; 0 before the first.
    """

    def __init__(
        self,
        connection: Redis,
        make_backend: MakeBackend,
        rules: Rules,
        *,
        max_jobs: int,
        name: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(
            list(rules.queue),
            name=name,
            connection=connection,
            default_result_ttl=rules.result_ttl,
            job_class=SpeechJob,
            serializer=JSONSerializer,
        )
        self._rules = rules
        self._max_jobs = max_jobs
        self._observer = observer or Observer()
        self._lease = Lease(self.name, rules.lease_timeout)
        self._claimer = Claimer(
            connection,
            self.queues,
            self.name,
            self.key,
            self._lease.key,
            rules.max_payload_bytes,
            deadly=max(1, rules.max_attempts - 1),
        )
        self._committer = Committer(connection, self.name, self.key, rules.result_ttl)
        self._recovery = Recovery(connection, self.name, self._lease.key, rules.max_attempts, self._claimer)
        self._scheduler = Scheduler(connection, self.queues)
        self._callbacks = Callbacks(rules.callbacks, rules.webhook_hosts)
        self._watchdog = Watchdog(rules.watchdog_timeout)
        self._throughput = Throughput()
        self._minute = MinuteLine()
        self._answers: dict[str, str | None] = {}
        self._recovered = 0
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._jobs: dict[str, Running] = {}
        self._ended: list[Outcome] = []
        self._deadlines = Deadlines()
        self._next_beat = self._next_heartbeat = self._next_cleaning = self._may_arm_at = 0.0
        self._unsure_until = 0.0
        self.turned_at = 0.0
        self._away_since: float | None = None
        self._pause = self._retry_at = 0.0
        self._notified = False
        self._signals: list[float] = []
        self._burst = self._worked = self._emptied = self._suspended = False
        self._alone = self._blocked = False
        self.exit_code = ExitCode.DRAINED
        self._watchers = [
            QueueWatcher(connection, q.key, partial(self._inbox.put, _Signal.JOBS)) for q in self.queues
        ]
        self._backend = make_backend(self._inbox.put, partial(self._inbox.put, _Signal.ROOM))

    def _set_connection(self, connection: Redis) -> Redis:
        """Leave the connection's timeouts as they are: nothing here blocks for as long as RQ's own workers do."""
        return connection

    def work(self, burst: bool = False, logging_level: str | None = "WARNING", *_: Any, **__: Any) -> bool:
        """Work until told to stop; with ``burst`` until the queues are empty.

        Returns:
            Whether any job was finished. ``exit_code`` tells how it ended.
        """
        self._burst = burst
        self.bootstrap(logging_level)
        for rq_queue in self.queues:
            rq_queue.get_redis_server_version()
        self._scheduler.start()
        self._install_signal_handlers()
        for watcher in self._watchers:
            watcher.start()
        try:
            while not self._over():
                self._turn()
        finally:
            self._close()
        return self._worked

    @property
    def draining(self) -> bool:
        """Whether it was told to stop: it claims no more."""
        return bool(self._stop_requested)

    def _over(self) -> bool:
        if self.exit_code is not ExitCode.DRAINED:
            return True
        idle = not self._jobs and self._inbox.empty()
        return idle and (self._stop_requested or (self._burst and self._emptied and not self._blocked))

    def _turn(self) -> None:
        """Everything that is due, then wait for the next message."""
        self.turned_at = time.monotonic()
        self._check_deadlines()
        try:
            self._watchdog.feed(self._backend.progress())
        except BackendBrokenError as error:
            logger.critical("{}; giving up: other workers take over", error)
            self.exit_code = ExitCode.BROKEN
            return
        if time.monotonic() >= self._retry_at:
            self._exchange()
        self._stop_on_time()
        if not self._over():
            self._take(self._patience())

    def _exchange(self) -> None:
        """Everything that needs Redis."""
        try:
            self._commit()
            self._beat()
            self._scheduler.run()
            self._claim()
            self._away_since, self._pause, self._retry_at = None, 0.0, 0.0
        except RedisError as error:
            self._outage(error)

    def _outage(self, error: RedisError) -> None:
        """Redis is away: go on with what is here, try again soon, give up when it takes too long."""
        moment = time.monotonic()
        self._away_since = self._away_since or moment
        self._pause = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause or 0.1)
        self._retry_at = moment + self._pause
        self._unsure_until = moment + self._rules.lease_timeout
        self._emptied = False
        logger.warning(
            "redis: {}: {}; {} results wait; again in {:.1f} s",
            type(error).__name__,
            error,
            len(self._ended),
            self._pause,
        )
        if moment - self._away_since > self._rules.outage_timeout:
            logger.error("redis: away for more than {} s; giving up", self._rules.outage_timeout)
            self.exit_code = ExitCode.OUTAGE

    def _close(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
        self._watchdog.stop()
        self._callbacks.close(finish=not self._jobs)
        if not self._jobs:
            self._backend.close()
        try:
            self._scheduler.stop()
            self.teardown()
            self._lease.release(self.connection)
        except RedisError as error:
            logger.warning("redis: {}: {}; this worker could not say goodbye", type(error).__name__, error)

    # Claim and run.

    def _room(self) -> int:
        """Jobs that may be claimed now: what the backend has room for, as long as finished ones are taken off."""
        if self._alone and self._jobs:
            return 0
        return min(self._backend.room(), self._max_jobs - len(self._jobs))

    def _claim(self) -> None:
        """Claim and run as many jobs as there is room for."""
        if self._stop_requested:
            return
        room, total = self._room(), 0
        while room > 0:
            claim = self._claimer.claim(min(room, _AT_ONCE), len(self._jobs))
            self._suspended, self._alone, self._blocked = claim.suspended, claim.alone, claim.blocked
            self._observer.claimed(len(claim.claimed))
            started = self._run(claim.claimed)
            total += started
            self._emptied = started < min(room, _AT_ONCE)
            if self._emptied:
                break
            room = self._room()
        if self._notified and total == 0:
            # Another worker was faster, or workers are suspended: do not spin on the job that is still there.
            self._may_arm_at = time.monotonic() + _LOST_RACE_SECONDS
        self._notified = False

    def _run(self, batch: Sequence[Claimed]) -> int:
        """Hand jobs to the backend; returns how many.

        A job that was taken from us while we were silent, and has not ended here yet, goes back for now: the
        end of its earlier execution would be taken for that of this one.
        """
        fresh = [claimed for claimed in batch if claimed.id not in self._jobs]
        still_here = [claimed for claimed in batch if claimed.id in self._jobs]
        for claimed in fresh:
            self._enter(claimed)
        for claimed in fresh:
            self._hand_over(claimed)
        if still_here:
            self._put_back(reversed(still_here))
        return len(fresh)

    def _enter(self, claimed: Claimed) -> None:
        self._jobs[claimed.id] = Running(claimed)
        self.executions[claimed.execution.id] = claimed.execution

    def _hand_over(self, claimed: Claimed) -> None:
        refusal = claimed.refusal or self._callbacks.refusal(claimed.job)
        if refusal is not None or claimed.request is None:
            self._end(Outcome(claimed, Fate.FAILED, reason=refusal or "", cause=Cause.INVALID, retry=False))
            return
        job = claimed.job
        queued = (now() - job.enqueued_at).total_seconds() if job.enqueued_at else 0.0
        try:
            self._backend.submit(job.id, claimed.request, max(0.0, queued))
        except RequestError as error:
            self._end(Outcome(claimed, Fate.FAILED, reason=str(error), cause=Cause.INVALID, retry=False))
            return
        except RedisError as error:  # a voice could not be looked up
            self._end(Outcome(claimed, Fate.PUT_BACK, reason=f"redis: {type(error).__name__}: {error}"))
            return
        timeout = job.timeout or _DEFAULT_TIMEOUT
        if timeout > 0:
            self._deadlines.add(self._jobs[job.id], timeout, f"timeout: the job ran for more than {timeout:g} s")

    # Messages.

    def _patience(self) -> float:
        """How long to wait for a message; arms the watchers when there is room for more jobs."""
        moment = time.monotonic()
        wait = min(self._retry_at or self._next_beat, self._deadlines.next_at()) - moment
        if not (self._retry_at or self._stop_requested or self._blocked) and self._room() > 0:
            if moment < self._may_arm_at:
                wait = min(wait, self._may_arm_at - moment)
            elif not self._emptied:
                wait = 0.0
            else:
                for watcher in self._watchers:
                    watcher.arm()
        return max(0.0, wait)

    def _take(self, timeout: float) -> None:
        """Wait for one message, then take all there are."""
        with contextlib.suppress(queue.Empty):
            self._handle(self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait())
            while True:
                self._handle(self._inbox.get_nowait())

    def _handle(self, message: _Message) -> None:
        if isinstance(message, Ended):
            running = self._jobs.get(message.job_id)
            if running is not None and running.outcome is None:
                self._conclude(running, message)
        elif isinstance(message, _CallbackDone):
            running = self._jobs.get(message.outcome.claimed.id)
            if running is not None and running.outcome is message.outcome:
                self._called_back(running, message)
        elif isinstance(message, _Stop):
            self._stop_job(message.job_id)
        elif isinstance(message, _Tune):
            self._backend.tune(message.change, lambda error: self._inbox.put(_Tuned(message.id, error)))
        elif isinstance(message, _Tuned):
            self._answer(message)
        else:
            self._notified |= message is _Signal.JOBS

    def _conclude(self, running: Running, ended: Ended) -> None:
        """From what the backend says to what is recorded; an earlier verdict has precedence."""
        claimed = running.claimed
        if running.verdict is not None:
            fate, reason, cause = running.verdict
            outcome = Outcome(claimed, fate, reason=reason, cause=cause)
        elif ended.result is None:
            reason = ended.error or "failed"
            outcome = Outcome(claimed, Fate.FAILED, reason=reason, cause=ended.cause, retry=ended.retry)
        else:
            outcome = Outcome(claimed, Fate.FINISHED, result=ended.result, audio=ended.audio, tokens=ended.tokens)
        self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        """Record an outcome, after the callback that it calls for."""
        job = outcome.claimed.job
        event = self._callbacks.event_for(outcome)
        if event is None or self._callbacks.refusal(job) is not None:
            self._ended.append(outcome)
            return
        running = self._jobs[job.id]
        running.outcome = outcome
        seconds = job.callback_timeout(event)
        self._deadlines.add(running, seconds, f"{event}: it ran for more than {seconds} s")
        self._callbacks.start(outcome, event, lambda error: self._inbox.put(_CallbackDone(outcome, error)))

    def _called_back(self, running: Running, message: _CallbackDone) -> None:
        """A failed on_success makes the job fail (and tells on_failure); other errors join the reason."""
        outcome = message.outcome
        running.outcome = None
        if message.error is None:
            self._ended.append(outcome)
        elif outcome.fate is Fate.FINISHED:
            self._end(Outcome(outcome.claimed, Fate.FAILED, reason=message.error, cause=Cause.CALLBACK))
        else:
            self._ended.append(replace(outcome, reason=f"{outcome.reason}; {message.error}"))

    # Finish.

    def _commit(self) -> None:
        """Record what has ended; on an error of Redis all of it stays for the next turn."""
        while self._ended:
            batch = self._ended[:_AT_ONCE]
            start = time.perf_counter()
            recorded = self._committer.commit(batch)
            self._observer.delivered(time.perf_counter() - start)
            for outcome, is_recorded in zip(batch, recorded, strict=True):
                self._settle(outcome, is_recorded)
            del self._ended[: len(batch)]
            self._throughput.count(len(batch))

    def _settle(self, outcome: Outcome, recorded: bool) -> None:
        job = outcome.claimed.job
        self._jobs.pop(job.id, None)
        self.executions.pop(outcome.claimed.execution.id, None)
        if not recorded:
            self._observer.lost()
            logger.info("job {}: its end was decided elsewhere", job.id)
            return
        self._observer.ended(outcome)
        self._worked |= outcome.fate is not Fate.PUT_BACK
        tell_end(outcome)
        if job.webhooks and job._status in (JobStatus.FINISHED, JobStatus.FAILED):
            self._callbacks.send_webhooks(outcome)

    def _put_back(self, jobs: Iterable[Claimed]) -> None:
        """Give jobs back to the front of their queues, the last one first in line."""
        outcomes = [Outcome(claimed, Fate.PUT_BACK) for claimed in jobs]
        for outcome, recorded in zip(outcomes, self._committer.commit(outcomes), strict=True):
            if recorded:
                self._observer.ended(outcome)

    def _stop_early(self, running: Running, fate: Fate, reason: str, cause: Cause) -> None:
        """End a job before its time; what the backend says of it later is not recorded."""
        if running.verdict is None and running.outcome is None:
            running.verdict = (fate, reason, cause)
            self._backend.cancel(running.claimed.id, reason)

    def _check_deadlines(self) -> None:
        for deadline in self._deadlines.due():
            running = deadline.running
            if deadline.met or self._jobs.get(running.claimed.id) is not running:
                continue
            if running.outcome is not None:
                self._called_back(running, _CallbackDone(running.outcome, deadline.reason))
            else:
                self._stop_early(running, Fate.FAILED, deadline.reason, Cause.TIMEOUT)

    # Signs of life, and what depends on them.

    def _beat(self) -> None:
        """Renew the lease, see which jobs were taken from us, recover those of dead workers; when due."""
        if time.monotonic() < self._next_beat:
            return
        running = list(self._jobs.values())
        with self.connection.pipeline(transaction=False) as pipeline:
            self._lease.renew(self._says(), pipeline)
            self.heartbeat(_SILENT_SECONDS, pipeline=pipeline)
            self.set_state(self._current_state(), pipeline=pipeline)
            for one in running:
                pipeline.zscore(one.claimed.queue.started_job_registry.key, one.claimed.member)
            replies = pipeline.execute()
        self._next_beat = time.monotonic() + self._lease.interval
        self._lease.renewed(*replies[:REPLIES])
        if replies[REPLIES]:
            self._register_again()
        for one, score in zip(running, replies[REPLIES + 4 :], strict=True):
            if score is None:  # cancelled, deleted or recovered: decided by others, so no callback is told
                self._stop_early(one, Fate.PUT_BACK, "cancelled on request", Cause.CANCELLED)
        self._maintain()

    def _current_state(self) -> WorkerStatus:
        if self._jobs:
            return WorkerStatus.BUSY
        return WorkerStatus.SUSPENDED if self._suspended else WorkerStatus.IDLE

    def _says(self) -> dict[str, Any]:
        return {
            "max_queue": self._rules.max_queue,
            "running": len(self._jobs),
            "jobs_per_second": round(self._throughput.per_second(), 3),
            "recovered": self._recovered,
            "answers": self._answers,
            **self._backend.says(),
        }

    def _register_again(self) -> None:
        """The worker's hash had expired, as after a long outage."""
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize())
            register(self, pipeline)
            pipeline.execute()

    def _maintain(self) -> None:
        moment = time.monotonic()
        if moment < self._unsure_until:
            self._put_back_unknown()
        if self._lease.may_judge:
            for rq_queue in self.queues:
                self._recover(rq_queue)
        if moment >= self._next_heartbeat:
            self._next_heartbeat = moment + _HEARTBEAT_SECONDS
            self._heartbeat_jobs()
        if moment >= self._next_cleaning:
            self._next_cleaning = moment + maintenance.INTERVAL_SECONDS
            maintenance.clean(self.connection, self.queues, self._recovery)
        if self._minute.due:
            self._minute.tell(self._says(), sum(rq_queue.count for rq_queue in self.queues))

    def _recover(self, rq_queue: Any) -> None:
        back, exhausted = self._recovery.run(rq_queue, self._lease.interval)
        self._recovered += back
        if back:
            logger.warning("queue {}: {} jobs of dead workers went back", rq_queue.name, back)
        self._observer.recovered(back, len(exhausted))
        for one in exhausted:
            self._enter(one.claimed)
            reason = (
                f"abandoned: {self._rules.max_attempts} workers died while they ran it "
                f"(setting max_attempts); the last was {one.last_worker}"
            )
            self._end(Outcome(one.claimed, Fate.FAILED, reason=reason, cause=Cause.ABANDONED))

    def _put_back_unknown(self) -> None:
        """After an error a claim may have happened without its answer: such jobs go back, unharmed."""
        known = {one.claimed.member for one in self._jobs.values()}
        for rq_queue in self.queues:
            for claimed in self._claimer.owned(rq_queue, known):
                self._put_back([claimed])

    def _heartbeat_jobs(self) -> None:
        """What RQ's tools show of running jobs."""
        running = list(self._jobs.values())
        for i in range(0, len(running), _AT_ONCE):
            with self.connection.pipeline(transaction=False) as pipeline:
                for one in running[i : i + _AT_ONCE]:
                    registry = one.claimed.queue.started_job_registry
                    one.claimed.execution.heartbeat(registry, HORIZON_SECONDS, pipeline=pipeline)
                pipeline.execute()

    # Commands and signals.

    def handle_payload(self, message: dict[Any, Any]) -> None:
        """Take a command from RQ's channel; ``stop-job`` and ``stop-execution`` may name any running job."""
        try:
            payload = parse_payload(message)
            command = payload["command"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            logger.warning("command: not readable ({}); ignored", type(error).__name__)
            return
        if command == "stop-job":
            self._inbox.put(_Stop(str(payload.get("job_id"))))
        elif command == "stop-execution":
            execution = self.executions.get(str(payload.get("execution_id")))
            self._inbox.put(_Stop(execution.job_id if execution else ""))
        elif command == "shutdown":
            self.request_stop()
        elif command == "kill-horse":
            logger.warning("command kill-horse: ignored; this worker has no process for each job")
        else:
            logger.warning("command {!r}: unknown; ignored", str(command)[:80])

    def handle_tuning(self, message: dict[Any, Any]) -> None:
        """Take a change of values from the operator's channel."""
        try:
            payload = parse_payload(message)
            tune = _Tune(str(payload["id"])[:_LONGEST_ID], dict(payload["change"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            logger.warning("tune: not readable ({}); ignored", type(error).__name__)
            return
        self._inbox.put(tune)

    def _answer(self, tuned: _Tuned) -> None:
        """Repeat an answer in the lease, from now on, until newer ones have taken its place."""
        self._answers[tuned.id] = tuned.error
        if len(self._answers) > _ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._next_beat = 0.0

    def _stop_job(self, job_id: str) -> None:
        running = self._jobs.get(job_id)
        if running is None:
            logger.warning("command stop-job: job {} does not run here", job_id)
        else:
            self._stop_early(running, Fate.STOPPED, "stopped on request", Cause.CANCELLED)

    def subscribe(self) -> None:
        """As RQ's, and to a channel of our own: everyone who may stop a job may publish to RQ's."""
        channels = {self.pubsub_channel_name: self.handle_payload, tune_channel(self.name): self.handle_tuning}
        self.pubsub = self.connection.pubsub()
        self.pubsub.subscribe(**channels)
        self.pubsub_thread = self.pubsub.run_in_thread(  # type: ignore[assignment]  # RQ declares none
            sleep_time=60, daemon=True, exception_handler=self._pubsub_exception_handler
        )

    def unsubscribe(self) -> None:
        """As RQ's, but the thread is told to stop before it is woken: RQ waits for a second here."""
        if self.pubsub_thread:
            self.pubsub_thread.stop()
        super().unsubscribe()

    def _pubsub_exception_handler(self, exc: Exception, _pubsub: PubSub, _thread: PubSubWorkerThread) -> None:
        """Keep listening through any trouble with Redis."""
        if not isinstance(exc, RedisError | OSError):
            raise exc
        logger.warning("redis: commands: {}: {}; again in {} s", type(exc).__name__, exc, _LONGEST_PAUSE_SECONDS)
        time.sleep(_LONGEST_PAUSE_SECONDS)

    def _install_signal_handlers(self) -> None:
        with contextlib.suppress(ValueError):  # not the main thread: whoever embeds the worker stops it
            signal.signal(signal.SIGINT, self.request_stop)
            signal.signal(signal.SIGTERM, self.request_stop)

    def request_stop(self, signum: int | None = None, frame: FrameType | None = None) -> None:  # noqa: ARG002
        """First time: stop claiming and let jobs finish. Again, after a second: put them back and end."""
        moment = time.monotonic()
        if not self._signals or moment - self._signals[-1] > _SAME_SIGNAL_SECONDS:
            self._signals.append(moment)
        self._stop_requested = True
        self._inbox.put(_Signal.STOP)

    def _stop_on_time(self) -> None:
        """Put unfinished jobs back when asked twice, or when the time to drain is over."""
        if not self._signals or not self._jobs:
            return
        late = time.monotonic() - self._signals[0] > self._rules.drain_timeout
        if len(self._signals) == 1 and not late:
            return
        finished = {outcome.claimed.id for outcome in self._ended}
        unfinished = [one.claimed for one in self._jobs.values() if one.claimed.id not in finished]
        try:
            self._commit()
            self._put_back(reversed(unfinished))
        except RedisError as error:
            logger.error("redis: {}: {}; recovery will find {} jobs", type(error).__name__, error, len(unfinished))
        logger.warning("{} unfinished jobs went back to their queues", len(unfinished))
        self.exit_code = ExitCode.PUT_BACK
