"""Failovers under load at their smallest: one master that dies, with replicas that are behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "chaos" / "failover.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_job_is_lost_that_a_replica_has_confirmed() -> None:
    sizes = "--failovers 1 --plan crash --lag 0.3 --every 1 --rate 30 --commit-replicas 1 --workers 1"
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["finished_once"] == figures["submitted"] > 30
    assert (figures["lost"], figures["duplicated"], figures["wrong"], figures["leftovers"]) == (0, 0, 0, 0)
    assert figures["repeated_submits"]["UnconfirmedError"] > 0
