"""What a batch worker tells about its jobs, to be counted."""

from worker.broker.commit import Outcome


class Observer:
    """Is told what happens to jobs, from the worker's main thread; this one does not listen."""

    def claimed(self, jobs: int, /) -> None:
        """So many jobs were taken off the queues."""

    def ended(self, outcome: Outcome, /) -> None:
        """An outcome was recorded: a try has ended, or went back to its queue."""

    def delivered(self, seconds: float, /) -> None:
        """Recording results and audio in Redis took so long."""

    def lost(self) -> None:
        """The end of a job was decided elsewhere: it was cancelled, deleted, or taken over."""

    def recovered(self, put_back: int, abandoned: int, /) -> None:
        """So many jobs of dead workers went back to their queue, and so many are to fail."""
