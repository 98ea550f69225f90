"""The arithmetic of the system's bench: figures of measured turns, memory slope, configuration hash."""

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.stats import theilslopes

from bench.load import Outcome
from bench.usage import Usage
from rwkv_tts.schema import SynthesisResult

PERCENTILES = (50, 90, 95, 99)
WARM_UP_SHARE = 0.2
"""Of a run's jobs: what the process takes in them is not its slope."""

_MOST_SAMPLES = 1000
"""Theil and Sen's slope looks at every pair."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """A set of jobs, measured once; ``wall`` is seconds from the first that was due to the last that ended.

    ``busy`` has the seconds that each stage of the worker worked, or nothing where that was not looked at.
    """

    outcomes: Sequence[Outcome]
    usage: Usage
    busy: Mapping[str, float] = field(default_factory=dict)

    @property
    def wall(self) -> float:
        return max(o.ended for o in self.outcomes) - min(o.due for o in self.outcomes)

    @property
    def results(self) -> list[SynthesisResult]:
        """Of the jobs that did not fail."""
        return [o.result for o in self.outcomes if o.result is not None]

    @property
    def audio(self) -> float:
        """Seconds."""
        return sum(result.seconds for result in self.results)


@dataclass(frozen=True)
class Slope:
    """Growth of resident memory in megabytes per 1000 jobs, with its interval of 95 % confidence."""

    mb_per_1000_jobs: float
    low: float
    high: float


class NoAudioError(RuntimeError):
    """Not one job of a measurement has spoken."""


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """P50 to P99, linear between neighbours."""
    found = np.percentile(values, PERCENTILES)
    return {f"p{share}": float(value) for share, value in zip(PERCENTILES, found, strict=True)}


def summarize(turns: Sequence[Turn], offered: int | None = None) -> Figures:
    """Figures of one condition: medians over its turns for rates, percentiles over the jobs of all turns.

    Args:
        turns: The same condition, measured several times.
        offered: Rows that could have been busy at once; None where that is no fixed number.

    Raises:
        NoAudioError: Every job failed.
    """
    spoken = [o for turn in turns for o in turn.outcomes if o.result is not None]
    results = [result for turn in turns for result in turn.results]
    failures = [o.error for turn in turns for o in turn.outcomes if o.result is None]
    if not all(turn.results for turn in turns):
        raise NoAudioError(f"all jobs failed: {failures[0]}")
    batch = float(np.average([r.mean_batch for r in results], weights=[r.tokens.semantic for r in results]))
    memory = [megabytes for turn in turns for _, megabytes in turn.usage.memory]
    figures: Figures = {
        "turns": len(turns),
        "jobs": len(spoken) + len(failures),
        "failed": len(failures),
        "finish_reasons": dict(Counter(r.finish_reason for r in results)),
        "wall_s": sum(turn.wall for turn in turns),
        "audio_s": sum(turn.audio for turn in turns),
        "requests_per_s": statistics.median(len(turn.results) / turn.wall for turn in turns),
        "audio_s_per_s": statistics.median(turn.audio / turn.wall for turn in turns),
        "wall_over_audio": statistics.median(turn.wall / turn.audio for turn in turns),
        "rtf": percentiles([r.rtf for r in results]),
        "latency_s": percentiles([o.ended - o.due for o in spoken]),
        "first_audio_s": percentiles([r.timings.queued + r.timings.first_audio for r in results]),
        "mean_batch": batch,
        "memory_mean_mb": statistics.fmean(memory),
        "memory_peak_mb": max(memory),
        "cpu_percent": statistics.median(turn.usage.cpu_percent for turn in turns),
        "client_cpu_percent": statistics.median(turn.usage.client_cpu_percent for turn in turns),
    }
    if failures:
        figures["first_failure"] = failures[0]
    if offered is not None:
        figures["batch_efficiency"] = batch / offered
    if turns[0].busy:
        figures["busy_s"] = {name: statistics.median(turn.busy[name] for turn in turns) for name in turns[0].busy}
    gpus = [asdict(turn.usage.gpu) for turn in turns if turn.usage.gpu is not None]
    return figures | {f"gpu_{name}": statistics.median(gpu[name] for gpu in gpus) for name in (gpus or [{}])[0]}


def memory_slope(jobs: Sequence[float], megabytes: Sequence[float]) -> Slope:
    """Theil and Sen's slope of memory over the jobs that had ended when it was sampled, after the warm-up.

    Raises:
        ValueError: Fewer than two different job counts are left.
    """
    kept = np.asarray(jobs) >= WARM_UP_SHARE * max(jobs)
    x, y = np.asarray(jobs, float)[kept], np.asarray(megabytes, float)[kept]
    thin = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_SAMPLES)).astype(int))
    if len(np.unique(x[thin])) < 2:
        raise ValueError(f"a slope needs memory at two job counts or more, not at {len(np.unique(x[thin]))}")
    found = theilslopes(y[thin], x[thin])
    return Slope(*(1000 * float(value) for value in (found.slope, found.low_slope, found.high_slope)))


def turn_slope(turn: Turn) -> Slope:
    """The memory slope of one turn."""
    ended = sorted(outcome.ended for outcome in turn.outcomes)
    times, megabytes = zip(*turn.usage.memory, strict=True)
    return memory_slope(np.searchsorted(ended, times).tolist(), megabytes)


def digest(value: Any) -> str:
    """12 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
