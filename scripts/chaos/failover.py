"""Fail a master over under load, again and again; then audit that every job that was submitted ended exactly once.

    python scripts/chaos/failover.py --commit-replicas 1
    python scripts/chaos/failover.py --commit-replicas 1 --lag 0.8
    python scripts/chaos/failover.py --lag 0.8 --plan crash

A master, its replicas and three Sentinels run on loopback; workers with no-op rows and producers find the master
by way of the Sentinels. ``crash`` kills the master by SIGKILL and starts it again once another has its place;
``switch`` has the Sentinels make another one the master while the old one lives; ``coordinated`` does so after the
master has stopped taking writes and its replica has them all, which Valkey 9 can. ``--lag`` holds back what the
master tells its replicas; what is on its way when it dies is lost. A submit without a reply is repeated under the
same id, and counts when it returns.

The last line is JSON; the exit code is 1 when a job was lost, ended twice or ended wrongly.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

if not __package__:  # as in __main__.py
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError
from rq.queue import Queue
from rq.serializers import JSONSerializer

from chaos.audit import Audit, audit
from chaos.book import read
from chaos.fleet import end
from chaos.producer import GOOD
from chaos.recovery import spread
from chaos.sentinels import ReplicatedServer
from rwkv_tts import TTSClient, UnconfirmedError
from rwkv_tts.connection import connect
from worker.broker.rules import Rules

QUEUE = "failover"
AGAIN_SECONDS = 0.05
START_SECONDS, STUCK_SECONDS, STOP_SECONDS = 60.0, 60.0, 20.0
PLANS = ("crash", "switch", "coordinated")


class Producer(threading.Thread):
    """Submits jobs until it is stopped, and notes which were acknowledged.

    Attributes:
        ledger: As the audit reads it.
        seconds: What the submits took, repeats included.
        happened: Submits that were repeated or turned out to be there, by the error's name.
    """

    def __init__(self, client: TTSClient, name: str, rate: float, folder: Path) -> None:
        super().__init__(name=name, daemon=True)
        self.ledger = folder / f"ledger-{name}"
        self.seconds: list[float] = []
        self.happened: Counter[str] = Counter()
        self._client, self._rate = client, rate
        self._random = Random(name)  # noqa: S311 - no secret
        self._over = threading.Event()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        start = time.monotonic()
        with self.ledger.open("w") as ledger:
            for number in count():
                job_id, before = f"{self.name}-{number:06d}", time.monotonic()
                while not self._submit(job_id):
                    time.sleep(AGAIN_SECONDS)
                self.seconds.append(time.monotonic() - before)
                line = {"id": job_id, "kind": GOOD, "at": before, "took": self.seconds[-1], "errors": []}
                ledger.write(json.dumps(line) + "\n")
                if self._over.wait(max(0.0, start + number / self._rate - time.monotonic())):
                    return

    def _submit(self, job_id: str) -> bool:
        """Whether the job is queued for certain."""
        request = {"text": "One, two, three.", "metadata": {"work": self._random.uniform(0.01, 0.3)}}
        try:
            self._client.enqueue(request, job_options={"job_id": job_id, "unique": True})
        except DuplicateJobError as error:
            self.happened[type(error).__name__] += 1
        except (UnconfirmedError, RedisError, OSError) as error:
            self.happened[type(error).__name__] += 1
            return False
        return True


def start_workers(options: argparse.Namespace, folder: Path, url: str) -> "list[subprocess.Popen[bytes]]":
    """Return when all of them listen."""
    (folder / "events").touch()
    processes = []
    with (folder / "workers.log").open("ab") as log:
        for number in range(options.workers):
            arguments = [url, QUEUE, f"failover-{number}", folder / "events", options.rows, options.lease]
            command = [sys.executable, "-m", "chaos.victim", *map(str, arguments)]
            command += ["--commit-replicas", str(options.commit_replicas)]
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, env=env))
    deadline = time.monotonic() + START_SECONDS
    while (folder / "events").read_text().count('"ready"') < options.workers:
        time.sleep(AGAIN_SECONDS)
        if time.monotonic() > deadline:
            raise SystemExit(f"the workers did not start: {(folder / 'workers.log').read_text()[-2000:]}")
    return processes


def fail_over(server: ReplicatedServer, kind: str) -> float:
    if kind == "crash":
        return server.crash()
    return server.change(*(["COORDINATED"] if kind == "coordinated" else []))


def drain(connection: Redis, queue: Queue) -> None:
    """Wait until nothing waits or runs; give up when nothing has ended for a long time."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < STUCK_SECONDS:
        left = queue.count + connection.zcard(queue.started_job_registry.key)
        if left == 0:
            return
        if left != before:
            before, since = left, time.monotonic()
        time.sleep(AGAIN_SECONDS)


def run(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Audit]:
    """One run: its figures, and what became of the jobs."""
    with ExitStack() as stack:
        server = ReplicatedServer(folder, options.server, options.replicas, lags=True)
        stack.callback(server.stop)
        server.start()
        connection = connect(server.url)
        queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
        workers = start_workers(options, folder, server.url)
        for process in workers:
            stack.callback(end, process, STOP_SECONDS)
            stack.callback(process.terminate)
        client = TTSClient(server.url, QUEUE, commit_replicas=options.commit_replicas)
        producers = [
            Producer(client, f"producer{i}", options.rate / options.producers, folder)
            for i in range(options.producers)
        ]
        for producer in producers:
            producer.start()
        server.lag.seconds = options.lag
        start, seconds = time.monotonic(), []
        for kind in islice(cycle(options.plan), options.failovers):
            time.sleep(options.every)
            seconds.append(fail_over(server, kind))
        time.sleep(options.every)
        server.lag.seconds = 0.0
        for producer in producers:
            producer.stop()
        drain(connection, queue)
        result = audit(connection, queue, read([producer.ledger for producer in producers]), (), real=False)
        figures = report(options, result, producers, sorted(seconds), time.monotonic() - start)
        figures["failovers_unasked"] = server.epoch() - options.failovers
    return figures, result


def report(
    options: argparse.Namespace,
    result: Audit,
    producers: Sequence[Producer],
    failovers: Sequence[float],
    seconds: float,
) -> dict[str, Any]:
    submits = sorted(took for producer in producers for took in producer.seconds)
    happened = sum((producer.happened for producer in producers), Counter[str]())
    return {
        "commit_replicas": options.commit_replicas,
        "replicas": options.replicas,
        "lag": options.lag,
        "failovers": len(failovers),
        "plan": options.plan,
        "submitted": result.submitted,
        "finished_once": result.finished,
        "lost": len(result.lost),
        "lost_submits": sum("missing" in job for job in result.lost),
        "duplicated": len(result.duplicated),
        "wrong": len(result.wrong) + result.failed.total(),
        "leftovers": result.leftovers,
        "repeated_submits": dict(happened),
        "failover_seconds": spread(failovers),
        "submit_seconds": spread(submits),
        "jobs_per_second": round(result.submitted / seconds, 1),
    }


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Path | None]:
    """The size of the run, and the folder to keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, lease = parser.add_argument, Rules.model_fields["lease_timeout"].default
    add("--failovers", type=int, default=10, help="how many")
    add("--plan", nargs="+", choices=PLANS, default=["crash", "switch"], help="kinds, in turn")
    add("--every", type=float, default=4.0, help="seconds of load between them")
    add("--commit-replicas", type=int, default=0, help="of workers and producers")
    add("--replicas", type=int, default=2, help="of the master")
    add("--lag", type=float, default=0.0, help="seconds that replicas are behind")
    add("--rate", type=float, default=60.0, help="jobs a second")
    add("--producers", type=int, default=16, help="threads that submit")
    add("--workers", type=int, default=2, help="worker processes")
    add("--rows", type=int, default=16, help="rows of each worker")
    add("--lease", type=float, default=lease, help="setting lease_timeout")
    add("--server", help="program of servers and Sentinels, in place of the embedded one: redis-server")
    add("--keep", type=Path, help="folder for logs, ledgers and data, kept")
    options = parser.parse_args(arguments)
    return options, options.keep


def main(arguments: Sequence[str] | None = None) -> int:
    options, keep = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl+C: stop what was started
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="failover-"))) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        figures, result = run(options, folder)
    for job in (*result.lost[:20], *result.duplicated[:20], *result.wrong[:20]):
        print(job)
    print(json.dumps(figures))
    return 0 if result.holds and not result.failed else 1


if __name__ == "__main__":
    sys.exit(main())
