"""What a batch worker tells about its jobs, to be counted and written down."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from worker.broker.outcome import Outcome


class Observer:
    """Is told what happens to jobs, from the worker's main thread; this one does not listen."""

    def claimed(self, jobs: int, /) -> None:
        """So many jobs were taken off the queues."""

    def delivering(self, jobs: int, /) -> None:
        """The ends of so many jobs are about to be recorded."""

    def delivered(self, seconds: float, /) -> None:
        """Recording results and attachments in Redis took so long."""

    def refused(self, jobs: int, /) -> None:
        """Redis did not record so many ends of jobs, or its replicas did not confirm; they are tried again."""

    def ended(self, outcome: Outcome, /) -> None:
        """An outcome was recorded: a try has ended, or went back to its queue."""

    def lost(self, outcome: Outcome, /) -> None:
        """An outcome was not recorded: the job was cancelled, deleted, or taken over meanwhile."""

    def recovered(self, put_back: int, abandoned: int, /) -> None:
        """So many jobs of dead workers went back to their queue, and so many are to fail."""

    def beat(self, says: Mapping[str, Any], depth: Callable[[], int], /) -> None:
        """The worker has given a sign of life; what it says in its lease, and how to ask how many jobs wait."""


class Observers(Observer):
    """Tells several, in their order, each of everything.

    Args:
        observers: Those to tell.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        told = tuple(observers)
        for name in [name for name in vars(Observer) if not name.startswith("_")]:
            setattr(self, name, partial(_tell, [getattr(one, name) for one in told]))


def _tell(methods: Iterable[Callable[..., None]], *event: Any) -> None:
    for method in methods:
        method(*event)
