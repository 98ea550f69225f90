"""Clocks that can be stepped while their process runs."""

import shutil
import struct
import subprocess
from pathlib import Path

HOUR = 3600
_SOURCE = Path(__file__).with_name("clock.c")


def why_no_clocks() -> str | None:
    """Why clocks cannot be stepped on this machine; None when they can."""
    return None if shutil.which("cc") else "a C compiler is not installed (cc)"


def build_library(folder: Path) -> Path:
    """The library that a process must preload."""
    library = folder / "clock.so"
    subprocess.run([shutil.which("cc") or "cc", "-shared", "-fPIC", "-O2", "-o", library, _SOURCE], check=True)
    return library


class Clock:
    """The clock of the day of one process.

    Attributes:
        environment: Variables with which the process must be started.
    """

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(file)}
        self.step(0)

    def step(self, seconds: int) -> None:
        """From now on it is so many seconds ahead; behind, when negative."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))
