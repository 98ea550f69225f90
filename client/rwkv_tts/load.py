"""How busy a queue is: what its workers say in their leases, and how many jobs wait."""

import json
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict
from rq.queue import Queue
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from rwkv_tts.keys import lease_key


@dataclass(frozen=True)
class QueueLoad:
    """A queue at this moment.

    Attributes:
        depth: Jobs that wait.
        limit: Jobs that may wait; None without a limit.
        workers: Workers that are alive.
        running: Jobs that they have started.
        jobs_per_second: Jobs that they end, over the last minute.
        capacity: Jobs that they can end in a second while there are enough, as far as they know; else what they
            did in the last minute.
    """

    depth: int
    limit: int | None
    workers: int
    running: int
    jobs_per_second: float
    capacity: float = 0.0

    @property
    def estimated_wait(self) -> float | None:
        """Seconds until a job that is queued now starts; None when nobody can tell."""
        if self.depth == 0 and self.workers:
            return 0.0
        rate = self.capacity or self.jobs_per_second
        return self.depth / rate if rate else None


class WorkerLoad(BaseModel):
    """What a worker says in its lease; what only some kinds of workers have is None for the others.

    Attributes:
        name: RQ's name of the worker.
        max_queue: Jobs that may wait; None without a limit.
        running: Jobs that it has started.
        jobs_per_second: Jobs that it ends, over the last minute.
        recovered: Jobs of dead workers that it put back.
        answers: Changes of values that it was asked for, by the asker's id: None, or why they were refused.
        rows: Rows that decode.
        most_rows: How many may; fewer than ``max_rows`` after the device was out of memory.
        max_rows: How many the operator lets decode at once.
        slots: To how many that can be raised.
        token_chunk_size: Prompt tokens that one step may prefill.
        log_level: The least important lines that it logs.
        mean_batch: Rows in a step, over the last ten seconds, as the two that follow.
        tokens_per_second: Tokens that it draws.
        audio_seconds_per_second: Seconds of audio that it makes.
        audio_seconds: Seconds of audio that it has made.
        voices: Ids of its model's own voices, the first of them.
        languages: Codes of those that its model speaks.
        capacity: Jobs that it ends in a second while all its rows are taken.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    max_queue: int | None
    running: int
    jobs_per_second: float
    recovered: int = 0
    answers: dict[str, str | None] = {}
    rows: int | None = None
    most_rows: int | None = None
    max_rows: int | None = None
    slots: int | None = None
    token_chunk_size: int | None = None
    log_level: str | None = None
    mean_batch: float | None = None
    tokens_per_second: float | None = None
    audio_seconds_per_second: float | None = None
    audio_seconds: float | None = None
    voices: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    capacity: float | None = None


class Busyness(NamedTuple):
    """A queue and its workers, read at once."""

    queue: QueueLoad
    workers: list[WorkerLoad]


def busyness(queue: Queue) -> Busyness:
    """Ask Redis; two round trips."""
    connection = queue.connection
    names = [as_text(key).rpartition(":")[2] for key in connection.smembers(WORKERS_BY_QUEUE_KEY % queue.name)]
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.llen(queue.key)
        for name in names:
            pipeline.get(lease_key(name))
        depth, *leases = pipeline.execute()
    workers = [
        WorkerLoad(name=name, **json.loads(lease))
        for name, lease in sorted(zip(names, leases, strict=True))
        if lease is not None
    ]
    limits = [worker.max_queue for worker in workers if worker.max_queue is not None]
    load = QueueLoad(
        depth=depth,
        limit=min(limits) if limits else None,
        workers=len(workers),
        running=sum(worker.running for worker in workers),
        jobs_per_second=sum(worker.jobs_per_second for worker in workers),
        capacity=sum(worker.capacity or worker.jobs_per_second for worker in workers),
    )
    return Busyness(load, workers)
