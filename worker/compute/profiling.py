"""A torch profiler trace of some steps of the engine, on request; nothing here runs otherwise."""

from collections.abc import Callable
from pathlib import Path

from loguru import logger
from torch.profiler import profile, record_function

from batching.row import Row

_WARM_UP = 4
"""Steps before the first that is written: they fill caches and allocate."""

_STEP = "engine step"


class StepProfile:
    """Stands in for the engine's step: profiles some calls and writes what they did, for Chrome's trace viewer.

    It sees the thread that calls it. Make it in the main thread, where torch wants its profiler to be used first.

    Args:
        step: The engine's step.
        steps: Calls to write.
        path: File to write, JSON; overwritten.
    """

    def __init__(self, step: Callable[[], list[Row]], steps: int, path: Path) -> None:
        with profile():
            pass
        self._step, self._steps, self._path = step, steps, path
        self._calls = 0
        self._trace: profile | None = None

    def __call__(self) -> list[Row]:
        """Do the step."""
        self._calls += 1
        if self._calls == _WARM_UP + 1:
            self._trace = profile()
            self._trace.start()
        if self._trace is None:
            return self._step()
        with record_function(_STEP):
            finished = self._step()
        if self._calls == _WARM_UP + self._steps:
            self.close()
        return finished

    def close(self) -> None:
        """Write what there is, if that has not been done."""
        if self._trace is None:
            return
        self._trace.stop()
        self._trace.export_chrome_trace(str(self._path))  # it tells stderr, and nobody else, when it cannot
        self._trace = None
        if self._path.is_file():
            logger.warning("profile: {} steps are in {}", self._calls - _WARM_UP, self._path)
        else:
            logger.error("profile: {} cannot be written", self._path)
