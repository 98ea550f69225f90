"""A producer process of a chaos run: submits jobs, good ones and bad ones, and writes down which.

The ledger gets a line once Redis has confirmed a job. A submit that got no answer is tried again under the same
id, made up beforehand; that the id is there already means that the answer was lost, not the job.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import typer
from redis import Redis
from redis.exceptions import RedisError
from rq import Retry
from rq.exceptions import DuplicateJobError
from rq.queue import Queue
from rq.serializers import JSONSerializer

from rwkv_tts.client import TTSClient
from rwkv_tts.keys import FUNCTION

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


class Producer:
    """Submits jobs of all kinds."""

    def __init__(self, url: str, queue: str, real: bool, random: Random) -> None:
        connection = Redis.from_url(url, socket_timeout=SOCKET_SECONDS)
        self.client = TTSClient(connection, queue)
        self.queue = Queue(queue, connection=connection, serializer=JSONSerializer)
        self.random = random
        self._real = real
        self.lost_replies = 0

    def kind(self) -> str:
        shares = {**POISON, **OTHERS}
        if self._real:
            shares = {kind: share for kind, share in shares.items() if not kind.startswith("failing")}
        names = [*shares, GOOD]
        return self.random.choices(names, [*shares.values(), 100 - sum(shares.values())])[0]

    def submit(self, kind: str, job_id: str) -> None:
        """Submit until it is certain that the job is there, once."""
        if kind == PHANTOM:
            self._certainly(lambda: self.queue.push_job_id(job_id))
            return
        request = self._request(kind)
        self._certainly(lambda: self._enqueue(kind, job_id, request))
        if kind == TWICE:
            self._certainly(lambda: self.queue.push_job_id(job_id))

    def _certainly(self, act: Callable[[], object]) -> None:
        while True:
            try:
                act()
            except DuplicateJobError:
                self.lost_replies += 1
            except (RedisError, OSError):
                time.sleep(AGAIN_SECONDS)
                continue
            return

    def _enqueue(self, kind: str, job_id: str, request: dict[str, Any]) -> None:
        options: dict[str, Any] = {"job_id": job_id, "unique": True}
        if kind == "failing row with a retry":
            options["retry"] = Retry(max=1)
        if kind == "bad data":
            job = self.queue.create_job(FUNCTION, kwargs={}, job_id=job_id)
            job.data = b"\x00 no JSON"
            self.queue.enqueue_job(job, unique=True)
        elif kind == "other function":
            self.queue.enqueue_call("os.getcwd", **options)
        else:
            self.client.enqueue(request, job_options=options)

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
    url: str, queue: str, prefix: str, ledger: Path, jobs: int, rate: float, seed: int, real: bool = False
) -> None:
    """Submit ``jobs`` jobs in bursts, ``rate`` of them a second."""
    random = Random(seed)  # noqa: S311 - a plan, no secret
    producer = Producer(url, queue, real, random)
    start, done, pause_after = time.monotonic(), 0, 0
    with ledger.open("w") as lines:
        while done < jobs:
            kind = producer.kind()
            job_id = f"{'phantom-' if kind == PHANTOM else ''}{prefix}-{done:06d}"
            producer.submit(kind, job_id)
            lines.write(json.dumps({"id": job_id, "kind": kind}) + "\n")
            done += kind != PHANTOM
            if done >= pause_after:
                lines.flush()
                pause_after = done + random.randint(1, LONGEST_BURST)
                time.sleep(max(0.0, start + done / rate - time.monotonic()))
        lines.write(json.dumps({"lost_replies": producer.lost_replies}) + "\n")


if __name__ == "__main__":
    typer.run(main)
