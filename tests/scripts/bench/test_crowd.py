"""The bench of many workers at its smallest; times are hardly looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOM = Path(__file__).parents[3] / "scripts" / "bench"


def test_fields() -> None:
    arguments = ["crowd", "--workers", "3", "--rows", "4", "--queued", "20", "--lone", "5"]
    done = subprocess.run(
        [sys.executable, str(ROOM), *arguments], capture_output=True, text=True, timeout=280, check=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert 0 < figures["lone"]["p50_ms"] <= figures["lone"]["p95_ms"]
    assert 0 < figures["recovery"]["server_ms_per_second"] < 5
    assert figures["recovery"]["jobs_recovered"] == 8
