"""The services of ``docker-compose.yml`` as containers, as podman-compose makes them of that file.

They run from a copy of what a build sees, with secrets of their own; published ports are free ones.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis

from composed import REPOSITORY, server_program, services
from engine import BASE, Engine
from waiting import until

_REDIS = """
FROM {base}
RUN apt-get update && apt-get install -y --no-install-recommends redis-tools && ln -s redis-cli /usr/bin/valkey-cli
COPY valkey-server /usr/local/bin/
"""
_OWN = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv")
"""What an engine mounts in every container."""


class Containers:
    """Services of the compose file.

    Args:
        engine: Runs them.
        folder: Gets the copy and the secrets.
        ports: What a port of the compose file is on this machine, by the address there, such as ``gateway:8000``.
    """

    def __init__(self, engine: Engine, folder: Path, ports: Mapping[str, int]) -> None:
        self._engine, self._folder, self._project = engine, folder, f"t{uuid4().hex[:8]}"
        ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
        for name in [line[1:] for line in ignored if line.startswith("!")]:
            _copy(REPOSITORY / name, folder / name)
        for name in ("Dockerfile", ".dockerignore", "docker-compose.yml", "deploy"):
            _copy(REPOSITORY / name, folder / name)
        subprocess.run(["sh", "deploy/make-secrets.sh"], cwd=folder, check=True, timeout=60)
        (folder / "ports.yml").write_text(_override(ports))

    def secret(self, name: str) -> str:
        return (self._folder / "deploy" / "secrets" / name).read_text().rstrip("\n")

    def build(self, *names: str) -> None:
        """Build the images of services, from pip's packages; pip is told what it is told here."""
        options = " ".join(["--layers=false", "--network=host", *self._engine.pip_settings()])
        words = ["--podman-build-args", options, "build", "--build-arg", "PIP_EXTRA_INDEX_URL=", *names]
        self._compose(*words, seconds=900)

    def build_redis(self) -> None:
        """An image by the name of the service's, with the server of the tests and a client."""
        context = self._folder / "redis"
        context.mkdir()
        shutil.copy(server_program(), context / "valkey-server")
        (context / "Dockerfile").write_text(_REDIS.format(base=BASE))
        image = f"docker.io/{services()['redis']['image']}"
        self._engine.run("build", "--network=host", "--tag", image, context, seconds=300)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ends what was started within, and removes volumes and network."""
        try:
            yield
        finally:
            self._compose("down", "--volumes", "--timeout", "0", check=False)

    def start(self, name: str) -> None:
        """Start a service, and wait until its health check passes; podman alone would mount more to write to."""
        strict = ["--podman-run-args=--read-only-tmpfs=false"]
        self._compose(*strict, "up", "--detach", "--no-build", "--no-deps", name)
        until(lambda: self.healthy(name) or self.state(name)["Status"] == "exited", timeout=90)
        assert self.healthy(name), self.log(name)

    def stop(self, name: str) -> int:
        """Stop a service as Compose does; its exit code."""
        self._compose("stop", name)
        return int(self.state(name)["ExitCode"])

    def healthy(self, name: str) -> bool:
        """Whether the health check of a service passes, that of its image if it has none of its own."""
        return self._engine.run("healthcheck", "run", self._named(name), check=False).returncode == 0

    def state(self, name: str) -> Any:
        return self._inspect(name)["State"]

    def connect(self, role: str) -> Redis:
        """A connection from outside, as a producer has one that has joined the network."""
        [network] = self._inspect("redis")["NetworkSettings"]["Networks"].values()
        return Redis(network["IPAddress"], username=role, password=self.secret(f"redis_{role}"), socket_timeout=60)

    def _inspect(self, name: str) -> Any:
        return json.loads(self._engine.run("inspect", self._named(name)).stdout)[0]

    def log(self, name: str) -> str:
        done = self._engine.run("logs", self._named(name))
        return done.stdout + done.stderr

    def do(self, name: str, *command: str) -> str:
        """What a command prints in the container of a service."""
        return self._engine.run("exec", self._named(name), *command).stdout

    def writable(self, name: str) -> dict[str, bool]:
        """What is mounted to be written to beside what every container has, and whether programs run there."""
        lines = [line.split() for line in self.do(name, "cat", "/proc/self/mounts").splitlines()]
        own = tuple(f"{one}/" for one in _OWN)
        mounted = {target: options.split(",") for _, target, _, options, *_ in lines}
        return {
            target: "noexec" not in options
            for target, options in mounted.items()
            if "rw" in options and not f"{target}/".startswith(own)
        }

    def _named(self, name: str) -> str:
        return f"{self._project}_{name}_1"

    def _compose(self, *words: str, seconds: float = 120.0, check: bool = True) -> None:
        files = ["--file", "docker-compose.yml", "--file", "ports.yml"]
        command = [sys.executable, "-m", "podman_compose", "--project-name", self._project, "--profile", "cpu"]
        self._engine.call([*command, *files, *words], cwd=self._folder, seconds=seconds, check=check)


def declared(name: str) -> dict[str, bool]:
    """The same by the compose file: what is in memory, as Docker mounts it, and volumes that are not read-only."""
    service = services()[name]
    volumes = [one.split(":")[1] for one in service.get("volumes", []) if not one.endswith(":ro")]
    return {one.partition(":")[0]: False for one in service.get("tmpfs", [])} | dict.fromkeys(volumes, True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "secrets"))
    else:
        shutil.copy(source, target)


def _override(ports: Mapping[str, int]) -> str:
    """An override file that publishes each address at another port."""
    lines = ["services:"]
    for address, port in ports.items():
        name, _, there = address.partition(":")
        lines += [f"  {name}:", f'    ports: !override ["127.0.0.1:{port}:{there}"]']
    return "\n".join(lines) + "\n"
