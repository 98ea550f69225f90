"""How many threads: what the system allows, and what was measured to be worth it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from native.cores import available, fastest

CORES = available(Path("/nowhere"), Path("/nowhere"))
V1 = {"quota": "cpu.cfs_quota_us", "period": "cpu.cfs_period_us"}


def written(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("of_process", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n"}, 2),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("4:memory:/m\n3:cpu,cpuacct:/a\n0::/\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000\n"}, 4),
        ("1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n"}, 64),
        ("1:name=systemd:/a\n", {"name=systemd/a/cpu.cfs_quota_us": "100000\n"}, 64),
        ("0::/\n", {}, 64),
        ("", {"cpu.max": "100000 100000\n"}, 64),
    ],
)
def test_the_limits_of_cgroups_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_process: str, files: Mapping[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    periods = {name.replace("quota", "period"): "100000\n" for name in files if name.endswith("quota_us")}
    groups = written(tmp_path / "groups", {**files, **periods})
    assert available(groups, written(tmp_path, {"cgroup": of_process}) / "cgroup") == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process to cores")
def test_a_process_that_may_use_one_core_has_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from native.cores import available; print(available())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [
        ({1: 1.0}, 1, 1),
        ({1: 1.0, 2: 0.9}, 2, 1),
        ({1: 1.0, 2: 0.6}, 2, 2),
        ({1: 1.0, 2: 0.6, 3: 0.55}, 3, 2),
        ({1: 1.0, 2: 1.1, 4: 0.5, 6: 0.4}, 6, 6),
        ({1: 1.0, 2: 0.6, 4: 0.7, 8: 0.9}, 8, 2),
    ],
)
def test_more_threads_are_for_what_is_clearly_faster(
    seconds: Mapping[int, float], most: int, expected: int
) -> None:
    asked = []

    def measure(threads: int) -> float:
        asked.append(threads)
        return seconds[threads]

    assert fastest(measure, most) == expected
    assert set(asked) == (seconds.keys() if most > 1 else set())


def test_a_disturbance_of_one_measurement_changes_nothing() -> None:
    disturbed = iter([5.0])
    assert fastest(lambda threads: 1.0 if threads == 2 else next(disturbed, 1.0), 2) == 1
