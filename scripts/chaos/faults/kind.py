"""What a kind of fault is."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from chaos.fleet import Slot
from chaos.network import Proxy
from chaos.objects import ObjectStore
from chaos.server import Server
from chaos.tool import Tool


class Target(Enum):
    """What a fault hits; those of the server and the store hit everybody."""

    WORKER = auto()
    NETWORK = auto()
    SERVER = auto()
    STORE = auto()


@dataclass(frozen=True)
class Scene:
    """What a fault may touch.

    Attributes:
        server: Redis.
        store: Where audio is, when not in Redis.
        slot: The worker that is hit.
        networks: The worker's, and a producer's.
        seconds: How long the fault lasts.
        random: Decides what the fault leaves open.
    """

    server: Server
    store: ObjectStore | None
    slot: Slot
    networks: Sequence[Proxy]
    seconds: float
    random: Random


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: What it is called in plans and reports.
        target: What it hits.
        act: Begins it on entry and ends it on exit.
        shortest, longest: How long it lasts, in seconds; in leases where ``in_leases``.
        tool: What it needs.
        told: The worker tells when it happens, some time after it has been begun.
    """

    name: str
    target: Target
    act: Callable[[Scene], AbstractContextManager[None]]
    shortest: float = 0.0
    longest: float = 0.0
    in_leases: bool = False
    tool: Tool | None = None
    told: bool = False

    def lasts(self, lease: float, random: Random) -> float:
        """Seconds, at random."""
        return random.uniform(self.shortest, self.longest) * (lease if self.in_leases else 1.0)
