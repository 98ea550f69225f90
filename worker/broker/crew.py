"""Puts together what looks after the jobs of one worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rq.worker import BaseWorker

from worker.broker.backend import Backend, MakeBackend
from worker.broker.callbacks import Callbacks
from worker.broker.claim import Claimer
from worker.broker.commit import Committer
from worker.broker.endings import Endings
from worker.broker.intake import Intake
from worker.broker.lease import Lease
from worker.broker.messages import Message, Signal
from worker.broker.observer import Observer, Observers
from worker.broker.recovery import Recovery
from worker.broker.replicas import Replicas
from worker.broker.rules import Rules
from worker.broker.running import RunningJobs
from worker.broker.signs import SignsOfLife
from worker.broker.upkeep import Upkeep

_CONFIRM_SECONDS = 2.5
"""That replicas may take: less than the connection's timeout and, as a quarter of it, less than a lease."""


@dataclass(frozen=True)
class Crew:
    """Each does one thing; all of them belong to the worker's main thread."""

    jobs: RunningJobs
    backend: Backend
    callbacks: Callbacks
    lease: Lease
    intake: Intake
    endings: Endings
    signs: SignsOfLife
    upkeep: Upkeep
    observer: Observer


def assemble(
    worker: BaseWorker,
    make_backend: MakeBackend,
    rules: Rules,
    max_jobs: int,
    observers: Sequence[Observer],
    post: Callable[[Message], None],
) -> Crew:
    """Build the crew of a worker.

    Args:
        worker: The RQ worker, which has its name, queues and connection.
        make_backend: Builds what does the jobs.
        rules: How jobs are treated.
        max_jobs: Jobs that may be in the worker at once.
        observers: Are told what happens to jobs.
        post: Puts a message into the worker's inbox, from any thread.
    """
    connection, queues, name, key = worker.connection, worker.queues, worker.name, worker.key
    observer, callbacks = Observers(observers), Callbacks(rules.callbacks, rules.webhook_hosts)
    lease, jobs = Lease(name, rules.lease_timeout), RunningJobs(worker.executions)
    deadly = max(1, rules.max_attempts - 1)
    claimer = Claimer(connection, queues, name, key, lease.key, rules.max_payload_bytes, deadly)
    recovery = Recovery(connection, name, lease.key, rules.max_attempts, claimer)
    wait = min(_CONFIRM_SECONDS, rules.lease_timeout / 4)
    replicas = Replicas(connection, name, key, rules.commit_replicas, wait) if rules.commit_replicas else None
    committer = Committer(connection, name, key, rules.result_ttl, replicas)
    backend = make_backend(post, partial(post, Signal.ROOM))
    endings = Endings(jobs, backend, committer, callbacks, observer, post)
    intake = Intake(claimer, jobs, max_jobs, backend, endings, callbacks, observer)
    signs = SignsOfLife(worker, lease, jobs, backend, endings, rules.max_queue, lambda: intake.suspended)
    upkeep = Upkeep(connection, queues, lease, recovery, jobs, endings, observer)
    return Crew(jobs, backend, callbacks, lease, intake, endings, signs, upkeep, observer)
