"""A producer process of a chaos run: submits jobs, good ones and bad ones, waits for some, and writes down which.

The ledger gets a line once Redis has confirmed a job. A submit that got no answer is tried again under the same
id, made up beforehand; that the id is there already means that the answer was lost, not the job.

A Redis that was set back has forgotten jobs that it had confirmed. When standard input ends, all faults are over:
then whatever is not there is submitted again, under its id, and the ledger says so. The audit judges whether it
could have been forgotten.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, TextIO

import typer
from redis import Redis
from redis.exceptions import RedisError
from rq import Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.queue import Queue
from rq.serializers import JSONSerializer

from rwkv_tts.audio_store import REDIS, StoreError
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import FUNCTION
from rwkv_tts.results import JobFailedError, fetch_job

POISON = {
    "bad request": 1,
    "bad data": 1,
    "other function": 1,
    "unknown voice": 2,
    "failing row": 2,
    "failing row with a retry": 1,
}
"""Jobs that must fail, and how many of a hundred; ``failing`` ones need the no-op rows."""

TWICE, PHANTOM = "id twice", "phantom"
OTHERS = {TWICE: 2, PHANTOM: 1}
"""A good job whose id is pushed twice; an id that names nothing, which is no job."""

GOOD = "good"
LONGEST_BURST = 40
SOCKET_SECONDS = 3.0
AGAIN_SECONDS = 0.2
WAITERS = 3


class Attempt:
    """Repeats what Redis or the store of audio did not do, and remembers what it said.

    Attributes:
        at: When it began, monotonic seconds.
        errors: Of each kind one, as a producer sees it.
    """

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.errors: list[str] = []

    def until_done(self, act: Callable[[], object]) -> None:
        while True:
            try:
                act()
            except (RedisError, OSError, StoreError) as error:
                if (name := _name(error)) not in self.errors:
                    self.errors.append(name)
                time.sleep(AGAIN_SECONDS)
            else:
                return

    def told(self) -> dict[str, Any]:
        return {"at": self.at, "took": time.monotonic() - self.at, "errors": self.errors}


def _name(error: Exception) -> str:
    """The code of Redis where redis-py has no class for it."""
    first = str(error).rpartition("caused error: ")[2].partition(" ")[0]
    return first if first.isupper() and first != "ERR" else type(error).__name__


class Ledger:
    """What a producer knows, one line of JSON a piece; safe to use from several threads."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def write(self, **line: Any) -> None:
        with self._lock:
            self._file.write(json.dumps(line) + "\n")


class Producer:
    """Submits jobs of all kinds."""

    def __init__(self, url: str, queue: str, results: str, real: bool, random: Random, ledger: Ledger) -> None:
        self.connection = Redis.from_url(url, socket_timeout=SOCKET_SECONDS)
        self.client = TTSClient(self.connection, queue, results=results)
        self.queue = Queue(queue, connection=self.connection, serializer=JSONSerializer)
        self.random, self.ledger = random, ledger
        self._real = real
        self._submitted: dict[str, tuple[str, dict[str, Any]]] = {}
        self._newest: str | None = None
        self.lost_replies = 0

    def kind(self) -> str:
        shares = {**POISON, **OTHERS}
        if self._real:
            shares = {kind: share for kind, share in shares.items() if not kind.startswith("failing")}
        names = [*shares, GOOD]
        return self.random.choices(names, [*shares.values(), 100 - sum(shares.values())])[0]

    def submit(self, kind: str, job_id: str) -> None:
        """Submit until it is certain that the job is there, once."""
        attempt = Attempt()
        if kind == PHANTOM:
            attempt.until_done(lambda: self.queue.push_job_id(job_id))
        else:
            request = self._request(kind)
            attempt.until_done(lambda: self._enqueue(kind, job_id, request))
            self._submitted[job_id] = kind, request
        self.ledger.write(id=job_id, kind=kind, **attempt.told())
        if kind == TWICE:
            Attempt().until_done(lambda: self.queue.push_job_id(job_id))
        if kind == GOOD:
            self._newest = job_id

    def wait_for_results(self) -> None:
        """Wait for the newest good job, again and again, in a thread of its own."""
        before = None
        while True:
            job_id = self._newest
            if job_id is None or job_id == before:
                time.sleep(AGAIN_SECONDS)
            else:
                self._wait_for_result(job_id)
                before = job_id

    def _wait_for_result(self, job_id: str) -> None:
        attempt = Attempt()
        try:
            attempt.until_done(lambda: self.client.result(job_id))
        except (JobFailedError, NoSuchJobError) as error:
            attempt.errors.append(type(error).__name__)
        self.ledger.write(result=job_id, **attempt.told())

    def submit_what_was_forgotten(self) -> None:
        """Look for every job, and submit again what is not there."""
        for job_id, (kind, request) in self._submitted.items():
            if self._is_there(job_id):
                continue
            Attempt().until_done(lambda: self._enqueue(kind, job_id, request))  # noqa: B023 - called at once
            self.ledger.write(again=job_id)

    def _is_there(self, job_id: str) -> bool:
        try:
            Attempt().until_done(lambda: fetch_job(self.connection, job_id))
        except NoSuchJobError:
            return False
        return True

    def _enqueue(self, kind: str, job_id: str, request: dict[str, Any]) -> None:
        options: dict[str, Any] = {"job_id": job_id, "unique": True}
        if kind == "failing row with a retry":
            options["retry"] = Retry(max=1)
        try:
            if kind == "bad data":
                job = self.queue.create_job(FUNCTION, kwargs={}, job_id=job_id)
                job.data = b"\x00 no JSON"
                self.queue.enqueue_job(job, unique=True)
            elif kind == "other function":
                self.queue.enqueue_call("os.getcwd", **options)
            else:
                self.client.enqueue(request, job_options=options)
        except DuplicateJobError:
            self.lost_replies += 1

    def _request(self, kind: str) -> dict[str, Any]:
        request: dict[str, Any] = {"text": "One, two, three.", "seed": self.random.randrange(1000)}
        if kind == "bad request":
            return {"text": "", "tempo": 3}
        if kind == "unknown voice":
            return {**request, "voice": "nobody"}
        if self._real:
            return {**request, "max_seconds": self.random.uniform(0.2, 1.0)}
        return {**request, "metadata": {"work": self._work(), "fail": kind.startswith("failing")}}

    def _work(self) -> float:
        """Mostly a few milliseconds; one job in five takes up to three seconds."""
        return self.random.uniform(0.2, 3.0) if self.random.random() < 0.2 else self.random.uniform(0.002, 0.02)


def main(
    url: str,
    queue: str,
    prefix: str,
    ledger: Path,
    jobs: int,
    rate: float,
    seed: int,
    real: bool = False,
    results: str = REDIS,
) -> None:
    """Submit ``jobs`` jobs in bursts, ``rate`` of them a second."""
    random = Random(seed)  # noqa: S311 - a plan, no secret
    with ledger.open("w", buffering=1) as file:
        lines = Ledger(file)
        producer = Producer(url, queue, results, real, random, lines)
        for _ in range(WAITERS):
            threading.Thread(target=producer.wait_for_results, daemon=True).start()
        start, done, pause_after = time.monotonic(), 0, 0
        while done < jobs:
            kind = producer.kind()
            producer.submit(kind, f"{'phantom-' if kind == PHANTOM else ''}{prefix}-{done:06d}")
            done += kind != PHANTOM
            if done >= pause_after:
                pause_after = done + random.randint(1, LONGEST_BURST)
                time.sleep(max(0.0, start + done / rate - time.monotonic()))
        sys.stdin.read()
        producer.submit_what_was_forgotten()
        lines.write(lost_replies=producer.lost_replies)


if __name__ == "__main__":
    typer.run(main)
