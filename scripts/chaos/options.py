"""Size of a chaos run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    jobs: int
    seconds: float
    faults: int
    producers: int
    workers: int
    rows: int
    lease: float
    seed: int
    model: Path | None
    server: Path | None
    store: bool
