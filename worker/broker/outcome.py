"""How a job ends for a worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from rq.job import JobStatus
from rq.utils import now

from rwkv_tts.refusal import Refusal
from worker.broker.backend import Stage
from worker.broker.claim import Claimed


class Fate(Enum):
    """How a job ends for this worker."""

    FINISHED = JobStatus.FINISHED
    FAILED = JobStatus.FAILED
    STOPPED = JobStatus.STOPPED
    PUT_BACK = JobStatus.QUEUED


@dataclass(frozen=True)
class Verdict:
    """What is decided about a job before its time."""

    fate: Fate
    refusal: Refusal


@dataclass(frozen=True)
class Outcome:
    """What to record of a job.

    Attributes:
        result: The return value of a finished job.
        attachments: What is stored beside it, by Redis key, and lives as long.
        refusal: Why a job failed or was stopped; of one that was put back, why, if there is a reason.
        delay: Seconds after which a job that was put back is queued; 0 puts it at the front at once.
        ended_at: When it ended for this worker.
        stages: Where its time has gone, as far as the backend has told.
    """

    claimed: Claimed
    fate: Fate
    result: dict[str, Any] | None = None
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    refusal: Refusal | None = None
    delay: float = 0.0
    ended_at: datetime = field(default_factory=now)
    stages: Sequence[Stage] = ()

    @property
    def reason(self) -> str:
        """The refusal as one line; "" without one."""
        return "" if self.refusal is None else str(self.refusal)

    @property
    def size(self) -> int:
        """Bytes of what is stored beside the result, or was for listeners."""
        return self.claimed.job.heard + sum(map(len, self.attachments.values()))

    @property
    def tries_again(self) -> bool:
        """Whether a failed job uses up one of its RQ retries."""
        may_pass = self.refusal is not None and self.refusal.cause.may_pass
        return self.fate is Fate.FAILED and may_pass and self.claimed.job.should_retry
