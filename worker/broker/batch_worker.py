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
from typing import Any

from loguru import logger
from redis import Redis
from redis.exceptions import RedisError
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import BaseWorker
from rq.worker.base import DequeueStrategy, WorkerStatus

from worker.broker.backend import BackendBrokenError, MakeBackend
from worker.broker.connection import check_cluster
from worker.broker.crew import assemble
from worker.broker.jobs import HeldJob
from worker.broker.messages import Signal
from worker.broker.observer import Observer
from worker.broker.rules import Rules
from worker.broker.shift import Shift
from worker.broker.turns import Turns


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
        self.turned_at = 0.0
        self.exit_code = ExitCode.DRAINED
        self._assemble = partial(assemble, self, make_backend, rules, max_jobs, observers)
        self._crew, self._worked = self._assemble(), False

    @classmethod
    def find_by_key(cls, worker_key: str, connection: Redis, *args: Any, **options: Any) -> BaseWorker | None:
        """As RQ's: the worker of a key, to be looked at, not to work."""
        found = BaseWorker.find_by_key(worker_key, connection, *args, **options)
        if found is not None:
            found.__class__ = cls  # RQ compares workers of one class only
        return found

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
        dequeue_strategy: str = DequeueStrategy.DEFAULT,
    ) -> bool:
        """Work until told to stop; takes what RQ's workers take.

        Returns:
            Whether any job was finished. ``exit_code`` tells how it ended.

        Raises:
            ValueError: There is no such strategy.
            NameTakenError: There is a worker of this name.
            ClusterError: Redis is a cluster whose nodes would have to share a job.
        """
        turns = Turns(self.queues, dequeue_strategy)
        self._begin_anew()
        self._crew.outage.outlast(partial(check_cluster, self.connection), lambda: self.draining)
        self._crew.intake.shift, self._crew.claimer.turns = Shift(burst, max_jobs, max_idle_time), turns
        start = partial(self.bootstrap, logging_level, date_format, log_format)
        self._crew.outage.outlast(start, lambda: self.draining)
        for rq_queue in self.queues:
            rq_queue.get_redis_server_version()
        self._crew.claimer.disown()
        self._crew.scheduler.start()
        with contextlib.suppress(ValueError):  # not the main thread: whoever embeds the worker stops it
            signal.signal(signal.SIGINT, self.request_stop)
            signal.signal(signal.SIGTERM, self.request_stop)
        self._crew.intake.watch(self.connection, self.queues, partial(self._crew.inbox.post, Signal.JOBS))
        try:
            while not self._over():
                self._turn()
        finally:
            self._close()
        return self._crew.endings.any_finished

    def _begin_anew(self) -> None:
        """Whoever has worked before does so with a new crew: the last one's threads may still be at their jobs."""
        if self._worked:
            self.executions.clear()
            self._crew, self.exit_code = self._assemble(), ExitCode.DRAINED
            self._stop_requested, self._shutdown_requested_date = False, None
        self._worked = True

    def register_birth(self) -> None:
        """As RQ's, but no two workers can get one name."""
        self._crew.signs.begin(super().register_birth)

    @property
    def draining(self) -> bool:
        """Whether it was told to stop: it claims no more."""
        return self._crew.drain.wanted

    @property
    def trouble(self) -> str | None:
        """Why it claims nothing at present: Redis is away, refuses, or is full; None while it does."""
        return self._crew.outage.reason or self._crew.memory.reason

    def _over(self) -> bool:
        if self.exit_code is not ExitCode.DRAINED:
            return True
        intake, idle = self._crew.intake, not self._crew.jobs and self._crew.inbox.empty()
        over = intake.shift.over(idle=idle, emptied=intake.emptied and not intake.blocked)
        return over or (idle and self.draining)

    def _turn(self) -> None:
        """Everything that is due, then wait for the next message."""
        self.turned_at = time.monotonic()
        self._crew.endings.check_deadlines()
        try:
            self._crew.watchdog.feed(self._crew.backend.progress())
        except BackendBrokenError as error:
            logger.critical("{}; giving up: other workers take over", error)
            self.exit_code = ExitCode.BROKEN
            return
        if not self._crew.outage.pausing:
            self._exchange()
        if self._crew.drain.at_once and self._crew.jobs:
            self._crew.endings.put_back_unfinished()
            self.exit_code = ExitCode.PUT_BACK
        if not self._over():
            for message in self._crew.inbox.take(self._crew.patience()):
                self._crew.handle(message)

    def _exchange(self) -> None:
        """Everything that needs Redis; a sign of life does not wait for results that Redis may refuse."""
        try:
            if self._crew.signs.due:
                self._beat()
            self._crew.audience.look()
            self._crew.progress.write()
            self._crew.endings.commit()
            self._crew.scheduler.run()
            self._crew.intake.run(claim=not self.draining)
            self._crew.outage.over()
        except RedisError as error:
            self._crew.outage.met(error, self._crew.endings.waiting)
            self._crew.intake.emptied = False
            if self._crew.outage.too_long:
                self.exit_code = ExitCode.OUTAGE

    def _beat(self) -> None:
        """Say that the worker lives, and do what must not be done by one that does not know whether it does."""
        ours = self._crew.signs.beat()
        if self.draining:
            self.set_shutdown_requested_date()
        self._crew.intake.put_back_unknown(ours)
        self._crew.signs.recovered += self._crew.upkeep.run()
        self._crew.observer.beat(self._crew.signs.said, lambda: sum(rq_queue.count for rq_queue in self.queues))

    def subscribe(self) -> None:
        """As RQ's, and to a channel of our own."""
        self.pubsub, self.pubsub_thread = self._crew.commands.listen(  # type: ignore[assignment]  # RQ declares none
            self.connection, self.pubsub_channel_name
        )

    def unsubscribe(self) -> None:
        """As RQ's, but the thread is told to stop before it is woken: RQ waits for a second here."""
        if self.pubsub_thread:
            self.pubsub_thread.stop()
        super().unsubscribe()

    def request_stop(self, signum: int | None = None, frame: FrameType | None = None) -> None:  # noqa: ARG002
        """First time: stop claiming and let jobs finish. Again, after a second: put them back and end."""
        self._crew.drain.tell()
        self._stop_requested, self._shutdown_requested_date = True, self._shutdown_requested_date or now()
        self._crew.signs.next_at = 0.0
        self._crew.inbox.post(Signal.STOP)

    def _close(self) -> None:
        self._crew.intake.stop()
        self._crew.watchdog.stop()
        self._crew.callbacks.close(finish=not self._crew.jobs)
        if not self._crew.jobs and self.exit_code is not ExitCode.BROKEN:
            self._crew.backend.close()
        try:
            self._crew.scheduler.stop()
            self.set_state(WorkerStatus.IDLE)
            self._crew.signs.end(self.teardown)
            self._crew.lease.release(self.connection)
        except RedisError as error:
            logger.warning("redis: {}: {}; this worker could not say goodbye", type(error).__name__, error)
