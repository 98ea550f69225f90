"""What other threads tell a worker's main thread."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from rwkv_tts.refusal import Refusal
from worker.broker.backend import Ended, Made
from worker.broker.outcome import Outcome


class Signal(Enum):
    """Something to look after, without a content."""

    JOBS = auto()
    ROOM = auto()
    STOP = auto()


@dataclass(frozen=True)
class CalledBack:
    """A callback has returned: with None, or with what went wrong."""

    outcome: Outcome
    refusal: Refusal | None


@dataclass(frozen=True)
class Stop:
    """Somebody wants a job to stop."""

    job_id: str


@dataclass(frozen=True)
class Tune:
    """Somebody wants values to change; ``id`` is the asker's name for it."""

    id: str
    change: dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """A change has been made, or refused with an error."""

    id: str
    error: str | None


Message = Ended | Made | CalledBack | Stop | Tune | Tuned | Signal
