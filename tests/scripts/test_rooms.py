"""Every folder in scripts/ runs as a program, from anywhere, and hides no module of another."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"
ROOMS = sorted(path.parent.name for path in SCRIPTS.glob("*/__main__.py"))


def help_of(*command: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_it_runs_as_a_folder_and_as_a_module(room: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(SCRIPTS), *sys.path])
    as_folder = help_of(str(SCRIPTS / room), folder=tmp_path, PYTHONPATH=os.pathsep.join(sys.path))
    assert f"python scripts/{room}" in as_folder
    assert as_folder == help_of("-m", room, folder=tmp_path, PYTHONPATH=path)


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_has_the_name_of_another_s(room: str) -> None:
    """A file that is run by hand has its folder first on the path."""
    names = {path.stem for path in (SCRIPTS / room).glob("*.py")} - {"__init__", "__main__"}
    repository = {path.name for path in SCRIPTS.parent.iterdir() if path.is_dir()} | {"rwkv_tts"}
    assert not names & (sys.stdlib_module_names | packages_distributions().keys() | repository)
