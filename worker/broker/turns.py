"""Whose turn it is when there are several queues: RQ's strategies."""

from collections.abc import Sequence
from random import shuffle

from rq.queue import Queue
from rq.worker.base import DequeueStrategy


class Turns:
    """Knows in which order to look at the queues.

    Args:
        queues: By priority.
        strategy: ``default``, by priority; ``round_robin``, a job of each in turn; ``random``, a job of any.

    Raises:
        ValueError: There is no such strategy.
    """

    def __init__(self, queues: Sequence[Queue], strategy: str = DequeueStrategy.DEFAULT) -> None:
        accepted = [one.value for one in DequeueStrategy]
        if strategy not in accepted:
            raise ValueError(f"dequeue_strategy: {strategy!r}; accepted: {', '.join(accepted)}")
        self._queues, self._strategy = list(queues), strategy

    def order(self) -> list[Queue]:
        """The queues, the one whose turn it is first."""
        if self._strategy == DequeueStrategy.RANDOM:
            shuffle(self._queues)
        return list(self._queues)

    def in_a_row(self, jobs: int) -> int:
        """How many of so many jobs one queue may give before it is the next one's turn."""
        return jobs if self._strategy == DequeueStrategy.DEFAULT else 1

    def served(self, queue: Queue) -> None:
        """The last job came from this queue."""
        if self._strategy == DequeueStrategy.ROUND_ROBIN:
            after = self._queues.index(queue) + 1
            self._queues = self._queues[after:] + self._queues[:after]
