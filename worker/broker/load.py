"""How busy a queue is: what its workers say in their leases, and how many jobs wait."""

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rq.queue import Queue
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from worker.keys import lease_key

_WINDOW_SECONDS = 60.0


class QueueFullError(RuntimeError):
    """The queue is at its limit; nothing was queued."""


@dataclass(frozen=True)
class QueueLoad:
    """A queue at this moment.

    Attributes:
        depth: Jobs that wait.
        limit: Jobs that may wait; None without a limit.
        workers: Workers that are alive.
        running: Jobs that they have started.
        jobs_per_second: Jobs that they end, over the last minute.
    """

    depth: int
    limit: int | None
    workers: int
    running: int
    jobs_per_second: float

    @property
    def estimated_wait(self) -> float | None:
        """Seconds until a job that is queued now starts; None when nobody can tell."""
        if self.depth == 0 and self.workers:
            return 0.0
        return self.depth / self.jobs_per_second if self.jobs_per_second else None


def queue_load(queue: Queue) -> QueueLoad:
    """Ask Redis; two round trips."""
    connection = queue.connection
    names = [as_text(key).rpartition(":")[2] for key in connection.smembers(WORKERS_BY_QUEUE_KEY % queue.name)]
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.llen(queue.key)
        for name in names:
            pipeline.get(lease_key(name))
        depth, *leases = pipeline.execute()
    says = [json.loads(lease) for lease in leases if lease is not None]
    limits = [s["max_queue"] for s in says if s["max_queue"] is not None]
    return QueueLoad(
        depth=depth,
        limit=min(limits) if limits else None,
        workers=len(says),
        running=sum(s["running"] for s in says),
        jobs_per_second=sum(s["jobs_per_second"] for s in says),
    )


# KEYS: queue. ARGV: limit, then commands, each as its length and its words.
_ENQUEUE = """
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
local i = 2
while i <= #ARGV do
  redis.call(unpack(ARGV, i + 1, i + tonumber(ARGV[i])))
  i = i + tonumber(ARGV[i]) + 1
end
return 1
"""


def enqueue_within(queue: Queue, limit: int, commands: Sequence[Sequence[Any]]) -> None:
    """Run commands that enqueue a job, unless ``limit`` jobs wait already.

    Raises:
        QueueFullError: They do; nothing was run.
    """
    arguments: list[Any] = [limit]
    for command in commands:
        arguments += [len(command), *command]
    if not queue.connection.eval(_ENQUEUE, 1, queue.key, *arguments):
        load = queue_load(queue)
        wait = "unknown" if load.estimated_wait is None else f"{load.estimated_wait:.0f} s"
        raise QueueFullError(
            f"queue {queue.name}: {load.depth} jobs wait, {limit} may; estimated wait {wait}; try again later"
        )


class Throughput:
    """Counts what has ended in the last minute."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._ended: deque[float] = deque()

    def count(self, jobs: int) -> None:
        self._ended.extend([time.monotonic()] * jobs)

    def per_second(self) -> float:
        now = time.monotonic()
        while self._ended and self._ended[0] < now - _WINDOW_SECONDS:
            self._ended.popleft()
        return len(self._ended) / max(1.0, min(_WINDOW_SECONDS, now - self._since))
