"""The processes of a chaos run: workers that are started again when they die, producers, and their networks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from chaos.clock import Clock
from chaos.network import Proxy
from chaos.objects import ObjectStore
from chaos.options import Options
from chaos.recovery import Case, Tracker
from chaos.server import PRODUCER, WORKER

QUEUE = "chaos"
POLL_SECONDS = 0.05
START_SECONDS = 120.0
STOP_SECONDS = 20.0


@dataclass
class Slot:
    """The place of one worker: its network, and the process that is there now.

    Attributes:
        busy: A fault waits or lasts; no other may hit it.
        ready: The worker listens.
        clock: Its clock, if it is to be stepped.
    """

    number: int
    proxy: Proxy
    clock: Clock | None
    process: "subprocess.Popen[bytes]"
    name: str
    busy: bool = False
    ready: bool = False

    def order(self, point: str) -> None:
        """Tell the worker to die at a fault point."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{point}\n".encode())
        self.process.stdin.flush()


class Fleet:
    """Workers in their slots, and producers.

    Args:
        make_clock: Makes a clock of that name, or none when no clock is to be stepped.
        make_network: Makes the network of a process of that name and user.
        store: Where workers put audio, when not in Redis.

    Attributes:
        deaths: Of workers, by other means than SIGKILL.
        fenced: Results that came from a worker which had lost its lease.
    """

    def __init__(
        self,
        options: Options,
        folder: Path,
        tracker: Tracker,
        make_clock: Callable[[str], Clock | None],
        make_network: Callable[[str, str], Proxy],
        store: ObjectStore | None,
    ) -> None:
        self._store = store
        self.slots: list[Slot] = []
        self.producer_networks: list[Proxy] = []
        self.deaths: Counter[str] = Counter()
        self.fenced = 0
        self._options, self._folder, self._tracker = options, folder, tracker
        self._make_clock, self._make_network = make_clock, make_network
        self._names = count()
        self._log = (folder / "workers.log").open("ab")
        (folder / "events").touch()
        self._events = (folder / "events").open()

    def start_workers(self) -> None:
        """Return when all of them listen."""
        for number in range(self._options.workers):
            proxy, clock = self._make_network(f"worker-{number}", WORKER), self._make_clock(f"clock-{number}")
            name = self._next_name(number)
            self.slots.append(Slot(number, proxy, clock, self._start_worker(proxy, clock, name), name))
        deadline = time.monotonic() + START_SECONDS
        while not all(slot.ready for slot in self.slots):
            self.read_events()
            time.sleep(POLL_SECONDS)
            if time.monotonic() > deadline:
                raise SystemExit(f"the workers did not start: {self.log_end()}")

    def start_producers(self) -> "list[tuple[subprocess.Popen[bytes], Path]]":
        """Each of them with its ledger."""
        o = self._options
        each, rest = divmod(o.jobs, o.producers)
        started = []
        for i in range(o.producers):
            jobs = each + (i < rest)
            ledger = self._folder / f"ledger-{i}"
            proxy = self._make_network(f"producer-{i}", PRODUCER)
            self.producer_networks.append(proxy)
            arguments = [proxy.url, QUEUE, f"producer{i}", ledger, jobs, jobs / o.seconds, o.seed + i]
            arguments += ["--real"] if o.model else []
            arguments += self._results()
            started.append((self._start("chaos.producer", arguments, proxy, None), ledger))
        return started

    def free(self) -> list[Slot]:
        """Slots whose workers listen and that no fault has hit."""
        return [slot for slot in self.slots if slot.ready and not slot.busy and slot.process.poll() is None]

    def revive(self) -> None:
        """Start every worker again that has died."""
        for slot in self.slots:
            if slot.process.poll() is None:
                continue
            moment = time.monotonic()
            self.read_events()
            if slot.process.returncode != -signal.SIGKILL:
                self.deaths[f"exit code {slot.process.returncode}"] += 1
            if not any(case.worker == slot.name for case in self._tracker.cases):
                self._tracker.add(Case("death", slot.name, moment, moment))
            _close(slot.process.stdin)
            slot.name, slot.busy, slot.ready = self._next_name(slot.number), False, False
            slot.process = self._start_worker(slot.proxy, slot.clock, slot.name)

    def read_events(self) -> None:
        """Take in what the workers have written down."""
        for line in self._events:
            event = json.loads(line)
            if event["event"] == "ready":
                for slot in self.slots:
                    slot.ready |= slot.name == event["worker"]
            elif event["event"] == "fenced":
                self.fenced += 1
            else:
                self._tracker.add(Case(event["event"], event["worker"], event["at"], event["at"]))

    def log_end(self) -> str:
        return (self._folder / "workers.log").read_text()[-2000:]

    def close(self, *, gently: bool) -> None:
        """End the workers, by SIGTERM or SIGKILL, and all networks."""
        for slot in self.slots:
            slot.process.send_signal(signal.SIGTERM if gently else signal.SIGKILL)
        for slot in self.slots:
            end(slot.process, STOP_SECONDS)
            _close(slot.process.stdin)
        for proxy in [*(slot.proxy for slot in self.slots), *self.producer_networks]:
            proxy.close()
        self._log.close()
        self._events.close()

    def _results(self) -> list[str]:
        return ["--results", self._store.url] if self._store else []

    def _next_name(self, number: int) -> str:
        return f"chaos-{self._options.seed}-{number}-{next(self._names)}"

    def _start_worker(self, proxy: Proxy, clock: Clock | None, name: str) -> "subprocess.Popen[bytes]":
        o = self._options
        arguments = [proxy.url, QUEUE, name, self._folder / "events", o.rows, o.lease]
        arguments += ["--model", o.model] if o.model else []
        arguments += self._results()
        return self._start("chaos.victim", arguments, proxy, clock)

    def _start(
        self, module: str, arguments: Sequence[object], proxy: Proxy, clock: Clock | None
    ) -> "subprocess.Popen[bytes]":
        inside = proxy.namespace.command if proxy.namespace else ()
        return subprocess.Popen(
            [*inside, sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                **(clock.environment if clock else {}),
                **(self._store.variables if self._store else {}),
            },
        )


def end(process: "subprocess.Popen[bytes]", patience: float = 0.0) -> None:
    """Wait for a process, and kill it when it takes longer."""
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()
