"""What the log says at INFO: a line for each job that has ended, and a line a minute; formatted when shown.

In JSON the lines of jobs have the same keys in the same order, null where there is nothing to say.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from rwkv_tts.schema import Timings
from rwkv_tts.traceparent import ACCEPTED, TRACEPARENT, valid_traceparent
from worker.broker.claim import Claimed
from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome

_MINUTE_SECONDS = 60.0
_SPOKEN = (
    "job {job}: finished; {seconds:.2f} s of audio, RTF {rtf:.3f}; queued {queued:.3f}, clone {clone:.3f}, "
    "prefill {prefill:.3f}, decode {decode:.3f}, vocode {vocode:.3f}, encode {encode:.3f}, total {total:.3f} s"
)
_UNSPOKEN = "job {job}: {fate}"
_REFUSED = "job {job}: {fate}: {reason}"
_LOST = "job {job}: its end was decided elsewhere"
_JOB: Mapping[str, Any] = dict.fromkeys(
    ("event", "job", "queue", "fate", "reason", "traceparent", "seconds", "rtf", *Timings.model_fields)
)
_NO_TRACEPARENT = f"job {{job}}: metadata.{TRACEPARENT}: {{given!r}} is ignored; {ACCEPTED}"
_SHOWN = 80
_BUSY = "{rows} of {most_rows} rows, {running} jobs run, {depth} wait; {jobs:.2f} jobs/s, {audio:.2f} audio-s/s"


class Journal(Observer):
    """Writes down the ends of jobs, and once a minute how busy the worker is."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._audio_seconds = 0.0

    def ended(self, outcome: Outcome, /) -> None:
        """A job has ended, or has gone back with a reason."""
        line = _line(outcome)
        given = given_traceparent(outcome.claimed)
        if given is not None and line["traceparent"] is None:
            shown = given[:_SHOWN] if isinstance(given, str) else type(given).__name__
            logger.info(_NO_TRACEPARENT, job=line["job"], given=shown)
        if line["seconds"] is not None:
            logger.info(_SPOKEN, **line)
        elif outcome.fate is Fate.FINISHED:
            logger.info(_UNSPOKEN, **line)
        elif outcome.reason:
            logger.info(_REFUSED, **line)

    def lost(self, outcome: Outcome, /) -> None:
        logger.info(_LOST, **{**_JOB, **_named(outcome), "fate": "lost"})

    def beat(self, says: Mapping[str, Any], depth: Callable[[], int], /) -> None:
        passed = time.monotonic() - self._since
        if passed < _MINUTE_SECONDS:
            return
        audio_seconds = says.get("audio_seconds", 0.0)
        logger.info(
            _BUSY,
            event="busy",
            rows=says.get("rows", says["running"]),
            most_rows=says.get("most_rows", says["running"]),
            running=says["running"],
            depth=depth(),
            jobs=says["jobs_per_second"],
            audio=(audio_seconds - self._audio_seconds) / passed,
        )
        self._since += passed
        self._audio_seconds = audio_seconds


def _line(outcome: Outcome) -> dict[str, Any]:
    """What there is to say of a job that has ended."""
    result = outcome.result or {}
    return {
        **_JOB,
        **_named(outcome),
        "fate": outcome.fate.name.lower(),
        "reason": outcome.reason or None,
        **{name: result[name] for name in ("seconds", "rtf") if "timings" in result},
        **result.get("timings", {}),
    }


def _named(outcome: Outcome) -> dict[str, Any]:
    """Which job a line is of."""
    claimed = outcome.claimed
    traceparent = valid_traceparent(given_traceparent(claimed))
    return {"event": "job", "job": claimed.id, "queue": claimed.queue.name, "traceparent": traceparent}


def given_traceparent(claimed: Claimed) -> Any:
    """What a producer has set in place of the trace that its job belongs to."""
    request = claimed.request
    metadata = request.get("metadata") if isinstance(request, dict) else None
    return metadata.get(TRACEPARENT) if isinstance(metadata, dict) else None
