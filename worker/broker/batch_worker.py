"""An RQ worker that runs many jobs at once: claim, run, finish, and lose nothing on the way.

One thread owns everything here. It waits for messages (there are jobs, a job has ended, stop) and in between
keeps its lease alive, watches deadlines, recovers the jobs of dead workers and runs RQ's scheduler. While Redis
is away, jobs go on and finished ones wait in memory.
"""

import contextlib
import signal
import time
from collections.abc import Sequence
from enum import IntEnum
from functools import partial
from types import FrameType

from loguru import logger
from redis import Redis
from redis.exceptions import RedisError
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker
from rq.worker.base import DequeueStrategy, WorkerStatus

from worker.broker.backend import BackendBrokenError, Ended, MakeBackend
from worker.broker.commands import Commands
from worker.broker.crew import assemble
from worker.broker.drain import Drain
from worker.broker.inbox import Inbox
from worker.broker.jobs import HeldJob
from worker.broker.messages import CalledBack, Message, Signal, Stop, Tune, Tuned
from worker.broker.observer import Observer
from worker.broker.outage import Outage
from worker.broker.rules import Rules
from worker.broker.scheduled import Scheduler
from worker.broker.shift import Shift
from worker.broker.watchdog import Watchdog


class ExitCode(IntEnum):
    """How the process of a worker ends; 1 is an unexpected error or the watchdog."""

    DRAINED = 0
    UNUSABLE = 2
    PUT_BACK = 3
    OUTAGE = 4
    BROKEN = 5


class BatchWorker(BaseWorker):
    """Drains queues into a backend; to every RQ tool it is a worker with several executions.

    Args:
        connection: Redis; replies must not be decoded.
        make_backend: Builds what does the jobs.
        rules: How jobs are treated.
        max_jobs: Jobs that may be in the worker at once.
        observers: Are told what happens to jobs.

    Attributes:
        turned_at: When the main thread last began to look after everything, monotonic seconds; 0 before the first.
        exit_code: How it ended.
    """

    def __init__(
        self,
        connection: Redis,
        make_backend: MakeBackend,
        rules: Rules,
        *,
        max_jobs: int,
        name: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(
            list(rules.queue),
            name=name,
            connection=connection,
            default_result_ttl=rules.result_ttl,
            job_class=HeldJob,
            serializer=JSONSerializer,
        )
        self._inbox = Inbox()
        self.turned_at = 0.0
        self.exit_code = ExitCode.DRAINED
        self._outage = Outage(rules.outage_timeout, doubt_seconds=rules.lease_timeout)
        self._drain = Drain(rules.drain_timeout)
        self._scheduler = Scheduler(connection, self.queues)
        self._watchdog = Watchdog(rules.watchdog_timeout)
        self._commands = Commands(self.name, self.executions, self._inbox.post, self.request_stop)
        self._crew = assemble(self, make_backend, rules, max_jobs, observers, self._inbox.post)

    def _set_connection(self, connection: Redis) -> Redis:
        """Leave the connection's timeouts as they are: nothing here blocks for as long as RQ's own workers do."""
        return connection

    def work(
        self,
        burst: bool = False,
        logging_level: str | None = "WARNING",
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = True,  # noqa: ARG002 - every worker is a scheduler
        dequeue_strategy: DequeueStrategy = DequeueStrategy.DEFAULT,
    ) -> bool:
        """Work until told to stop; takes what RQ's workers take.

        Returns:
            Whether any job was finished. ``exit_code`` tells how it ended.

        Raises:
            ValueError: The queues are to be served in another order than that of their priority.
        """
        if dequeue_strategy != DequeueStrategy.DEFAULT:
            raise ValueError(f"dequeue_strategy: {str(dequeue_strategy)!r}; accepted: default, by priority")
        self._crew.intake.shift = Shift(burst, max_jobs, max_idle_time)
        start = partial(self.bootstrap, logging_level, date_format, log_format)
        self._outage.outlast(start, lambda: self.draining)
        for rq_queue in self.queues:
            rq_queue.get_redis_server_version()
        self._scheduler.start()
        with contextlib.suppress(ValueError):  # not the main thread: whoever embeds the worker stops it
            signal.signal(signal.SIGINT, self.request_stop)
            signal.signal(signal.SIGTERM, self.request_stop)
        self._crew.intake.watch(self.connection, self.queues, partial(self._inbox.post, Signal.JOBS))
        try:
            while not self._over():
                self._turn()
        finally:
            self._close()
        return self._crew.endings.any_finished

    @property
    def draining(self) -> bool:
        """Whether it was told to stop: it claims no more."""
        return self._drain.wanted

    @property
    def trouble(self) -> str | None:
        """Why it can exchange nothing with Redis at present, so that it claims nothing; None while it can."""
        return self._outage.reason

    def _over(self) -> bool:
        if self.exit_code is not ExitCode.DRAINED:
            return True
        intake, idle = self._crew.intake, not self._crew.jobs and self._inbox.empty()
        over = intake.shift.over(idle=idle, emptied=intake.emptied and not intake.blocked)
        return over or (idle and self.draining)

    def _turn(self) -> None:
        """Everything that is due, then wait for the next message."""
        self.turned_at = time.monotonic()
        self._crew.endings.check_deadlines()
        try:
            self._watchdog.feed(self._crew.backend.progress())
        except BackendBrokenError as error:
            logger.critical("{}; giving up: other workers take over", error)
            self.exit_code = ExitCode.BROKEN
            return
        if not self._outage.pausing:
            self._exchange()
        if self._drain.at_once and self._crew.jobs:
            self._crew.endings.put_back_unfinished()
            self.exit_code = ExitCode.PUT_BACK
        if not self._over():
            for message in self._inbox.take(self._patience()):
                self._handle(message)

    def _exchange(self) -> None:
        """Everything that needs Redis; a sign of life does not wait for results that Redis may refuse."""
        try:
            if self._crew.signs.due:
                self._beat()
            self._crew.endings.commit()
            self._scheduler.run()
            if not self.draining:
                self._crew.intake.claim()
            self._outage.over()
        except RedisError as error:
            self._outage.met(error, self._crew.endings.waiting)
            self._crew.intake.emptied = False
            if self._outage.too_long:
                self.exit_code = ExitCode.OUTAGE

    def _beat(self) -> None:
        """Say that the worker lives, and do what must not be done by one that does not know whether it does."""
        ours = self._crew.signs.beat()
        self._crew.intake.put_back_unknown(ours, self.queues if self._outage.in_doubt else ())
        self._crew.signs.recovered += self._crew.upkeep.run()
        self._crew.observer.beat(self._crew.signs.said, lambda: sum(rq_queue.count for rq_queue in self.queues))

    def _patience(self) -> float:
        """Seconds to wait for a message at most."""
        moment, deadline = time.monotonic(), self._crew.endings.deadlines.next_at()
        if self._outage.retry_at:
            return max(0.0, min(self._outage.retry_at, deadline) - moment)
        if self._crew.endings.waiting:
            return 0.0
        wait = min(min(self._crew.signs.next_at, deadline) - moment, self._crew.intake.shift.patience())
        return max(0.0, wait if self.draining else min(wait, self._crew.intake.patience()))

    def _handle(self, message: Message) -> None:
        if isinstance(message, Ended):
            self._crew.endings.conclude(message)
        elif isinstance(message, CalledBack):
            self._crew.endings.called_back(message)
        elif isinstance(message, Stop):
            self._crew.endings.stop(message.job_id)
        elif isinstance(message, Tune):
            self._crew.backend.tune(message.change, lambda error: self._inbox.post(Tuned(message.id, error)))
        elif isinstance(message, Tuned):
            self._crew.signs.answer(message)
        elif message is Signal.JOBS:
            self._crew.intake.noticed()

    def subscribe(self) -> None:
        """As RQ's, and to a channel of our own."""
        self.pubsub, self.pubsub_thread = self._commands.listen(  # type: ignore[assignment]  # RQ declares none
            self.connection, self.pubsub_channel_name
        )

    def unsubscribe(self) -> None:
        """As RQ's, but the thread is told to stop before it is woken: RQ waits for a second here."""
        if self.pubsub_thread:
            self.pubsub_thread.stop()
        super().unsubscribe()

    def request_stop(self, signum: int | None = None, frame: FrameType | None = None) -> None:  # noqa: ARG002
        """First time: stop claiming and let jobs finish. Again, after a second: put them back and end."""
        self._drain.tell()
        self._stop_requested = True
        self._inbox.post(Signal.STOP)

    def _close(self) -> None:
        self._crew.intake.stop()
        self._watchdog.stop()
        self._crew.callbacks.close(finish=not self._crew.jobs)
        if not self._crew.jobs:
            self._crew.backend.close()
        try:
            self._scheduler.stop()
            self.set_state(WorkerStatus.IDLE)
            self.teardown()
            self._crew.lease.release(self.connection)
        except RedisError as error:
            logger.warning("redis: {}: {}; this worker could not say goodbye", type(error).__name__, error)
