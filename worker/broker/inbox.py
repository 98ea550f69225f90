"""Where other threads leave messages for a worker's main thread."""

import queue
from collections.abc import Iterator

from worker.broker.messages import Message


class Inbox:
    """Messages in their order; ``post`` may be called from any thread."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.post = self._queue.put
        self.empty = self._queue.empty

    def take(self, timeout: float) -> Iterator[Message]:
        """Wait for one message, then take all there are."""
        try:
            yield self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
            while True:
                yield self._queue.get_nowait()
        except queue.Empty:
            return
