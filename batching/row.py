"""One utterance inside the engine."""

import time
from dataclasses import dataclass, field

from sampler.decoding import Decoding, FinishReason


@dataclass(eq=False)
class Row:
    """A decoding with its place in the engine and what it cost; times are ``time.monotonic()`` seconds.

    Attributes:
        key: The caller's name for the row.
        slot: State slot while the row runs, else -1.
        batch_total: Sum over the row's steps of the rows that shared the step.
    """

    key: str
    decoding: Decoding
    slot: int = -1
    steps: int = 0
    batch_total: int = 0
    added_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    prefilled_at: float = 0.0
    finished_at: float = 0.0

    @property
    def finished(self) -> FinishReason | None:
        return self.decoding.finish

    @property
    def mean_batch(self) -> float:
        """Rows in a step, averaged over the steps that this row took part in."""
        return self.batch_total / self.steps if self.steps else 0.0
