"""How long jobs that a fault has hit take until they run again or end."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.job import Job, JobStatus
from rq.utils import as_text

ENDED = {status.value for status in (JobStatus.FINISHED, JobStatus.FAILED)}


@dataclass
class Case:
    """One fault that has happened.

    Attributes:
        worker: Who was hit; None when all were.
        network: The producer whose network was hit, too.
        at: When it began.
        until: When it ended; None while it lasts.
        members: Executions of then that nobody has replaced yet; None before they are known.
        jobs: How many there were.
        done_at: When the last of them was seen to have ended, or its job to run again.
    """

    kind: str
    worker: str | None
    at: float
    until: float | None = None
    network: int | None = None
    members: set[str] | None = None
    jobs: int = 0
    done_at: float | None = None

    @property
    def over_at(self) -> float:
        """When the fault, and all that had run, was over."""
        return max(self.until or self.at, self.done_at or 0.0)


@dataclass
class Tracker:
    """Watches the started registry for the executions that faults have hit, from outside.

    A job has recovered when its old execution is out of the started registry and the job is started, by a new
    execution therefore, or has ended.
    """

    registry: str
    cases: list[Case] = field(default_factory=list)

    def add(self, case: Case) -> None:
        self.cases.append(case)

    def look(self, connection: Redis, moment: float) -> None:
        """Bring all open cases up to date; may raise RedisError, then nothing has changed."""
        for case in self.cases:
            if case.members is None:
                case.members = self._executions(connection, case.worker)
                case.jobs = len(case.members)
            if case.members:
                case.members -= self._recovered(connection, sorted(case.members))
                if not case.members:
                    case.done_at = moment

    def _executions(self, connection: Redis, worker: str | None) -> set[str]:
        found: Iterable[Any] = (
            connection.zrange(self.registry, 0, -1)
            if worker is None
            else connection.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
        )
        return {as_text(member) for member in found}

    def _recovered(self, connection: Redis, members: Sequence[str]) -> set[str]:
        with connection.pipeline(transaction=False) as pipeline:
            for member in members:
                pipeline.zscore(self.registry, member)
                pipeline.hget(Job.key_for(member.rpartition(":")[0]), "status")
            replies = pipeline.execute()
        again = {*ENDED, JobStatus.STARTED.value}
        return {
            member
            for member, score, status in zip(members, replies[::2], replies[1::2], strict=True)
            if score is None and as_text(status or b"") in again
        }

    @property
    def open(self) -> bool:
        return any(case.until is None or case.members is None or case.members for case in self.cases)

    def seconds(self, case: Case, net: bool) -> float | None:
        """From a fault's end until what it had hit recovered; None where nothing was.

        ``net`` leaves out the time in which a fault of the server hit everybody.
        """
        if case.done_at is None or case.until is None:
            return None
        wall = case.done_at - case.until
        return max(0.0, wall - (self._under_a_fault(case.until, case.done_at) if net else 0.0))

    def all_seconds(self, net: bool) -> list[float]:
        return sorted(took for case in self.cases if (took := self.seconds(case, net)) is not None)

    def _under_a_fault(self, start: float, end: float) -> float:
        faults = [(case.at, case.until) for case in self.cases if case.worker is None and case.until is not None]
        return sum(max(0.0, min(end, until) - max(start, at)) for at, until in faults)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank of ordered numbers."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2) if ordered else None


def spread(ordered: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99), "max": percentile(ordered, 1.0)}
