"""A worker process that writes down what it imports, opens, connects to, starts and executes.

``python guarded.py serve URL QUEUE REPORT MODEL`` runs a ``BatchWorker``: SIGUSR1 starts the record and creates
the report, SIGUSR2 ends the record and writes it. ``python guarded.py trap URL QUEUE REPORT`` records a stock
worker that drains the queue once.
"""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from worker.broker.connection import worker_connection
from worker.service import run_worker
from worker.settings import Settings

WATCHED = (
    *("open", "exec", "compile", "socket.connect", "socket.bind", "socket.getaddrinfo"),
    *("socket.gethostby", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn"),
    *("os.remove", "os.rename", "os.mkdir", "os.listdir", "shutil.", "pickle.", "marshal.", "ctypes."),
)
"""How the names of audit events start that say that something reaches out of the process, or runs code."""

_OF_A_CONNECTION = "redis/driver_info.py"
"""redis-py looks up its own version for every connection that it opens."""

Events = list[tuple[str, str]]


class Guard:
    """Records audit events, except connections to one address.

    Args:
        known: The address that may be connected to.
    """

    def __init__(self, known: str) -> None:
        self.events: Events = []
        self.armed = False
        self._known = known
        sys.addaudithook(self._hook)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, *_: object) -> None:
        """Asked first for every module that is not there yet; ``importlib`` raises no audit event for it."""
        self._record("import", name)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(WATCHED) and not (event == "socket.connect" and arguments[1] == self._known):
            self._record(event, *arguments[:2])

    def _record(self, event: str, *details: object) -> None:
        if not self.armed:
            return
        frame: FrameType | None = sys._getframe(2)
        callers: list[str] = []
        while frame is not None:
            if frame.f_code.co_filename.endswith(_OF_A_CONNECTION):
                return
            callers.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            frame = frame.f_back
        self.events.append((event, f"{details!r:.200} from {' < '.join(callers[:12])}"))

    def write(self, report: Path) -> None:
        """Stop, and write the record."""
        self.armed = False
        report.write_text(json.dumps(self.events))


def main(mode: str, url: str, queue: str, report: str, *model: str) -> None:
    """Run one of the two workers."""
    guard, path = Guard(url.removeprefix("unix://")), Path(report)

    def arm(*_: object) -> None:
        path.write_text("[]")
        guard.armed = True

    if mode == "trap":
        arm()
        SimpleWorker([queue], connection=worker_connection(url), serializer=JSONSerializer).work(burst=True)
        guard.write(path)
        return
    write: Callable[..., None] = lambda *_: guard.write(path)  # noqa: E731
    signal.signal(signal.SIGUSR1, arm)
    signal.signal(signal.SIGUSR2, write)
    rules = {"queue": (queue,), "max_rows": 24, "lease_timeout": 2.0, "outage_timeout": 5.0}
    sys.exit(run_worker(Settings(model=Path(model[0]), **rules), url, burst=False))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
