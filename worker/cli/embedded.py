"""A Redis-compatible server for a machine that has none: it starts and stops with the command."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ServerDiedError(RuntimeError):
    """The embedded server did not start; its reason is on standard error."""


@contextmanager
def embedded_redis(data: Path | None = None) -> Iterator[str]:
    """Run a server on a unix socket and yield its URL.

    Args:
        data: Folder of the append-only file, kept afterwards; a temporary one when None. Every write is
            logged there, so a command that is killed loses no job that was queued in a kept folder.

    Raises:
        ServerDiedError: It did not start.
    """
    folder = [] if data is None else [str(data)]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-P", "-m", "worker.cli.keeper", *folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as keeper:
        assert keeper.stdout is not None
        url = keeper.stdout.readline().strip()
        if not url:
            raise ServerDiedError("the embedded server did not start")
        yield url
