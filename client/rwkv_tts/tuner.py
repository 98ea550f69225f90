"""Asks running workers to change values, and waits until they say that they have."""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from rq.queue import Queue

from rwkv_tts.keys import tune_channel
from rwkv_tts.load import WorkerLoad, busyness

_POLL_SECONDS = 0.05


class NoWorkerError(RuntimeError):
    """There is no such worker to tune."""


@dataclass(frozen=True)
class Tuned:
    """What became of a change at one worker.

    Attributes:
        before: The worker as it was.
        after: As it is now; as it was when there is an error.
        error: Why nothing has changed, or why nobody knows.
    """

    before: WorkerLoad
    after: WorkerLoad
    error: str | None = None


def tune(queue: Queue, change: Mapping[str, Any], worker: str | None, timeout: float) -> list[Tuned]:
    """Ask the workers of a queue, or one of them.

    Args:
        queue: The queue.
        change: As ``rwkv_tts.tuning.changed`` takes it; each worker judges it.
        worker: RQ's name of the worker; all when None.
        timeout: Seconds to wait for answers.

    Raises:
        NoWorkerError: None listens, or not the one.
    """
    before = _chosen(busyness(queue).workers, queue.name, worker)
    asked = uuid4().hex
    message = json.dumps({"id": asked, "change": change})
    heard = {one.name for one in before if queue.connection.publish(tune_channel(one.name), message)}
    after = _answers(queue, heard, asked, time.monotonic() + timeout)
    return [_outcome(one, after.get(one.name), asked, heard, timeout) for one in before]


def _chosen(workers: list[WorkerLoad], queue: str, name: str | None) -> list[WorkerLoad]:
    if not workers:
        raise NoWorkerError(f"worker: none listens on queue {queue}")
    chosen = [one for one in workers if name in (None, one.name)]
    if not chosen:
        names = ", ".join(one.name for one in workers)
        raise NoWorkerError(f"worker: {name!r} does not listen on queue {queue}; accepted: {names}")
    return chosen


def _answers(queue: Queue, names: Collection[str], asked: str, deadline: float) -> dict[str, WorkerLoad]:
    """The workers that have answered, when all have or the time is over."""
    while True:
        workers = busyness(queue).workers
        answered = {one.name: one for one in workers if one.name in names and asked in one.answers}
        if len(answered) == len(names) or time.monotonic() > deadline:
            return answered
        time.sleep(_POLL_SECONDS)


def _outcome(
    before: WorkerLoad, after: WorkerLoad | None, asked: str, heard: Collection[str], timeout: float
) -> Tuned:
    if before.name not in heard:
        return Tuned(before, before, "it does not listen; nothing has changed")
    if after is None:
        return Tuned(before, before, f"no confirmation within {timeout:g} s; it may still come")
    return Tuned(before, after, after.answers[asked])
