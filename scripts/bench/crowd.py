"""Measure what many workers of one Redis cost: looking for the dead among them, and waiting for a lone job.

    python scripts/bench crowd [--workers 64] [--rows 256] [--queued 200000] [--lone 50]

Recovery: all workers live and run all their rows, without a model, while as many jobs wait. In each of some
seconds every worker looks once for the jobs of dead ones, as its signs of life make it do; the time is what the
server has spent in these scripts (INFO commandstats). Then all but one fall silent, and all their jobs go back.

Lone jobs: all workers wait, each in a process of its own, for one queue; one job at a time is submitted, and the
time runs until its producer has the result. Rows end their jobs at once. The last line is JSON.
"""

import json
import multiprocessing
import time
from collections.abc import Sequence
from uuid import uuid4

from redis import Redis
from rq.queue import Queue

from bench.arguments import at_least, command_line
from bench.machine import machine, told
from bench.overhead import call, lone_job, make_worker, rq_queue
from rwkv_tts.keys import lease_key
from worker.broker.claim import Claimer
from worker.broker.recovery import Recovery
from worker.cli.embedded import embedded_redis

_AT_ONCE = 500
_SECONDS = 10
_INTERVAL = 1.0
_WARM_UP = 5
_PAUSE_SECONDS = 0.2
"""Between two lone jobs: all workers are idle again."""

_PAYLOAD = 1 << 20


class Looker:
    """A worker that lives, claims and looks, and does nothing else."""

    def __init__(self, connection: Redis, queue: Queue) -> None:
        name = uuid4().hex
        self._connection, self._queue, self._lease = connection, queue, lease_key(name)
        self._claimer = Claimer(connection, [queue], name, f"rq:worker:{name}", self._lease, _PAYLOAD, deadly=2)
        self._recovery = Recovery(connection, name, self._lease, 3, self._claimer)
        connection.set(self._lease, "{}")

    def claim(self, count: int) -> None:
        self._claimer.claim(count)

    def look(self) -> int:
        return self._recovery.run(self._queue, _INTERVAL)[0]

    def fall_silent(self) -> None:
        self._connection.delete(self._lease)


def enqueue(queue: Queue, jobs: int) -> None:
    job = call(1)
    for done in range(0, jobs, _AT_ONCE):
        count = min(_AT_ONCE, jobs - done)
        queue.enqueue_many([Queue.prepare_data(job["func"], kwargs=job["kwargs"]) for _ in range(count)])


def script_ms(connection: Redis) -> float:
    """What the server has spent in scripts, milliseconds."""
    stats = connection.info("commandstats")
    return sum(float(stats[name]["usec"]) / 1000 for name in ("cmdstat_eval", "cmdstat_evalsha") if name in stats)


def recovery(url: str, workers: int, rows: int, queued: int) -> dict[str, float]:
    """Milliseconds of the server a second while all live, and what it takes when all but one have died."""
    connection = Redis.from_url(url)
    connection.flushall()
    queue = rq_queue(connection, "crowd")
    enqueue(queue, workers * rows + queued)
    lookers = [Looker(connection, queue) for _ in range(workers)]
    for looker in lookers:
        looker.claim(rows)
    for looker in lookers:  # loads the script
        looker.look()
    begin = script_ms(connection)
    for _ in range(_SECONDS):
        time.sleep(_INTERVAL)
        for looker in lookers:
            looker.look()
    spent = (script_ms(connection) - begin) / _SECONDS
    for looker in lookers[1:]:
        looker.fall_silent()
    return {"server_ms_per_second": spent, **_all_die(connection, lookers[0], (workers - 1) * rows)}


def _all_die(connection: Redis, survivor: Looker, jobs: int) -> dict[str, float]:
    time.sleep(_INTERVAL)
    begin, clock, back = script_ms(connection), time.perf_counter(), 0
    while back < jobs:
        back += survivor.look()
        time.sleep(0.001)
    return {
        "jobs_recovered": back,
        "recovery_seconds": time.perf_counter() - clock,
        "recovery_server_ms": script_ms(connection) - begin,
    }


def idle(url: str, name: str) -> None:
    """The process of an idle worker; it ends by a signal."""
    make_worker(url, name, 1).work(logging_level="ERROR")


def lone(url: str, workers: int, jobs: int) -> dict[str, float]:
    """Milliseconds from submit until the producer has the result of a lone job."""
    connection = Redis.from_url(url)
    connection.flushall()
    queue = rq_queue(connection, "lone")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=idle, args=(url, queue.name), daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        while len(connection.smembers(f"rq:workers:{queue.name}")) < workers:
            time.sleep(0.1)
        time.sleep(2 * _INTERVAL)
        seconds = []
        for _ in range(_WARM_UP + jobs):
            time.sleep(_PAUSE_SECONDS)
            seconds.append(lone_job(queue, call(1)))
    finally:
        for process in processes:
            process.kill()
            process.join()
    ordered = sorted(seconds[_WARM_UP:])
    return {f"p{share}_ms": 1000 * ordered[round(share / 100 * (len(ordered) - 1))] for share in (50, 95)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line("crowd", __doc__)
    add, whole = parser.add_argument, at_least(1)
    add("--workers", type=whole, default=64, help="workers of one queue")
    add("--rows", type=whole, default=256, help="jobs that each of them runs")
    add("--queued", type=at_least(0), default=200_000, help="jobs that wait")
    add("--lone", type=whole, default=50, help="lone jobs beside idle workers")
    options = parser.parse_args(arguments)
    with embedded_redis() as url:
        waited = lone(url, options.workers, options.lone)
        looked = recovery(url, options.workers, options.rows, options.queued)
    about = machine()
    print(told(about))
    print(
        f"lone job beside {options.workers} idle workers: "
        f"p50 {waited['p50_ms']:.2f} ms, p95 {waited['p95_ms']:.2f} ms"
    )
    print(
        f"recovery, {options.workers} workers x {options.rows} rows, {options.queued} jobs wait: "
        f"{looked['server_ms_per_second']:.2f} ms of the server a second; when all but one have died, "
        f"{looked['jobs_recovered']:.0f} jobs in {looked['recovery_seconds']:.1f} s"
    )
    print(json.dumps({**vars(options), "machine": about, "lone": waited, "recovery": looked}))
    return 0
