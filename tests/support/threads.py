"""A worker in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker.broker.batch_worker import BatchWorker


@contextmanager
def in_thread(worker: BatchWorker) -> Iterator[BatchWorker]:
    """Let a worker work for the length of a block, and drain at its end."""
    thread = threading.Thread(target=worker.work)
    thread.start()
    try:
        yield worker
    finally:
        worker.request_stop()
        thread.join()
