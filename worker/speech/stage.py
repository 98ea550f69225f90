"""A stage of the pipeline: a thread with an inbox."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from loguru import logger

Item = TypeVar("Item")


class Stage(Generic[Item]):
    """Works on what is put into its inbox until None comes; ``run`` says how.

    Args:
        name: Of the thread.

    Attributes:
        inbox: What waits for the stage.
        completed: A number that grows with what it does; written by its thread.
        busy_seconds: What it has worked; written by its thread.
        broken: Why it has ended before its time.
    """

    def __init__(self, name: str) -> None:
        self.inbox: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self.completed = 0
        self.busy_seconds = 0.0
        self.broken: str | None = None
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    @property
    def name(self) -> str:
        return self._thread.name

    def put(self, item: Item | None) -> None:
        """Give the stage something to do; None is the last."""
        self.inbox.put(item)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def run(self) -> None:
        """Do the work, in the stage's thread."""
        raise NotImplementedError

    def batch(self, most: int) -> list[Item] | None:
        """Wait for one item and take along those that are there already; None at the end."""
        batch: list[Item] = []
        while len(batch) < most and not (batch and self.inbox.empty()):
            item = self.inbox.get()
            if item is None:
                self.inbox.put(None)
                return batch or None
            batch.append(item)
        return batch

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count the time of a block as work."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.busy_seconds += time.perf_counter() - start

    def _guarded(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - the end of the thread, which whoever asks for progress is told
            logger.exception("a stage of the pipeline has ended")
            self.broken = f"{self.name}: {type(error).__name__}: {error}"


def call(name: str, callback: Callable[[], None]) -> None:
    """Call back; an error in it is not the stage's."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - a caller's fault must not end the thread
        logger.exception("the callback {!r} failed", name)
