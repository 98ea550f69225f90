"""The bench of the gateway at its smallest; times are hardly looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOM = Path(__file__).parents[3] / "scripts" / "bench"


def test_fields() -> None:
    arguments = ["httpapi", "--lone", "3", "--together", "5", "--slow", "3", "--dropped", "50"]
    done = subprocess.run(
        [sys.executable, str(ROOM), *arguments], capture_output=True, text=True, timeout=280, check=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    for kind in ("lone", "together"):
        for way in ("client", "http"):
            assert 0 < figures[kind][way]["p50"] <= figures[kind][way]["p99"]
    assert figures["slow"]["mb_each"] < 2
    assert figures["dropped"]["until_none_runs_s"] < 20
