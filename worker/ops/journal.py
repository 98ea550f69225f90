"""What the log says at INFO: a line for each job that has ended, and a line a minute; formatted when shown."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome

_MINUTE_SECONDS = 60.0
_SPOKEN = (
    "job {job}: finished; {seconds:.2f} s of audio, RTF {rtf:.3f}; queued {queued:.3f}, clone {clone:.3f}, "
    "prefill {prefill:.3f}, decode {decode:.3f}, vocode {vocode:.3f}, encode {encode:.3f}, total {total:.3f} s"
)
_BUSY = "{rows} of {most_rows} rows, {running} jobs run, {depth} wait; {jobs:.2f} jobs/s, {audio:.2f} audio-s/s"


class Journal(Observer):
    """Writes down the ends of jobs, and once a minute how busy the worker is."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._audio_seconds = 0.0

    def ended(self, outcome: Outcome, /) -> None:
        """A job has ended, or has gone back with a reason."""
        job = outcome.claimed.id
        result = outcome.result or {}
        if outcome.fate is Fate.FINISHED and "timings" in result:
            logger.info(_SPOKEN, job=job, seconds=result["seconds"], rtf=result["rtf"], **result["timings"])
        elif outcome.fate is Fate.FINISHED:
            logger.info("job {job}: finished", job=job)
        elif outcome.reason:
            fate = outcome.fate.name.lower()
            logger.info("job {job}: {fate}: {reason}", job=job, fate=fate, reason=outcome.reason)

    def lost(self, job_id: str, /) -> None:
        logger.info("job {}: its end was decided elsewhere", job_id)

    def beat(self, says: Mapping[str, Any], depth: Callable[[], int], /) -> None:
        passed = time.monotonic() - self._since
        if passed < _MINUTE_SECONDS:
            return
        audio_seconds = says.get("audio_seconds", 0.0)
        logger.info(
            _BUSY,
            rows=says.get("rows", says["running"]),
            most_rows=says.get("most_rows", says["running"]),
            running=says["running"],
            depth=depth(),
            jobs=says["jobs_per_second"],
            audio=(audio_seconds - self._audio_seconds) / passed,
        )
        self._since += passed
        self._audio_seconds = audio_seconds
