"""Kills and restarts while somebody listens, at their fewest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "chaos" / "listeners.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_listeners_hear_every_sample_once_whatever_is_killed() -> None:
    sizes = "--kills 1 --restarts 1 --listeners 2 --seed 3"
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["kills"], figures["restarts"], figures["wrong"]) == (1, 1, 0)
    assert figures["listeners"] >= 4
