"""A worker process for each of several devices, under a parent that computes nothing and restarts nothing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial

import typer
from loguru import logger
from prometheus_client import CollectorRegistry

from worker.cli.local import LocalWorker
from worker.devices import ALL, VISIBLE, alone, labels
from worker.ops.health import HealthServer
from worker.ops.together import Member, Together
from worker.settings import Settings

_KILLED = 128
"""What a shell adds to the number of the signal that ended a process."""


def devices_of(settings: Settings) -> tuple[str, ...]:
    """The devices of a worker: one, or several.

    Raises:
        typer.BadParameter: All GPUs are asked for, and there is none.
    """
    if settings.devices == (ALL,):
        return tuple(f"cuda:{number}" for number in range(_gpus()))
    return settings.devices or (settings.device,)


def _gpus() -> int:
    asked = [sys.executable, "-P", "-m", "worker.cli.gpus"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise typer.BadParameter(f"devices: no GPU for {ALL} ({reason}); accepted: names of devices, such as cpu")
    return int(done.stdout)


class Fleet:
    """Workers that end together.

    Args:
        workers: By the names of their devices.
    """

    def __init__(self, workers: Mapping[str, LocalWorker]) -> None:
        self._workers, self._told = workers, False

    def tell(self, *_: object) -> None:
        """Tell all to finish what runs; told again, they put it back."""
        self._told = True
        for worker in self._workers.values():
            if worker.exit_code is None:
                worker.send(signal.SIGTERM)

    def wait(self) -> int:
        """When all have ended: the exit code of the first that failed, else 0."""
        failure = 0
        with ThreadPoolExecutor(len(self._workers)) as threads:
            ends = {threads.submit(worker.wait): device for device, worker in self._workers.items()}
            for end in as_completed(ends):
                code = self._ended(ends[end], end.result())
                failure = failure or code
        return failure

    def _ended(self, device: str, code: int) -> int:
        """Take notice of an end; what it is to the exit code."""
        if code == 0 or (self._told and code == -signal.SIGTERM):  # that one was still loading, without any job
            return 0
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        rest = "" if self._told else "; the others finish what they run"
        logger.error("device {}: its worker ended with {}{}", device, how, rest)
        if not self._told:
            self.tell()
        return code if code > 0 else _KILLED - code


def work_on_each(settings: Settings, url: str, devices: Sequence[str], options: Sequence[str]) -> int:
    """Run a worker on each device until all have ended; one page shows them, where a port is set for it.

    Args:
        settings: Of all of them.
        url: Their Redis.
        devices: One for each.
        options: More of the command line of each.

    Returns:
        The exit code.

    Raises:
        AddressError: The page cannot be shown at its address.
    """
    workers: dict[str, LocalWorker] = {}
    members: list[Member] = []
    with ExitStack() as stack:
        for number, (device, label) in enumerate(zip(devices, labels(devices), strict=True)):
            name, environment = alone(device, os.environ.get(VISIBLE))
            own = _of_one(settings, name, number)
            with _listening(settings) as listening:
                worker = LocalWorker(
                    own, url, options, listening=listening, own_session=True, environment=environment
                )
                stack.callback(worker.stop)
                workers[label] = worker
                if listening is not None:
                    members.append(Member(label, listening.getsockname()[1], partial(_over, worker)))
        if settings.metrics_port is not None:
            stack.enter_context(_page(settings.metrics_host, settings.metrics_port, members))
        fleet = Fleet(workers)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, fleet.tell)
        return fleet.wait()


def _of_one(settings: Settings, device: str, number: int) -> Settings:
    name = settings.name and f"{settings.name}-{number}"
    return settings.model_copy(update={"device": device, "devices": (), "name": name, "metrics_port": None})


def _listening(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """Where a worker shows how it is, for the page of all: a port of this machine alone, if there is a page."""
    return nullcontext() if settings.metrics_port is None else socket.create_server(("127.0.0.1", 0))


def _over(worker: LocalWorker) -> bool:
    return worker.exit_code is not None


def _page(host: str, port: int, members: Sequence[Member]) -> HealthServer:
    together, registry = Together(members), CollectorRegistry()
    registry.register(together)
    return HealthServer(host, port, registry, together)
