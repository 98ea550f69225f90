"""The bench of the whole system: its verdicts, and all of it at its smallest."""

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rich.console import Console

from bench.comparison import judge
from bench.curves import draw
from bench.figures import digest
from bench.run import model_digest, read_run
from bench.workload import Workload

ROOM = Path(__file__).parents[3] / "scripts" / "bench"


def test_a_model_digest_sees_every_file(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "voices" / "a").write_text("1")
    before = model_digest(tmp_path)
    assert before == model_digest(tmp_path)
    (tmp_path / "voices" / "a").write_text("2")
    assert model_digest(tmp_path) != before


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
    return subprocess.run([sys.executable, str(ROOM), *arguments], capture_output=True, text=True, timeout=timeout)


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
def test_the_whole_benchmark_at_its_smallest(ending_model: Path, redis_url: str, tmp_path: Path) -> None:
    options = ["--model", str(ending_model), "--redis", redis_url, "--quick", "--turns", "1", "--jobs", "4"]
    options += [
        "--concurrency",
        "1,2",
        "--only",
        "stability,drain,closed,open,sequential",
        "--stability-jobs",
        "20",
    ]
    done = script(*options, timeout=280)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout.splitlines()[-1])
    assert list(run["scenarios"]) == ["closed", "sequential", "open", "drain", "stability"]
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
    check_drain(run["scenarios"]["drain"])
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


def check_drain(drain: dict[str, Any]) -> None:
    """Six jobs at once and three of them alone, in the time of which stages worked."""
    assert [drain[name]["jobs"] for name in ("at once", "alone")] == [6, 3]
    assert drain["alone"]["mean_batch"] == 1 < drain["at once"]["mean_batch"] <= 6
    for figures in drain.values():
        stages = ("engine", "vocoder", "encoder", "delivery")
        assert all(0 < figures["busy_s"][stage] < figures["wall_s"] for stage in stages)
    limits = sum(job["max_seconds"] for job in Workload(["first", "second"], seed=0).limited(6))
    assert drain["at once"]["audio_s"] <= limits + 0.02 * 6


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
