"""The benchmark: its arithmetic where the answer is known, its verdicts, and the whole of it at its smallest."""

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis
from rich.console import Console

from bench import judge, model_digest, read_run
from bench_figures import NoAudioError, Turn, digest, memory_slope, percentiles, summarize, turn_slope
from bench_load import Outcome
from bench_plot import draw
from bench_usage import Usage, gpu_index, gpu_usage
from bench_workload import LENGTHS, MODES, SENTENCES, Workload
from rwkv_tts.schema import SynthesisResult, Timings, TokenCounts

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench.py"


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


def test_a_model_digest_sees_every_file(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "voices" / "a").write_text("1")
    before = model_digest(tmp_path)
    assert before == model_digest(tmp_path)
    (tmp_path / "voices" / "a").write_text("2")
    assert model_digest(tmp_path) != before


def test_texts_have_their_lengths_and_come_from_the_seed() -> None:
    workload = Workload(["anna", "bert"], seed=3)
    assert max(map(len, SENTENCES)) <= LENGTHS["short"][1]
    for length, (least, most) in LENGTHS.items():
        sizes = [len(job["text"]) for job in workload.jobs(200, (length,))]
        assert least <= min(sizes) < (least + most) / 2 < max(sizes) <= most
    jobs = workload.jobs(40)
    assert jobs == Workload(["anna", "bert"], seed=3).jobs(40)
    assert jobs != Workload(["anna", "bert"], seed=4).jobs(40)
    kinds = {("voice" in job, len(job["text"]) > LENGTHS["short"][1]) for job in jobs}
    assert len(kinds) == 2 * len(MODES)  # no mode has one length only


def test_gpu_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = gpu_usage(["1000, 40", "3000, 60", "30"])
    assert gpu is not None
    assert gpu.percent == 50
    assert gpu.memory_peak_mb == pytest.approx(3000 * 2**20 / 1e6)
    assert gpu_usage([]) is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu_index(device) for device in ("cpu", "cuda", "cuda:1")] == [None, "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert gpu_index("cuda:1") == "GPU-7"


def run_of(scenario: str = "closed", changes: Mapping[str, float] | None = None) -> dict[str, Any]:
    """A run with one condition, eight clients, and these of its figures changed."""
    figures: dict[str, Any] = {
        "audio_s_per_s": 10.0,
        "latency_s": {"p50": 1.0, "p95": 2.0, "p99": 2.5},
        "memory_peak_mb": 900.0,
        "offered_per_s": 1.0,
    }
    for name, value in (changes or {}).items():
        if name in figures["latency_s"]:
            figures["latency_s"][name] = value
        else:
            figures[name] = value
    machine = {"cpu": "some", "cores": 2}
    return {
        "config": {"model": {"name": "demo"}},
        "config_sha256": "0123456789ab",
        "date": "2026-01-01T00:00:00",
        "machine": machine,
        "scenarios": {scenario: {"8": figures}},
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"audio_s_per_s": 8.8}, 0),
        ({"audio_s_per_s": 8.6}, 1),
        ({"audio_s_per_s": 30.0, "p50": 0.1}, 0),
        ({"p95": 2.2}, 0),
        ({"p95": 2.4}, 1),
        ({"memory_peak_mb": 1100.0}, 1),
    ],
)
def test_what_is_worse_than_the_noise_is_a_regression(changes: dict[str, float], code: int) -> None:
    out = io.StringIO()
    assert judge(run_of(), run_of(changes=changes), 0.15, Console(file=out, width=100)) == code
    assert ("worse" in out.getvalue().split("are worse")[0]) == bool(code)


def test_open_loops_are_shown_and_not_judged() -> None:
    out = io.StringIO()
    old, new = run_of("open"), run_of("open", {"p50": 9.0})
    assert judge(old, new, 0.15, Console(file=out, width=100)) == 0
    assert "9.00" in out.getvalue()


def test_other_configurations_are_not_compared() -> None:
    other = run_of() | {"config_sha256": "ba9876543210"}
    assert judge(other, run_of(), 0.15, Console(file=io.StringIO())) == 2


def script(*arguments: str, timeout: float = 110) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=timeout
    )


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text("{}\n")
    done = script("--compare", str(file))
    assert done.returncode == 2
    assert "accepted" in done.stderr


def test_a_curve_for_each_scenario_that_has_one(tmp_path: Path) -> None:
    run = run_of()
    run["scenarios"]["closed"]["16"] = deepcopy(run["scenarios"]["closed"]["8"])
    run["scenarios"]["single"] = run["scenarios"]["closed"]
    for scenario in ("open", "chunks"):
        run["scenarios"][scenario] = run["scenarios"]["closed"]
    files = draw(run, tmp_path / "docs")
    assert [file.name for file in files] == ["bench-concurrency.png", "bench-latency.png", "bench-chunks.png"]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 150_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_benchmark_at_its_smallest(random_model: Path, redis_url: str, tmp_path: Path) -> None:
    options = ["--model", str(random_model), "--redis", redis_url, "--quick", "--turns", "1", "--jobs", "4"]
    options += ["--concurrency", "1,2", "--only", "stability,closed,open,sequential", "--stability-jobs", "20"]
    done = script(*options, timeout=280)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout.splitlines()[-1])
    assert list(run["scenarios"]) == ["closed", "sequential", "open", "stability"]
    assert run["config_sha256"] == digest(run["config"])
    assert {"cpu", "cores", "torch"} <= run["machine"].keys()
    for conditions in run["scenarios"].values():
        for figures in conditions.values():
            check_figures(figures)
    closed = run["scenarios"]["closed"]
    assert list(closed) == ["1", "2"]
    assert closed["1"]["audio_s"] == pytest.approx(closed["2"]["audio_s"])  # the same jobs
    assert closed["1"]["mean_batch"] == 1
    sequential = run["scenarios"]["sequential"]
    walls = {name: figures["wall_s"] for name, figures in sequential.items()}
    for name in ("one row", "one at a time"):
        assert sequential[name]["mean_batch"] == 1
        assert sequential[name]["batched_over_this"] == pytest.approx(walls[name] / walls["batched"])
    assert run["scenarios"]["stability"]["2 clients"]["jobs"] == 20
    slope = run["scenarios"]["stability"]["2 clients"]["memory_slope"]
    assert slope["low"] <= slope["mb_per_1000_jobs"] <= slope["high"]
    assert not [
        key for key in Redis.from_url(redis_url).scan_iter("*bench-*") if Redis.from_url(redis_url).ttl(key) < 0
    ]

    saved = tmp_path / "old.txt"
    saved.write_text(done.stdout)
    assert read_run(saved) == run
    again = script("--from", str(saved), "--compare", str(saved))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == run


def check_figures(figures: dict[str, Any]) -> None:
    """What must hold for any condition of one turn."""
    assert figures["failed"] == 0
    assert figures["audio_s_per_s"] * figures["wall_s"] == pytest.approx(figures["audio_s"])
    assert figures["wall_over_audio"] * figures["audio_s_per_s"] == pytest.approx(1)
    assert figures["requests_per_s"] * figures["wall_s"] == pytest.approx(figures["jobs"])
    latency = figures["latency_s"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"] <= figures["wall_s"]
    assert 0 < figures["first_audio_s"]["p50"] <= latency["p50"]
    assert 0 < figures["batch_efficiency"] <= 1 if "batch_efficiency" in figures else figures["offered_per_s"] > 0
    assert 50 < figures["memory_mean_mb"] <= figures["memory_peak_mb"]
    assert figures["cpu_percent"] > 0
    assert figures["client_cpu_percent"] > 0
