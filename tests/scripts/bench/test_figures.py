"""The arithmetic of the system's bench, where the answer is known."""

import numpy as np
import pytest

from bench.figures import NoAudioError, Turn, digest, memory_slope, percentiles, summarize, turn_slope
from bench.load import Outcome
from bench.usage import Usage
from rwkv_tts.schema import SynthesisResult, Timings, TokenCounts


def outcome(due: float, ended: float, seconds: float, batch: float = 1.0) -> Outcome:
    """A job whose audio lasts so long; 50 tokens are one second."""
    total = ended - due
    timings = Timings(queued=0, prefill=0, decode=0, vocode=0, encode=0, first_audio=total, total=total)
    result = SynthesisResult(
        job_id="a",
        audio_key="a",
        format="wav",
        mode="voice",
        sample_rate=16000,
        seconds=seconds,
        seed=0,
        finish_reason="eos",
        tokens=TokenCounts(globals=32, semantic=round(50 * seconds)),
        trace_sha256="",
        timings=timings,
        mean_batch=batch,
        rtf=total / seconds,
        warnings=[],
        metadata={},
    )
    return Outcome(due, ended, result)


def turn(*outcomes: Outcome, memory: list[tuple[float, float]] | None = None) -> Turn:
    return Turn(outcomes, Usage(memory or [(0.0, 100.0), (1.0, 300.0)], 150.0, 20.0, None))


def test_percentiles() -> None:
    assert percentiles(list(range(101))[::-1]) == {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
    assert percentiles([2.0]) == {"p50": 2, "p90": 2, "p95": 2, "p99": 2}


def test_figures_of_two_jobs_that_overlap() -> None:
    figures = summarize([turn(outcome(10, 12, 4, batch=1), outcome(11, 15, 12, batch=2))], offered=2)
    assert (figures["wall_s"], figures["audio_s"]) == (5, 16)
    assert figures["audio_s_per_s"] == pytest.approx(16 / 5)
    assert figures["wall_over_audio"] == pytest.approx(5 / 16)
    assert figures["requests_per_s"] == pytest.approx(2 / 5)
    assert figures["rtf"]["p50"] == pytest.approx((2 / 4 + 4 / 12) / 2)
    assert figures["latency_s"]["p50"] == 3
    assert figures["mean_batch"] == pytest.approx((1 * 4 + 2 * 12) / 16)
    assert figures["batch_efficiency"] == pytest.approx(figures["mean_batch"] / 2)
    assert (figures["memory_mean_mb"], figures["memory_peak_mb"]) == (200, 300)


def test_rates_are_medians_over_the_turns_and_failures_have_no_latency() -> None:
    turns = [turn(outcome(0, wall, 10), Outcome(0, 0.1, None, "no voice")) for wall in (1, 2, 100)]
    figures = summarize(turns)
    assert figures["audio_s_per_s"] == 5
    assert figures["latency_s"]["p50"] == 2
    assert (figures["jobs"], figures["failed"], figures["first_failure"]) == (6, 3, "no voice")
    assert "batch_efficiency" not in figures
    with pytest.raises(NoAudioError, match="no voice"):
        summarize([turn(Outcome(0, 1, None, "no voice"))])


def test_slope_finds_a_leak_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    jobs = np.arange(2000)
    noise = rng.normal(0, 5, len(jobs)) + 400 * (rng.random(len(jobs)) < 0.05)  # long texts are peaks, not leaks
    warm_up = 300 * np.minimum(jobs / 200, 1)
    flat = memory_slope(jobs.tolist(), (warm_up + noise).tolist())
    assert flat.low < 0 < flat.high
    assert abs(flat.mb_per_1000_jobs) < 1
    leak = memory_slope(jobs.tolist(), (warm_up + noise + 0.01 * jobs).tolist())
    assert leak.mb_per_1000_jobs == pytest.approx(10, abs=1)
    assert leak.low > 8


def test_slope_counts_the_jobs_that_had_ended_at_each_sample() -> None:
    jobs = [outcome(0, 1 + number, 1) for number in range(100)]
    memory = [(second + 0.5, 100 + 2.0 * second) for second in range(100)]
    assert turn_slope(turn(*jobs, memory=memory)).mb_per_1000_jobs == pytest.approx(2000)
    with pytest.raises(ValueError, match="two job counts"):
        turn_slope(turn(*jobs, memory=memory[:1]))


def test_a_digest_depends_on_values_alone() -> None:
    assert digest({"b": (1, 2), "a": "é"}) == digest({"a": "é", "b": [1, 2]}) == "e72bd1bfe08d"
    assert digest({"a": 1}) != digest({"a": 2})


def test_the_time_that_stages_worked_is_a_median_over_the_turns() -> None:
    turns = [Turn([outcome(0, 2, 4)], Usage([(0.0, 1.0)], 0, 0, None), {"engine": s}) for s in (1.0, 1.5, 9.0)]
    assert summarize(turns)["busy_s"] == {"engine": 1.5}
    assert "busy_s" not in summarize([turn(outcome(0, 2, 4))])
