"""Kill workers, and restart Redis, while somebody listens; then compare what was heard with an undisturbed run.

    python scripts/chaos/listeners.py --kills 30 --restarts 5

Real workers speak real streams of several parts. In each round a few listeners begin; at a moment drawn evenly
from the time that such a stream takes, the worker of the first of them is killed (SIGKILL), or Redis, whose
append-only file is synced at every write, is killed or stopped and started again. A round in which that stream had
ended before does not count. What each listener has heard must be the samples of the undisturbed stream, all of
them, once and in order, and its tokens the same tokens.

The last line is JSON; the exit code is 1 when a listener heard anything else.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

if not __package__:  # as in __main__.py
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from chaos.server import Server
from chaos.surroundings import Site
from rwkv_tts import TTSClient
from worker.cli.local import LocalWorker
from worker.settings import DEFAULT_MODEL, Settings

QUEUE = "listeners"
TEXT = (
    "The old harbour lay quiet under a pale morning sky. She counted 42 boats, and none was hers.\n\n"
    "Why? Nobody knew. [pause:800ms] The man at the gate had seen a light, and he told her so.\n\n"
    "They walked back along the water, and the first bell rang."
)
WORKERS, RESTART_SECONDS, DOWN_SECONDS, POLL_SECONDS = 2, 120.0, 0.5, 0.01
ROUNDING = 2
"""What samples of 16 bits may differ by where another worker has gone on."""


@dataclass(frozen=True)
class Heard:
    """What a listener has of a stream.

    Attributes:
        trace: The digest of its tokens.
        seconds: From submit to the end.
        gap: The longest wait for a piece, seconds.
    """

    audio: bytes
    trace: str
    seconds: float
    gap: float


class Listener(threading.Thread):
    """Hears one stream.

    Attributes:
        job_id: Of the stream, once it is queued.
        heard: What was heard; None where that has failed, or has not ended.
        error: Why it has failed.
    """

    def __init__(self, client: TTSClient, request: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._client, self._request = client, request
        self.job_id, self.error = "", ""
        self.heard: Heard | None = None
        self.start()

    def run(self) -> None:
        pieces, moments = [], [time.monotonic()]
        try:
            with self._client.stream(**self._request) as speech:
                self.job_id = speech.job_id
                for piece in speech:
                    pieces.append(piece)
                    moments.append(time.monotonic())
            assert speech.result is not None
            gap = max(later - earlier for earlier, later in pairwise(moments))
            seconds = moments[-1] - moments[0]
            self.heard = Heard(b"".join(pieces), speech.result.trace_sha256, seconds, gap)
        except Exception as error:  # noqa: BLE001 - it is what the run is about
            self.error = f"{type(error).__name__}: {error}"


class Workers:
    """As many worker processes as there should be.

    Args:
        settings: Of each.
        url: Of Redis.
    """

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings, self._url = settings, url
        self._running: list[LocalWorker] = []

    def fill(self, connection: Redis) -> None:
        """Start those that are missing; return when all of them listen."""
        self._running = [one for one in self._running if one.exit_code is None]
        self._running += [LocalWorker(self._settings, self._url) for _ in range(WORKERS - len(self._running))]
        deadline = time.monotonic() + RESTART_SECONDS
        pids = {one.pid for one in self._running}
        while not pids <= {one.pid for one in BaseWorker.all(connection=connection) if one.pid}:
            if time.monotonic() > deadline:
                raise SystemExit("the workers did not start")
            time.sleep(0.1)

    def stop(self) -> None:
        for one in self._running:
            one.stop()


def speaker_of(connection: Redis, job_id: str) -> int | None:
    """The process that speaks a job; None where it does not run."""
    if not job_id:
        return None
    job = Job.fetch(job_id, connection=connection, serializer=JSONSerializer)
    if job.get_status() != JobStatus.STARTED:
        return None
    pid = connection.hget(f"rq:worker:{job.worker_name}", "pid")
    return int(pid) if pid else None


def restart(server: Server, *, gently: bool) -> None:
    server.stop(gently=gently)
    time.sleep(DOWN_SECONDS)
    server.start()


def disturb(fault: str, server: Server, job_id: str, chance: Random) -> bool:
    """Whether there was a stream to disturb."""
    pid = speaker_of(server.admin, job_id)
    if pid is None:
        return False
    if fault == "kill":
        os.kill(pid, signal.SIGKILL)
    else:
        restart(server, gently=chance.random() < 0.5)
    return True


def difference(audio: bytes, whole: bytes) -> int | None:
    """The largest between two samples; None where there are more or fewer of them."""
    if len(audio) != len(whole):
        return None
    one, other = (np.frombuffer(content, "<i2").astype(int) for content in (audio, whole))
    return int(np.abs(one - other).max())


def judge(listener: Listener, whole: Heard) -> str | None:
    """What is wrong with what somebody heard, or None."""
    heard = listener.heard
    if heard is None:
        return f"job {listener.job_id}: {listener.error or 'it never ended'}"
    if heard.trace != whole.trace:
        return f"job {listener.job_id}: other tokens"
    largest = difference(heard.audio, whole.audio)
    if largest is None:
        return f"job {listener.job_id}: {len(heard.audio)} bytes, and {len(whole.audio)} undisturbed"
    return f"job {listener.job_id}: samples differ by up to {largest}" if largest > ROUNDING else None


class Run:
    """Rounds of listening.

    Args:
        options: Of the command.
        server: Redis.
        workers: Who speaks.
    """

    def __init__(self, options: argparse.Namespace, server: Server, workers: Workers, url: str) -> None:
        self._options, self._server, self._workers = options, server, workers
        self._client = TTSClient(url, QUEUE)
        self._chance = Random(options.seed)  # noqa: S311 - no secret
        self._listened: list[tuple[str, Listener, Heard]] = []
        self._requests = [{"text": TEXT, "seed": seed, "format": "pcm", "gender": "male"} for seed in range(3)]

    def run(self) -> list[str]:
        """What was wrong, one line each."""
        self._workers.fill(self._server.admin)
        self._whole = [self._undisturbed(request) for request in self._requests]
        faults = ["kill"] * self._options.kills + ["restart"] * self._options.restarts
        self._chance.shuffle(faults)
        while faults:
            faults = faults[self._round(faults[0]) :]
        wrong = [judge(listener, whole) for _, listener, whole in self._listened]
        return [line for line in wrong if line is not None]

    def figures(self) -> dict[str, Any]:
        """Sums over what was heard."""
        good = [(fault, one.heard, whole) for fault, one, whole in self._listened if one.heard is not None]
        waits = {
            name: [heard.gap for fault, heard, _ in good if fault == name] for name in ("kill", "restart", "")
        }
        return {
            "kills": self._options.kills,
            "restarts": self._options.restarts,
            "listeners": len(self._listened),
            "bit_equal": sum(heard.audio == whole.audio for _, heard, whole in good),
            "longest_wait_seconds": {name or "none": round(max(w, default=0.0), 2) for name, w in waits.items()},
        }

    def _undisturbed(self, request: dict[str, Any]) -> Heard:
        listener = Listener(self._client, request)
        listener.join()
        if listener.heard is None:
            raise SystemExit(f"an undisturbed stream failed: {listener.error}")
        return listener.heard

    def _round(self, fault: str) -> bool:
        """Whether the first of the streams was disturbed before its end."""
        numbers = [self._chance.randrange(len(self._requests)) for _ in range(self._options.listeners)]
        listeners = [Listener(self._client, self._requests[number]) for number in numbers]
        time.sleep(self._chance.uniform(0, self._whole[numbers[0]].seconds))
        hit = disturb(fault, self._server, listeners[0].job_id, self._chance)
        for listener in listeners:
            listener.join(RESTART_SECONDS)
        self._workers.fill(self._server.admin)
        for number, listener in zip(numbers, listeners, strict=True):
            self._listened.append((fault if hit else "", listener, self._whole[number]))
        return hit


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kills", type=int, default=30, help="of workers")
    add("--restarts", type=int, default=5, help="of Redis")
    add("--listeners", type=int, default=2, help="at once")
    add("--lease", type=float, default=2.0, help="setting lease_timeout")
    add("--model", type=Path, default=DEFAULT_MODEL, help="model directory")
    add("--server", type=Path, help="program of Redis, in place of the embedded one: redis-server")
    add("--seed", type=int, default=0, help="of moments and streams")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl+C: stop what was started
    with ExitStack() as stack:
        site = Site(Path(stack.enter_context(TemporaryDirectory(prefix="listeners-"))), ())
        server = Server(site, options.server)
        stack.callback(server.stop)
        server.start()
        settings = Settings(queue=(QUEUE,), model=options.model, lease_timeout=options.lease, log_level="ERROR")
        workers = Workers(settings, f"unix://{site.socket}")
        stack.callback(workers.stop)
        one = Run(options, server, workers, f"unix://{site.socket}")
        wrong = one.run()
    for line in wrong[:20]:
        print(line)
    print(json.dumps({**one.figures(), "wrong": len(wrong)}))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
