"""Puts together what looks after the jobs of one worker."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rq.worker import BaseWorker

from worker.broker.audience import Audience
from worker.broker.backend import Backend, Ended, Made, MakeBackend
from worker.broker.callbacks import Callbacks
from worker.broker.claim import Claimer
from worker.broker.commands import Commands
from worker.broker.commit import Committer
from worker.broker.drain import Drain
from worker.broker.endings import Endings
from worker.broker.inbox import Inbox
from worker.broker.intake import Intake
from worker.broker.lease import Lease
from worker.broker.memory import Memory
from worker.broker.messages import CalledBack, Message, Signal, Stop, Tune, Tuned
from worker.broker.observer import Observer, Observers
from worker.broker.outage import Outage
from worker.broker.progress import Progress
from worker.broker.recovery import Recovery
from worker.broker.replicas import Replicas
from worker.broker.rules import Rules
from worker.broker.running import RunningJobs
from worker.broker.scheduled import Scheduler
from worker.broker.signs import SignsOfLife
from worker.broker.upkeep import Upkeep
from worker.broker.watchdog import Watchdog

_CONFIRM_SECONDS = 2.5
"""That replicas may take: less than the connection's timeout and, as a quarter of it, less than a lease."""


@dataclass(frozen=True)
class Crew:
    """Each does one thing; all of them belong to the worker's main thread, and to one call of ``work``."""

    inbox: Inbox
    commands: Commands
    drain: Drain
    outage: Outage
    watchdog: Watchdog
    scheduler: Scheduler
    jobs: RunningJobs
    backend: Backend
    callbacks: Callbacks
    lease: Lease
    claimer: Claimer
    intake: Intake
    endings: Endings
    progress: Progress
    audience: Audience
    signs: SignsOfLife
    upkeep: Upkeep
    observer: Observer
    memory: Memory

    def patience(self) -> float:
        """Seconds to wait for a message at most."""
        moment, deadline = time.monotonic(), self.endings.deadlines.next_at()
        if self.outage.retry_at:
            return max(0.0, min(self.outage.retry_at, deadline) - moment)
        if self.endings.waiting:
            return 0.0
        wait = min(min(self.signs.next_at, self.audience.next_at, deadline) - moment, self.intake.shift.patience())
        return max(0.0, wait if self.drain.wanted else min(wait, self.intake.patience()))

    def handle(self, message: Message) -> None:
        """Do what a message asks for."""
        if isinstance(message, Ended):
            self.endings.conclude(message)
        elif isinstance(message, Made):
            self.progress.add(message)
        elif isinstance(message, CalledBack):
            self.endings.called_back(message)
        elif isinstance(message, Stop):
            self.endings.stop(message.job_id)
        elif isinstance(message, Tune):
            self.backend.tune(message.change, lambda error: self.inbox.post(Tuned(message.id, error)))
        elif isinstance(message, Tuned):
            self.signs.answer(message)
        elif message is Signal.JOBS:
            self.intake.noticed()


def assemble(
    worker: BaseWorker,
    make_backend: MakeBackend,
    rules: Rules,
    max_jobs: int,
    observers: Sequence[Observer],
) -> Crew:
    """Build the crew of a worker.

    Args:
        worker: The RQ worker, which has its name, queues and connection.
        make_backend: Builds what does the jobs.
        rules: How jobs are treated.
        max_jobs: Jobs that may be in the worker at once.
        observers: Are told what happens to jobs.
    """
    connection, queues, name, key = worker.connection, worker.queues, worker.name, worker.key
    memory, inbox = Memory(connection, queues), Inbox()
    observer = Observers((memory, *observers))
    callbacks = Callbacks(rules.callbacks, rules.webhook_hosts, worker._exc_handlers)
    lease, jobs = Lease(name, rules.lease_timeout), RunningJobs(worker.executions)
    deadly = max(1, rules.max_attempts - 1)
    claimer = Claimer(connection, queues, name, key, lease.key, rules.max_payload_bytes, deadly)
    recovery = Recovery(connection, name, lease.key, rules.max_attempts, claimer)
    wait = min(_CONFIRM_SECONDS, rules.lease_timeout / 4)
    replicas = Replicas(connection, name, key, rules.commit_replicas, wait) if rules.commit_replicas else None
    committer = Committer(connection, name, key, rules.result_ttl, rules.failure_ttl, replicas)
    backend = make_backend(inbox.post, partial(inbox.post, Signal.ROOM))
    endings = Endings(jobs, backend, committer, callbacks, observer, inbox.post)
    progress, outage = Progress(connection, jobs), Outage(rules.outage_timeout)
    intake = Intake(claimer, progress, jobs, max_jobs, backend, endings, callbacks, observer, memory)
    signs = SignsOfLife(worker, lease, jobs, backend, endings, rules.max_queue, lambda: intake.suspended)
    upkeep = Upkeep(connection, queues, lease, recovery, jobs, endings, observer)
    return Crew(
        inbox=inbox,
        commands=Commands(name, worker.executions, inbox.post, partial(worker.request_stop, None, None)),
        drain=Drain(rules.drain_timeout),
        outage=outage,
        watchdog=Watchdog(rules.watchdog_timeout),
        scheduler=Scheduler(connection, queues),
        jobs=jobs,
        backend=backend,
        callbacks=callbacks,
        lease=lease,
        claimer=claimer,
        intake=intake,
        endings=endings,
        progress=progress,
        audience=Audience(connection, jobs, endings, outage),
        signs=signs,
        upkeep=upkeep,
        observer=observer,
        memory=memory,
    )
