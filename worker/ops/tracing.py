"""A job's spans for OpenTelemetry, made when it has ended, as parts of its producer's trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from loguru import logger

from rwkv_tts.traceparent import valid_traceparent
from rwkv_tts.tracing import open_spans
from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome
from worker.ops.journal import given_traceparent
from worker.ops.metrics import Metrics

if TYPE_CHECKING:
    from rwkv_tts.spans import Spans

Times = tuple[str, int, int, dict[str, float]]
"""A span's name, begin and end in Unix nanoseconds, and counts."""


class Tracing(Observer):
    """Makes a span of each job, and in it one of each stage that the job has come to.

    Args:
        spans: Takes them.
    """

    def __init__(self, spans: "Spans") -> None:
        self._spans = spans

    def close(self) -> None:
        """Send what waits, for a second at most."""
        self._spans.close()

    def ended(self, outcome: Outcome, /) -> None:
        self._trace(outcome, outcome.fate.name.lower())

    def lost(self, outcome: Outcome, /) -> None:
        self._trace(outcome, "lost")

    def _trace(self, outcome: Outcome, fate: str) -> None:
        now = time.time_ns()
        job = outcome.claimed.job
        claimed = _nanoseconds(outcome.claimed.execution.created_at)
        queued = min(claimed, _nanoseconds(job.enqueued_at)) if job.enqueued_at else claimed
        told = {
            "messaging.system": "rq",
            "messaging.operation.type": "process",
            "messaging.destination.name": outcome.claimed.queue.name,
            "messaging.message.id": job.id,
            "rwkv_tts.fate": fate,
        }
        parent = valid_traceparent(given_traceparent(outcome.claimed))
        span = self._spans.start(f"process {outcome.claimed.queue.name}", parent, queued, "CONSUMER", told)
        if not span.is_recording():  # the producer has decided so, or the sampler
            return
        if outcome.reason and fate != "lost":
            self._spans.fail(span, outcome.reason)
        for name, begin, end, counts in (("queued", queued, claimed, {}), *_stages(outcome, now)):
            attributes = {f"rwkv_tts.{what}": count for what, count in counts.items()}
            self._spans.start(name, span, begin, attributes=attributes).end(max(begin, end))
        span.end(max(queued, now))


def open_tracing(metrics: Metrics) -> tuple[Tracing, ...]:
    """One that makes spans, where OpenTelemetry is set up; it closes when the interpreter does."""
    spans = open_spans("rwkv-tts-worker", metrics.count_spans, lambda line: logger.warning("{}", line))
    return () if spans is None else (Tracing(spans),)


@contextmanager
def traced(metrics: Metrics) -> Iterator[tuple[Tracing, ...]]:
    """The same for the length of a block."""
    tracing = open_tracing(metrics)
    try:
        yield tracing
    finally:
        for one in tracing:
            one.close()


def _stages(outcome: Outcome, now: int) -> Iterator[Times]:
    """What the backend has told of, and what came after that until ``now``, when the end is recorded."""
    offset = now - time.monotonic_ns()
    end = 0
    for name, begin, until, counts in outcome.stages:
        end = offset + round(until * 1e9)
        yield name, offset + round(begin * 1e9), end, dict(counts)
    if outcome.fate is Fate.FINISHED and end:
        yield "deliver", end, now, {}


def _nanoseconds(moment: datetime) -> int:
    return max(0, round(moment.timestamp() * 1e9))  # a producer may have written any date
