"""The plan of a chaos run: which fault comes when, decided by a seed before anything starts."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from pathlib import Path
from random import Random


class Kind(StrEnum):
    """What goes wrong. The values of the fault points are what a worker process reads from its standard input."""

    KILL = "kill"
    CLAIMED = "claimed"
    WORKED = "worked"
    COMMITTED = "committed"
    ZOMBIE = "zombie"
    REFUSE = "refuse"
    DEAF = "deaf"
    RESTART = "restart"
    CRASH = "crash"
    PAUSE = "pause"


FAULT_POINTS = (Kind.CLAIMED, Kind.WORKED, Kind.COMMITTED)
"""A worker dies: between claim and start, between the end of work and commit, between commit and settle."""

CUTS = (Kind.REFUSE, Kind.DEAF)
"""The networks of a worker and a producer: nothing gets through, or commands do and their replies do not."""

OF_THE_SERVER = (Kind.RESTART, Kind.CRASH, Kind.PAUSE)
"""SIGTERM and SIGKILL of the server, and SIGSTOP."""

LONGEST_PAUSE = 25.0
LONGEST_DOWNTIME = 3.0


@dataclass(frozen=True, order=True)
class Fault:
    """One fault.

    Attributes:
        at: Seconds after the start.
        seconds: How long it lasts, where it does.
        worker: The first choice of the worker that it hits.
    """

    at: float
    kind: Kind
    seconds: float
    worker: int


@dataclass(frozen=True)
class Amounts:
    """How many faults of each kind; a quarter of the kills is at random instants, the others at fault points."""

    kills: int
    zombies: int
    cuts: int
    restarts: int
    pauses: int

    def kinds(self) -> tuple[list[Kind], list[Kind]]:
        """Faults that hit workers, and those that hit the server."""
        kills = islice(cycle((Kind.KILL, *FAULT_POINTS)), self.kills)
        workers = [*kills, *[Kind.ZOMBIE] * self.zombies, *islice(cycle(CUTS), self.cuts)]
        restarts = islice(cycle((Kind.CRASH, Kind.RESTART)), self.restarts)
        return workers, [*restarts, *[Kind.PAUSE] * self.pauses]


@dataclass(frozen=True)
class Options:
    """Size of a run."""

    jobs: int
    seconds: float
    producers: int
    workers: int
    rows: int
    lease: float
    seed: int
    model: Path | None
    amounts: Amounts


def make_plan(amounts: Amounts, seconds: float, workers: int, lease: float, seed: int) -> list[Fault]:
    """Spread the faults over the time. Those of the server do not overlap; any other may.

    Args:
        amounts: How many of each kind.
        seconds: Time for all of them.
        workers: Number of workers.
        lease: Seconds after which a silent worker counts as dead.
        seed: Decides everything.
    """
    random = Random(seed)  # noqa: S311 - a plan, no secret
    faults = []
    for kinds in amounts.kinds():
        random.shuffle(kinds)
        slot = seconds / max(1, len(kinds))
        for i, kind in enumerate(kinds):
            lasts = _seconds(kind, slot, lease, random)
            spare = slot - lasts if kind in OF_THE_SERVER else slot
            faults.append(Fault(i * slot + random.uniform(0, spare), kind, lasts, random.randrange(workers)))
    return sorted(faults)


def _seconds(kind: Kind, slot: float, lease: float, random: Random) -> float:
    """How long a fault lasts; two thirds of its slot at most when it takes the server from everybody."""
    if kind is Kind.ZOMBIE:
        return random.uniform(1.1, 1.6) * lease
    if kind in CUTS:
        return random.uniform(0.2, 2.0) * lease
    if kind is Kind.PAUSE:
        return min(slot * 2 / 3, random.uniform(1, LONGEST_PAUSE))
    if kind in OF_THE_SERVER:
        return min(slot * 2 / 3, random.uniform(0.2, LONGEST_DOWNTIME))
    return 0.0


def counted(faults: Counter[Kind], kinds: tuple[Kind, ...]) -> dict[str, int]:
    return {kind.value: faults[kind] for kind in kinds}
