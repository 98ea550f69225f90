"""A worker process of a chaos run: the product's worker, with points where it can be told to die.

The name of a fault point on standard input arms it; at one of the next times that the worker passes it with jobs
in its hands, it kills itself with SIGKILL. The end of standard input ends the process.
"""

import heapq
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import typer
from loguru import logger

from chaos.points import FaultPoint
from chaos.store import RESULT_TTL, open_store
from rwkv_tts.audio_store import new_name
from rwkv_tts.keys import audio_key
from rwkv_tts.refusal import Cause, Refusal, invalid
from rwkv_tts.schema import SynthesisResult, Timings, TokenCounts, parse_request
from worker.broker.backend import Backend, Ended, Made, MakeBackend
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import wait_for_redis, worker_connection
from worker.broker.observer import Observer
from worker.broker.outcome import Outcome
from worker.broker.rules import Rules
from worker.delivery.uploads import Upload, Uploads

CHANCE = 0.5
KNOWN_VOICE = "known"


class Trap:
    """Writes down what happens, and kills the process where it is told to."""

    def __init__(self, events: Path, name: str) -> None:
        self._file = os.open(events, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._name = name
        self._random = Random(name)  # noqa: S311 - a plan, no secret
        self._armed: str | None = None

    def listen(self) -> None:
        """Take orders from standard input."""
        for line in sys.stdin:
            self._armed = line.strip()
        os._exit(1)

    def tell(self, event: str, jobs: int = 0) -> None:
        line = {"event": event, "worker": self._name, "at": time.monotonic(), "jobs": jobs}
        os.write(self._file, (json.dumps(line) + "\n").encode())

    def passes(self, point: FaultPoint, jobs: int) -> None:
        """The worker is at a fault point."""
        if jobs and self._armed == point and self._random.random() < CHANCE:
            self.tell(point, jobs)
            os.kill(os.getpid(), signal.SIGKILL)


class FaultPoints(Observer):
    """The moments in a job's life at which its worker may die."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap

    def claimed(self, jobs: int, /) -> None:
        self._trap.passes(FaultPoint.CLAIMED, jobs)

    def delivering(self, jobs: int, /) -> None:
        self._trap.passes(FaultPoint.WORKED, jobs)

    def ended(self, outcome: Outcome, /) -> None:  # noqa: ARG002
        self._trap.passes(FaultPoint.COMMITTED, 1)

    def lost(self, outcome: Outcome, /) -> None:  # noqa: ARG002
        self._trap.passes(FaultPoint.COMMITTED, 1)
        self._trap.tell("fenced", 1)


class ChaosWorker(BatchWorker):
    """The product's worker, which tells when it is ready."""

    def __init__(self, trap: Trap, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, observers=(FaultPoints(trap),), **options)
        self._trap = trap

    def bootstrap(self, *arguments: Any, **options: Any) -> None:
        super().bootstrap(*arguments, **options)
        self._trap.tell("ready")


class TimedBackend(Backend):
    """Rows that do nothing for as long as the request's metadata say; the audio is the job's id.

    The metadata's ``fail`` makes a row fail; the only voice is ``known``.
    """

    def __init__(self, rows: int, ended: Callable[[Ended], None], uploads: Uploads | None) -> None:
        self._rows, self._ended, self._uploads = rows, ended, uploads
        self._due: list[tuple[float, str, Refusal | None]] = []
        self._done = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes]) -> None:  # noqa: ARG002
        parsed = parse_request(request)
        if parsed.voice not in (None, KNOWN_VOICE):
            raise invalid("voice", f"{parsed.voice!r} is unknown; accepted: {KNOWN_VOICE}")
        refusal = Refusal("row", Cause.INTERNAL, "told to fail") if parsed.metadata.get("fail") else None
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + parsed.metadata.get("work", 0.0), job_id, refusal))
            self._changed.notify()

    def cancel(self, job_id: str, refusal: Refusal) -> None:
        with self._changed:
            entries = [entry for entry in self._due if entry[1] == job_id]
            for entry in entries:
                self._due.remove(entry)
                self._due.append((0.0, job_id, refusal))
            heapq.heapify(self._due)
            self._changed.notify()

    def room(self) -> int:
        return self._rows - len(self._due)

    def progress(self) -> int | None:
        return self._done if self._due else None

    def close(self) -> None:
        pass

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _, job_id, refusal = heapq.heappop(self._due)
                self._done += 1
            if refusal is None and self._uploads is not None:
                self._upload(self._uploads, job_id)
                continue
            result = _result(job_id) if refusal is None else None
            self._ended(Ended(job_id, result, {audio_key(job_id): job_id.encode()}, refusal))

    def _upload(self, uploads: Uploads, job_id: str) -> None:
        """As the product's backend does."""
        name = new_name(job_id, "wav")
        ended = Ended(job_id, _result(job_id) | {"address": uploads.store.address(name)})
        self._ended(Ended(job_id, worked=True))
        uploads.put(Upload(job_id, name, job_id.encode(), lambda: self._ended(ended)))


def _result(job_id: str) -> dict[str, Any]:
    """Of speech that nobody has made."""
    timings = Timings(queued=0, prefill=0, decode=0, vocode=0, encode=0, first_audio=0, total=0)
    return SynthesisResult(
        job_id=job_id,
        audio_key=audio_key(job_id),
        format="wav",
        mode="attributes",
        sample_rate=16_000,
        seconds=0,
        seed=0,
        finish_reason="eos",
        tokens=TokenCounts(globals=0, semantic=0),
        trace_sha256="",
        timings=timings,
        mean_batch=1,
        rtf=0,
        warnings=[],
        metadata={},
    ).model_dump(mode="json")


def timed_backend(rows: int, uploads: Uploads | None) -> MakeBackend:
    return lambda ended, _: TimedBackend(rows, ended, uploads)


def speech_backend(model: Path, rows: int, uploads: Uploads | None) -> MakeBackend:
    """The real thing."""
    from worker.backend import SpeechBackend
    from worker.settings import Settings
    from worker.speech.loading import open_model

    settings = Settings(model=model, max_rows=rows)
    speech = open_model(settings.model, settings.device, settings.threads)

    def make(post: Callable[[Ended | Made], None], freed: Callable[[], None]) -> Backend:
        return SpeechBackend(speech, settings, post, freed, uploads=uploads)

    return make


def main(
    url: str,
    queue: str,
    name: str,
    events: Path,
    rows: int,
    lease: float,
    model: Path | None = None,
    commit_replicas: int = 0,
    results: str | None = None,
) -> None:
    logger.remove()
    logger.add(sys.stderr, level="INFO", backtrace=False, diagnose=False)
    trap = Trap(events, name)
    threading.Thread(target=trap.listen, daemon=True).start()
    uploads = None if results is None else open_store(results, url)
    make = timed_backend(rows, uploads) if model is None else speech_backend(model, rows, uploads)
    rules = Rules(queue=(queue,), result_ttl=RESULT_TTL, lease_timeout=lease, commit_replicas=commit_replicas)
    connection = worker_connection(url)
    wait_for_redis(connection, rules.outage_timeout)
    worker = ChaosWorker(trap, connection, make, rules, max_jobs=2 * rows, name=name)
    worker.work()
    raise typer.Exit(worker.exit_code)


if __name__ == "__main__":
    typer.run(main)
