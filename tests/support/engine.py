"""Podman, with everything of its own in one folder, and a base image without a registry."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = "podman runc mmdebstrap iptables netavark aardvark-dns catatonit"
"""Of Debian: engine, maker of the base, networks, their names, and process 1 of a service with ``init``."""

BASE = "localhost/base"
_PROGRAMS = ("podman", "runc", "mmdebstrap", "iptables")
_HELPERS = ("netavark", "aardvark-dns", "catatonit")
_SETTINGS = """
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


def missing() -> str:
    """What keeps containers from running here; empty if nothing does."""
    if os.geteuid() != 0:
        return "containers need root"
    helpers = [Path(folder, "podman", name) for name in _HELPERS for folder in ("/usr/lib", "/usr/libexec")]
    there = all(map(shutil.which, _PROGRAMS)) and sum(helper.exists() for helper in helpers) >= len(_HELPERS)
    return "" if there else f"no container engine: apt-get install {PACKAGES}"


@contextmanager
def engine() -> Iterator["Engine"]:
    """An engine with its base image; nothing of it stays."""
    folder = Path(tempfile.mkdtemp(prefix="podman-", dir="/var/tmp"))
    podman = Engine(folder)
    try:
        _make_base(podman)
        yield podman
    finally:
        podman.run("rm", "--all", "--force", "--time", "0", check=False)
        shutil.rmtree(folder)


def _make_base(podman: "Engine") -> None:
    """Debian with Python, as a registry's image of Python would be."""
    archive = podman.folder / "base.tar"
    packages = "--include=python3,python3-venv,ca-certificates"
    quick = "--dpkgopt=force-unsafe-io"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", packages, quick, "bookworm", str(archive)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    podman.run("import", archive, BASE)
    archive.unlink()


class Engine:
    """Podman, told to keep images, containers, volumes and networks in a folder.

    Args:
        folder: Gets them, and the settings.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # not every root may raise it
        for name, text in (("containers.conf", _SETTINGS), ("storage.conf", _STORAGE)):
            (folder / name).write_text(text.format(folder=folder, files=min(files, 1 << 20)))
        self.environment = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_FORMAT": "docker",  # the other format has no health checks
            "BASE": BASE,
        }

    def run(
        self, *words: str | Path, seconds: float = 60.0, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run ``podman`` with these words."""
        return self.call(["podman", *map(str, words)], seconds=seconds, check=check)

    def call(
        self, command: list[str], *, cwd: Path | None = None, seconds: float = 60.0, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program with the settings of this engine."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=seconds
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
        return done

    def pip_settings(self) -> list[str]:
        """Options of a build that give its pip what this machine's pip is told, with the files that it names."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True, timeout=60
        )
        # What has precedence comes first, and is therefore told last.
        told = dict(_setting(line) for line in reversed(listed.stdout.splitlines()))
        settings = self.folder / "pip.conf"
        settings.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in told.items()))
        places = {
            place for value in told.values() for word in value.split() if (place := _place(word)).is_absolute()
        }
        mounts = {settings: Path("/etc/pip.conf"), **{place: place for place in places if place.exists()}}
        return [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")]


def _setting(line: str) -> tuple[str, str]:
    """Name and value of ``global.cert='...'``, or of ``:env:.cert='...'``, which has precedence."""
    name, _, value = line.partition("=")
    return name.rpartition(".")[2], value.strip("'")


def _place(word: str) -> Path:
    """The file or folder that a word names; the pages of an index refer to files beside them."""
    path = Path(word.removeprefix("file://"))
    return path.parent if path.name == "simple" else path
