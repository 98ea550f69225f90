"""Load on a worker: closed loops, Poisson arrivals, bursts, and what became of each job."""

import random
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from redis import Redis
from rq.queue import Queue
from rq.serializers import JSONSerializer

from bench.workload import Request
from rwkv_tts.client import TTSClient
from rwkv_tts.schema import SynthesisResult
from worker.cli.local import LocalWorker, wait

RESULT_TTL = 60
"""Seconds: the server holds little audio while thousands of jobs pass."""

BURST_TTL = 600
"""Seconds: audio of a burst waits until that of the jobs before it was taken."""


@dataclass(frozen=True)
class Outcome:
    """One job; times are ``time.perf_counter()`` seconds.

    Attributes:
        due: When it was submitted, or should have been.
        ended: When the producer had the whole audio file.
        result: None when the job failed; ``error`` is then the reason.
    """

    due: float
    ended: float
    result: SynthesisResult | None
    error: str = ""


class Producer:
    """Submits jobs to one worker's queue and waits for them; its methods return when all have ended.

    Args:
        clients: Jobs that will wait at once at most; each holds a connection.
    """

    def __init__(self, url: str, queue: str, worker: LocalWorker, clients: int) -> None:
        self._connection = Redis.from_url(url, max_connections=clients + 1)
        self._client = TTSClient(self._connection, queue)
        self._worker = worker

    def close(self) -> None:
        """Leave nothing of the queue in Redis but what expires by itself."""
        queue = Queue(self._client.queue, connection=self._connection, serializer=JSONSerializer)
        queue.delete()
        self._connection.delete(queue.finished_job_registry.key, queue.failed_job_registry.key)
        self._connection.close()

    def closed_loop(self, jobs: Iterable[Request], clients: int) -> list[Outcome]:
        """Each of the clients submits its next job when it has the audio of its last."""
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(self._speak, jobs))

    def open_loop(self, jobs: Sequence[Request], rate: float, seed: int) -> list[Outcome]:
        """Jobs arrive by a Poisson process of ``rate`` in jobs per second, whatever became of those before."""
        rng = random.Random(seed)  # noqa: S311 - arrivals, not secrets
        due = time.perf_counter()
        with ThreadPoolExecutor(len(jobs)) as pool:
            pending = []
            for job in jobs:
                due += rng.expovariate(rate)
                time.sleep(max(0.0, due - time.perf_counter()))
                pending.append(pool.submit(self._speak, job, due))
            return [future.result() for future in pending]

    def burst(self, jobs: Sequence[Request]) -> list[Outcome]:
        """All at once. Audio is taken in the order of submission: a job ends when those before it have, too."""
        submitted = [(time.perf_counter(), self._client.submit(**job, result_ttl=BURST_TTL)) for job in jobs]
        return [self._outcome(due, job_id) for due, job_id in submitted]

    def _speak(self, job: Request, due: float | None = None) -> Outcome:
        due = time.perf_counter() if due is None else due
        return self._outcome(due, self._client.submit(**job, result_ttl=RESULT_TTL))

    def _outcome(self, due: float, job_id: str) -> Outcome:
        spoken = wait(self._client, job_id, self._worker, keep=False)
        ended = time.perf_counter()
        if isinstance(spoken, str):
            return Outcome(due, ended, None, spoken)
        return Outcome(due, ended, spoken.result)
