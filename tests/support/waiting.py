"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Return when the condition holds.

    Raises:
        AssertionError: It does not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
