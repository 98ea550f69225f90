"""A place for compiled kernels from which none can be loaded is told by its cause, on a real noexec mount."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.speech.kernels import check_kernel_cache, kernel_cache

MOUNTED = 'mount -t tmpfs -o noexec,nosuid,nodev tmpfs "$1" && shift && exec "$@"'
"""The options of a tmpfs of Docker's."""
PROGRAM = """
import ctypes, subprocess, sys
from worker.speech import loading
library = sys.argv[1] + "/launcher.so"
subprocess.run(["gcc", "-shared", "-x", "c", "/dev/null", "-o", library], check=True)
try:
    ctypes.CDLL(library)
except OSError as error:
    print(error)
loading.find_spec = lambda _: object()  # Triton is there
for engine in ("auto", "cuda"):
    try:
        print(loading._is_fast(engine, "cuda"))
    except loading.ModelError as error:
        print(error)
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    return (
        subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode
        == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")
def test_a_noexec_cache_is_refused_and_named(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("needs root, to mount a tmpfs in a namespace of its own")
    noexec, exec_ = tmp_path / "noexec", tmp_path / "exec"
    noexec.mkdir()
    exec_.mkdir()

    def told(folder: Path, cache: Path) -> list[str]:
        """As in the container: a noexec tmpfs for temporary files and at home, the cache where it is told."""
        environment = os.environ | {"HOME": str(noexec), "TMPDIR": str(noexec), "TRITON_CACHE_DIR": str(cache)}
        program = [sys.executable, "-c", PROGRAM, str(folder)]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", str(noexec), *program],
            env=environment, check=True, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return done.stdout.splitlines()

    mapped, *refusals = told(noexec, noexec / ".triton/cache")
    assert "failed to map segment from shared object" in mapped  # what a worker ended with
    assert len(refusals) == 2
    assert all(
        one.startswith(f"engine 'cuda' cannot be used: Triton's cache {noexec}/.triton/cache: it is on")
        for one in refusals
    )
    assert all("mounted noexec" in one and "TRITON_CACHE_DIR" in one for one in refusals)
    assert told(exec_, exec_ / "triton") == ["True", "True"]


def test_the_cache_is_where_triton_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRITON_CACHE_DIR", "TRITON_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/of")
    assert kernel_cache() == Path("/home/of/.triton/cache")
    monkeypatch.setenv("TRITON_HOME", "/its/home")
    assert kernel_cache() == Path("/its/home/.triton/cache")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "not" / "yet"))
    assert kernel_cache() == tmp_path / "not" / "yet"
    check_kernel_cache()
