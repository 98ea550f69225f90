"""How long jobs of a killed, stopped or cut-off worker take until they run again or end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis import Redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.job import Job, JobStatus
from rq.utils import as_text

ENDED = {status.value for status in (JobStatus.FINISHED, JobStatus.FAILED)}


@dataclass
class Case:
    """One worker that fell silent.

    Attributes:
        members: Its executions that nobody has replaced yet; None before they are known.
        jobs: How many there were.
        done_at: When the last of them was seen to run again, or to have ended.
    """

    worker: str
    kind: str
    at: float
    members: set[str] | None = None
    jobs: int = 0
    done_at: float | None = None


@dataclass
class Tracker:
    """Watches the started registry for the executions of silent workers, from outside.

    A job has recovered when its old execution is out of the started registry and the job is started, by a new
    execution therefore, or has ended.
    """

    registry: str
    cases: list[Case] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)

    def add(self, case: Case) -> None:
        self.cases.append(case)

    def look(self, connection: Redis, moment: float) -> None:
        """Bring all open cases up to date; may raise RedisError, then nothing has changed."""
        for case in self.cases:
            if case.members is None:
                found = connection.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(case.worker))
                case.members = {as_text(member) for member in found}
                case.jobs = len(case.members)
            if case.members:
                case.members -= self._recovered(connection, sorted(case.members))
                if not case.members:
                    case.done_at = moment

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
        return any(case.members is None or case.members for case in self.cases)

    def seconds(self, net: bool) -> list[float]:
        """For each worker that had jobs, how long they took; ``net`` leaves out the time without a server."""
        done = [(case.at, case.done_at) for case in self.cases if case.done_at is not None]
        return sorted(end - start - (self._without_server(start, end) if net else 0.0) for start, end in done)

    def _without_server(self, start: float, end: float) -> float:
        return sum(max(0.0, min(end, up) - max(start, down)) for down, up in self.away)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank of ordered numbers."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2) if ordered else None


def spread(ordered: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99), "max": percentile(ordered, 1.0)}
