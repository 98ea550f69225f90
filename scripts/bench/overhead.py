"""Measure what RQ's bookkeeping costs for each job: BatchWorker with no-op rows against rq.SimpleWorker.

    python scripts/bench overhead [--jobs 2000] [--repeats 5] [--lone 200]

Volume: a full queue, a fresh worker process in burst mode, everything from its start to its teardown (whose
fixed second of waiting is left out); the kinds of worker take turns, forwards and backwards. Lone jobs: both
kinds of worker wait, each in its own process; one job at a time goes to the one and to the other in turn.

A round trip is one send on a socket of the worker process, in any thread: a pipeline counts once. Commands are
those that the server has executed, inside scripts and transactions too (INFO commandstats). CPU time is the
worker process's. Medians over the repeats; the last line is JSON.
"""

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from redis import Redis
from redis.connection import AbstractConnection
from rich.console import Console
from rich.table import Table
from rq import SimpleWorker
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from bench.arguments import at_least, command_line
from bench.machine import machine, told
from bench.timing import there_and_back
from rwkv_tts.keys import ARGUMENT, FUNCTION
from rwkv_tts.refusal import Refusal
from worker.broker.backend import Backend, Ended
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules
from worker.cli.embedded import embedded_redis

STOCK = 0
"""In place of a number of rows: the stock worker."""

ROWS = (1, 8, 32, 128)
REQUEST = {"text": "hello"}
WARM_UP = 10
RESULT_SECONDS = 30


@dataclass(frozen=True)
class Volume:
    """One drained queue, or the medians of several."""

    round_trips_per_job: float
    commands_per_job: float
    cpu_ms_per_job: float
    jobs_per_second: float


@dataclass(frozen=True)
class Latency:
    """Lone jobs: milliseconds from submit until the producer has the result."""

    p50_ms: float
    p95_ms: float


NOOP = "bench.overhead.noop"


def noop(request: dict[str, Any]) -> dict[str, Any]:
    """What the stock worker calls."""
    return request


class NoopBackend(Backend):
    """Rows whose jobs end at once."""

    def __init__(self, rows: int, ended: Callable[[Ended], None]) -> None:
        self._rows, self._ended = rows, ended

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes]) -> None:  # noqa: ARG002
        self._ended(Ended(job_id, REQUEST))

    def cancel(self, job_id: str, refusal: Refusal) -> None:
        pass

    def room(self) -> int:
        return self._rows

    def progress(self) -> int | None:
        return None

    def close(self) -> None:
        pass


class Sends:
    """Counts the sends of all Redis connections of this process."""

    def __init__(self) -> None:
        self.count = 0
        send: Any = AbstractConnection.send_packed_command

        def counting(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            return send(*arguments, **options)

        AbstractConnection.send_packed_command = counting  # type: ignore[method-assign]


def make_worker(url: str, queue: str, rows: int) -> BaseWorker:
    if rows == STOCK:
        return SimpleWorker([queue], connection=Redis.from_url(url), serializer=JSONSerializer)
    rules = Rules(queue=(queue,))
    return BatchWorker(worker_connection(url), lambda ended, _: NoopBackend(rows, ended), rules, max_jobs=rows)


def drain(pipe: Connection, url: str, queue: str, rows: int) -> None:
    """The worker process of a volume measurement: sends (wall, CPU, sends) as they are when teardown begins."""
    worker, sends = make_worker(url, queue, rows), Sends()
    teardown: Callable[[], None] = worker.teardown
    wall, cpu = time.perf_counter(), time.process_time()

    def measured() -> None:
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu, sends.count))
        teardown()

    worker.teardown = measured  # type: ignore[method-assign]
    worker.work(burst=True, logging_level="ERROR")


def serve(pipe: Connection, url: str, queue: str, rows: int) -> None:
    """The worker process of a latency measurement; it ends by a signal."""
    worker = make_worker(url, queue, rows)
    pipe.send(None)
    worker.work(logging_level="ERROR")


def start(role: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start a fresh interpreter for a worker; it keeps one end of a pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=role, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def rq_queue(connection: Redis, name: str) -> Queue:
    return Queue(name, connection=connection, serializer=JSONSerializer)


def call(rows: int) -> dict[str, Any]:
    """The same job for either kind of worker."""
    return {"func": NOOP if rows == STOCK else FUNCTION, "kwargs": {ARGUMENT: REQUEST}}


def commands(connection: Redis) -> int:
    """Commands that the server has executed, without those that ask for it."""
    stats = connection.info("commandstats")
    return sum(one["calls"] for name, one in stats.items() if name not in ("cmdstat_info", "cmdstat_xlen"))


def volume(url: str, rows: int, jobs: int) -> Volume:
    """Drain a full queue once."""
    connection = Redis.from_url(url)
    connection.flushall()
    queue = rq_queue(connection, "volume")
    job = call(rows)
    queue.enqueue_many([Queue.prepare_data(job["func"], kwargs=job["kwargs"]) for _ in range(jobs)])
    before = commands(connection)
    process, pipe = start(drain, url, queue.name, rows)
    wall, cpu, sends = pipe.recv()
    executed = commands(connection) - before
    process.join()
    finished = connection.zcard(queue.finished_job_registry.key)
    if finished != jobs:
        raise RuntimeError(f"{finished} of {jobs} jobs are finished")
    return Volume(sends / jobs, executed / jobs, 1000 * cpu / jobs, jobs / wall)


def volumes(url: str, kinds: Sequence[int], jobs: int, repeats: int) -> dict[int, Volume]:
    """Medians; the kinds take turns, forwards and backwards."""
    measured: dict[int, list[Volume]] = {kind: [] for kind in kinds}
    for kind in there_and_back(kinds, repeats):
        measured[kind].append(volume(url, kind, jobs))
    return {kind: _medians(found) for kind, found in measured.items()}


def _medians(found: Sequence[Volume]) -> Volume:
    names = [field.name for field in fields(Volume)]
    return Volume(*(statistics.median(getattr(one, name) for one in found) for name in names))


def latencies(url: str, kinds: Sequence[int], jobs: int) -> dict[int, Latency]:
    """Lone jobs, to each kind in turn."""
    connection = Redis.from_url(url)
    connection.flushall()
    queues = {kind: rq_queue(connection, f"lone-{kind}") for kind in kinds}
    workers = [start(serve, url, queues[kind].name, kind) for kind in kinds]
    seconds: dict[int, list[float]] = {kind: [] for kind in kinds}
    try:
        for _, pipe in workers:
            pipe.recv()
        for kind in there_and_back(kinds, WARM_UP + jobs):
            time.sleep(0.005)  # let the worker become idle
            seconds[kind].append(lone_job(queues[kind], call(kind)))
    finally:
        for process, _ in workers:
            process.kill()
            process.join()
    return {kind: _latency(sorted(found[WARM_UP:])) for kind, found in seconds.items()}


def lone_job(queue: Queue, job: dict[str, Any]) -> float:
    """Submit one job and wait for its result."""
    begin = time.perf_counter()
    result = queue.enqueue_call(**job).latest_result(timeout=RESULT_SECONDS)
    if result is None or result.type != result.Type.SUCCESSFUL:
        raise RuntimeError(f"a lone job has no result: {result}")
    return time.perf_counter() - begin


def _latency(ordered: Sequence[float]) -> Latency:
    return Latency(*(1000 * ordered[round(share * (len(ordered) - 1))] for share in (0.5, 0.95)))


def label(kind: int) -> str:
    return "stock" if kind == STOCK else f"batch {kind}"


def show(measured: dict[int, Volume], lone_jobs: dict[int, Latency]) -> None:
    console = Console()
    console.print(told(machine()), highlight=False)
    table = Table()
    table.add_column("worker")
    for column in ("round trips / job", "commands / job", "CPU ms / job", "jobs / s", "x stock"):
        table.add_column(column, justify="right")
    for kind, v in measured.items():
        ratio = v.jobs_per_second / measured[STOCK].jobs_per_second
        table.add_row(
            label(kind),
            f"{v.round_trips_per_job:.3f}",
            f"{v.commands_per_job:.1f}",
            f"{v.cpu_ms_per_job:.3f}",
            f"{v.jobs_per_second:.0f}",
            f"{ratio:.2f}",
        )
    console.print(table)
    for kind, latency in lone_jobs.items():
        text = f"lone job, {label(kind)}: p50 {latency.p50_ms:.2f} ms, p95 {latency.p95_ms:.2f} ms"
        console.print(text, highlight=False)


def as_json(measured: dict[int, Volume], lone_jobs: dict[int, Latency], jobs: int, repeats: int) -> str:
    stock = measured[STOCK]
    result = {
        "machine": machine(),
        "jobs": jobs,
        "repeats": repeats,
        "volume": {label(kind): asdict(v) for kind, v in measured.items()},
        "lone": {label(kind): asdict(latency) for kind, latency in lone_jobs.items()},
        "jobs_per_second_over_stock": {
            label(kind): v.jobs_per_second / stock.jobs_per_second for kind, v in measured.items() if kind
        },
        "cpu_over_stock": {
            label(kind): v.cpu_ms_per_job / stock.cpu_ms_per_job for kind, v in measured.items() if kind
        },
    }
    return json.dumps(result)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line("overhead", __doc__)
    add, whole = parser.add_argument, at_least(1)
    add("--jobs", type=whole, default=2000, help="jobs of each volume measurement")
    add("--repeats", type=whole, default=5, help="measurements of each kind of worker")
    add("--lone", type=whole, default=200, help="lone jobs for each kind of worker")
    add("--rows", type=whole, default=32, help="rows of the batch worker that gets the lone jobs")
    options = parser.parse_args(arguments)
    with embedded_redis() as url:
        measured = volumes(url, (STOCK, *ROWS), options.jobs, options.repeats)
        lone_jobs = latencies(url, (STOCK, options.rows), options.lone)
    show(measured, lone_jobs)
    print(as_json(measured, lone_jobs, options.jobs, options.repeats))
    return 0
