"""Thousands of malformed payloads on a real queue: the worker refuses them, touches nothing, and speaks on."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

import guarded
import malformed
from malformed import TRAP, Case, job_key
from rwkv_tts.client import TTSClient
from waiting import until

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SEED = 20_260_801
GOOD_JOBS = 60
MESSAGES = 250
GROWTH_MB = 64
"""Of the worker's peak memory; the largest bomb alone would take more."""

Traces = dict[int, str]


class Guarded:
    """A guarded worker process and what a test needs to talk to it."""

    def __init__(self, process: "subprocess.Popen[bytes]", report: Path, output: Path) -> None:
        self.process, self.report, self.output = process, report, output

    def check(self) -> None:
        assert self.process.poll() is None, self.output.read_text(errors="replace")[-8000:]

    def arm(self) -> None:
        """Start the record."""
        self.process.send_signal(signal.SIGUSR1)
        until(self.report.exists)

    def events(self) -> guarded.Events:
        """End the record and read it."""
        self.report.unlink()
        self.process.send_signal(signal.SIGUSR2)
        until(lambda: self.report.exists() and self.report.read_text().endswith("]"))
        return [(event, detail) for event, detail in json.loads(self.report.read_text())]

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def command(mode: str, url: str, queue: str, report: Path, *more: str) -> list[str]:
    return [sys.executable, guarded.__file__, mode, url, queue, str(report), *more]


def environment(directory: Path) -> dict[str, str]:
    """With this checkout, and with a trap that can be imported."""
    (directory / f"{TRAP}.py").write_text("def speak(**_): ...\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(directory)])}


@contextmanager
def guarded_worker(url: str, queue: str, model: Path, directory: Path) -> Iterator[Guarded]:
    report, output = directory / "events.json", directory / "worker.log"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command("serve", url, queue, report, str(model)), env=environment(directory), stdout=sink, stderr=sink
        )
    try:
        yield Guarded(process, report, output)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()


class Fuzz:
    """Feeds one worker.

    Args:
        url: Of Redis.
        queue: The worker's.
        worker: It.
    """

    def __init__(self, url: str, queue: str, worker: Guarded) -> None:
        self.redis: Any = Redis.from_url(url, socket_timeout=60)
        self.client = TTSClient(self.redis, queue)
        self.queue, self.worker = Queue(queue, connection=self.redis, serializer=JSONSerializer), worker

    def speak(self, seed: int) -> str:
        return self.client.submit(f"a sentence, number {seed}", seed=seed, max_seconds=0.5)

    def traces(self, jobs: dict[int, str]) -> Traces:
        """The token traces of good jobs, by seed."""
        found = {}
        for seed, job_id in jobs.items():
            until(lambda job_id=job_id: self._ended(job_id), timeout=60)  # type: ignore[misc]
            found[seed] = self.client.result(job_id, timeout=5).result.trace_sha256
        return found

    def _ended(self, job_id: str) -> bool:
        self.worker.check()
        return self.redis.hget(job_key(job_id.encode()), "status") in (b"finished", b"failed")

    def send(self, cases: list[Case]) -> None:
        """Write what malformed producers write, and queue their jobs."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for case in cases:
                if case.fields is not None:
                    pipeline.hset(job_key(case.id), mapping=case.fields)
                for words in case.commands:
                    pipeline.execute_command(*words)
                if case.queued:
                    pipeline.rpush(self.queue.key, case.id)
            pipeline.execute(raise_on_error=False)  # some keys have a wrong type by now

    def tell(self, messages: list[bytes]) -> None:
        """Send messages on the worker's channel."""
        [worker] = self.redis.smembers(WORKERS_BY_QUEUE_KEY % self.queue.name)
        channel = f"{RQ_KEY_PREFIX}:pubsub:{worker.decode().rpartition(':')[2]}"
        for message in messages:
            self.redis.publish(channel, message)

    def waiting(self) -> int:
        self.worker.check()
        return int(self.redis.llen(self.queue.key))

    def drain(self, timeout: float = 20.0) -> list[Any]:
        """Wait until nothing waits, nothing runs, and nothing that is due is in a registry; else what is left."""
        deadline, left = time.monotonic() + timeout, [None]
        while left and time.monotonic() < deadline:
            self.worker.check()
            time.sleep(0.05)
            left = self.redis.zrange(self.queue.started_job_registry.key, 0, 20, withscores=True)
            left += self.redis.zrangebyscore(self.queue.scheduled_job_registry.key, "-inf", time.time())
            left += self.redis.lrange(self.queue.key, 0, 20)
        return left

    # Verdicts.

    def problem(self, case: Case) -> str | None:
        """What is wrong with how a case has ended, or None."""
        if case.fields is None or self.redis.type(job_key(case.id)) != b"hash":
            return None  # there was nothing to be said, or there is nothing left: a job may ask to be forgotten
        status = self.redis.hget(job_key(case.id), "status")
        before = case.fields.get(b"status")
        if status == b"finished":
            return None
        if status == b"failed" and before != b"failed":
            return self._reason_problem(case)
        if not case.id.replace(b"-", b"").isalnum():  # no job can have this id, so it is not touched
            return None if status in (before, b"queued") else f"changed to {status!r}"
        return None if self._may_rest(case, status) else f"left {status!r}"

    def _may_rest(self, case: Case, status: bytes) -> bool:
        assert case.fields is not None
        if case.fields.get(b"status") == status == b"canceled":
            return True  # dropped
        if status == b"failed":
            return self._reason_problem(case) is None
        if case.waits and status in (b"deferred", case.fields[b"status"]):
            return True
        if case.waits and status == b"queued" and case.fields[b"origin"].decode() != self.queue.name:
            return True  # on a queue that this worker does not serve
        return status == b"scheduled" and b"repeats_left" in case.fields

    def _reason_problem(self, case: Case) -> str | None:
        """It must be one printable line; where a producer asked that it is soon forgotten it may be gone."""
        assert case.fields is not None
        results = f"{RQ_KEY_PREFIX}:results:".encode() + case.id
        entries = self.redis.xrevrange(results, count=1) if self.redis.type(results) == b"stream" else []
        if entries and b"exc_string" in entries[0][1]:
            reason = zlib.decompress(b64decode(entries[0][1][b"exc_string"])).decode()
        else:
            raw = self.redis.hget(job_key(case.id), "exc_info") or b""
            reason = raw.decode(errors="replace") if raw != case.fields.get(b"exc_info") else ""
        if not reason and b"failure_ttl" in case.fields:
            return None
        return None if reason and reason.isprintable() and len(reason) < 2000 else f"reason {reason[:200]!r}"


def test_the_guard_notices_what_a_stock_worker_does(redis_url: str, tmp_path: Path) -> None:
    """The control of the test below."""
    queue = Queue("trap", connection=Redis.from_url(redis_url), serializer=JSONSerializer)
    job = queue.enqueue(f"{TRAP}.speak")
    report = tmp_path / "events.json"
    subprocess.run(command("trap", redis_url, "trap", report), env=environment(tmp_path), check=True, timeout=60)
    events = json.loads(report.read_text())
    assert job.get_status() == "finished"
    assert any(event == "import" and TRAP in detail for event, detail in events)
    assert any(event == "open" and TRAP in detail for event, detail in events)


@pytest.mark.timeout(300)
def test_malformed_payloads_fail_with_a_reason_and_touch_nothing(
    redis_url: str, random_model: Path, tmp_path: Path
) -> None:
    with guarded_worker(redis_url, "fuzz", random_model, tmp_path) as worker:
        fuzz = Fuzz(redis_url, "fuzz", worker)
        warm = fuzz.speak(0)
        cases = list(malformed.queued_cases(SEED, "fuzz"))
        messages = list(islice(malformed.messages(Random(SEED)), MESSAGES))  # noqa: S311 - not for secrets
        assert len(cases) + len(messages) >= 5000
        fuzz.traces({0: warm})
        worker.arm()
        alone = fuzz.traces({seed: fuzz.speak(seed) for seed in range(GOOD_JOBS)})
        peak = worker.peak_mb()
        jobs: dict[int, str] = {}
        step = len(cases) // GOOD_JOBS + 1
        for seed in range(GOOD_JOBS):
            fuzz.send(cases[seed * step : seed * step + step // 2])
            jobs[seed] = fuzz.speak(seed)
            fuzz.send(cases[seed * step + step // 2 : (seed + 1) * step])
            fuzz.tell(messages[seed::GOOD_JOBS])
            until(lambda: fuzz.waiting() < 3 * step, timeout=60)
        among = fuzz.traces(jobs)
        left = fuzz.drain()
        last = fuzz.traces({GOOD_JOBS: fuzz.speak(GOOD_JOBS)})
        problems = [(case.kind, case.id, found) for case in cases if (found := fuzz.problem(case))]
        grown = worker.peak_mb() - peak
        events = worker.events()
        worker.check()
    assert among == alone
    assert last
    assert not left
    assert not problems, (Counter(kind for kind, *_ in problems), problems[:20])
    assert not events, (Counter(event for event, _ in events), events[:20])
    assert grown < GROWTH_MB
    assert worker.process.returncode == 0, worker.output.read_text(errors="replace")[-4000:]
