"""deploy/autoscale.sh, with a program in the place of docker that plays the loads."""

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

from composed import REPOSITORY
from rwkv_tts.load import QueueLoad

DOCKER = """#!/bin/sh
set -eu
echo "$*" >> calls
case "$*" in
  "compose ps -q worker") yes worker | head -n "$(cat workers)" ;;
  "compose exec -T worker rwkv-tts load") head -n 1 loads | grep . && sed -i 1d loads ;;
  "compose up -d --no-recreate --no-deps --scale worker="*) echo "${7#worker=}" | tee workers >> scaled ;;
  *) exit 64 ;;
esac
"""


def line(depth: int, jobs_per_second: float) -> str:
    """What ``rwkv-tts load`` prints for such a queue."""
    load = QueueLoad(depth=depth, limit=None, workers=1, running=1, jobs_per_second=jobs_per_second)
    return json.dumps({"queue": "tts", **asdict(load), "estimated_wait_seconds": load.estimated_wait})


def test_workers_come_while_jobs_wait_long_and_go_when_they_hardly_do(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    (tmp_path / "workers").write_text("1")
    loads = [
        line(depth=100, jobs_per_second=2.0),  # 50 s: 2 workers
        line(depth=50, jobs_per_second=2.0),  # 25 s
        line(depth=100, jobs_per_second=0.0),  # nobody can tell
        line(depth=1000, jobs_per_second=4.5),  # 222.2 s: 3
        line(depth=1000, jobs_per_second=4.5),  # there may be no more
        line(depth=1, jobs_per_second=2.5),  # 0.4 s: 2
        line(depth=10, jobs_per_second=4.5),  # 2.2 s
        line(depth=0, jobs_per_second=4.5),  # 1
        line(depth=0, jobs_per_second=4.5),  # there may be no fewer
    ]
    (tmp_path / "loads").write_text("\n".join(loads) + "\n")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "EVERY": "0", "MOST": "3"}
    done = subprocess.run(
        ["sh", str(REPOSITORY / "deploy" / "autoscale.sh")], cwd=tmp_path, env=environment, timeout=30
    )
    assert done.returncode == 1  # docker has no more loads to play
    assert (tmp_path / "scaled").read_text().split() == ["2", "3", "2", "1"]
    assert len((tmp_path / "calls").read_text().splitlines()) == 2 * (len(loads) + 1) + 4
