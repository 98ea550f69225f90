"""The plan of a chaos run: which fault comes when, decided by a seed before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

from chaos.faults.kind import Kind, Target
from chaos.options import Options

FAULTY = 0.85
"""The share of the run that has faults: a worker that is told to die at a fault point needs jobs to get there."""

_OF_ALL = (Target.SERVER, Target.STORE)
"""What everybody uses."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        at: Seconds after the start.
        seconds: How long it lasts, where it does.
        worker: The first choice of the worker that it hits.
        seed: Decides what the kind leaves open.
    """

    at: float
    kind: Kind
    seconds: float
    worker: int
    seed: int


def make_plan(kinds: Sequence[Kind], options: Options) -> list[Fault]:
    """Draw faults from all kinds evenly, and spread them over the time.

    Those of the server do not overlap, nor do those of the store.
    """
    random = Random(options.seed)  # noqa: S311 - a plan, no secret
    drawn = list(islice(cycle(random.sample(kinds, len(kinds))), options.faults))
    groups: list[list[Kind]] = [[], [], []]
    for kind in drawn:
        groups[_OF_ALL.index(kind.target) if kind.target in _OF_ALL else -1].append(kind)
    faults = [fault for group in groups for fault in _spread(group, options, random)]
    return sorted(faults, key=lambda fault: fault.at)


def _spread(kinds: list[Kind], options: Options, random: Random) -> list[Fault]:
    """One fault in each of as many slots of the time; one that hits everybody ends in two thirds of its slot."""
    random.shuffle(kinds)
    slot = FAULTY * options.seconds / max(1, len(kinds))
    faults = []
    for i, kind in enumerate(kinds):
        lasts, spare = kind.lasts(options.lease, random), slot
        if kind.target in _OF_ALL:
            lasts = min(lasts, slot * 2 / 3)
            spare = slot - lasts
        at = i * slot + random.uniform(0, spare)
        faults.append(Fault(at, kind, lasts, random.randrange(options.workers), random.getrandbits(32)))
    return faults
