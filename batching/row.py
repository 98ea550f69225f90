"""One utterance inside the engine."""

import time
from dataclasses import dataclass, field

from sampler.decoding import Decoding, FinishReason


@dataclass(eq=False)
class Row:
    """A decoding with its place in the engine and what it cost; times are ``time.monotonic()`` seconds.

    Attributes:
        key: The caller's name for the row.
        followed: Whether somebody reads the decoding's semantic tokens while the row runs; else they may be there
            only when it ends.
        yields: Whether it may miss steps for the sake of rows that do not yield.
        slot: State slot while the row runs, else -1.
        steady: Whether it is fed as one of the engine's steady rows, which count its steps meanwhile.
        batch_total: Sum over the row's steps of the rows that shared the step.
        error: Why the engine failed the row, if it did.
    """

    key: str
    decoding: Decoding
    followed: bool = False
    yields: bool = False
    slot: int = -1
    steady: bool = False
    steps: int = 0
    batch_total: int = 0
    added_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    prefilled_at: float = 0.0
    finished_at: float = 0.0
    error: str | None = None

    @property
    def finished(self) -> FinishReason | None:
        return self.decoding.finish

    @property
    def mean_batch(self) -> float:
        """Rows in a step, averaged over the steps that this row took part in."""
        return self.batch_total / self.steps if self.steps else 0.0

    def restart(self) -> None:
        """Go back to the prompt; every field but those that the caller has given starts anew."""
        anew = Row(self.key, self.decoding.restarted(), self.followed, self.yields, added_at=self.added_at)
        vars(self).update(vars(anew))

    def ended_before(self, finish: FinishReason) -> None:
        """All of it was drawn elsewhere, and it ended so; it is not to run."""
        self.decoding.finish = finish
        self.started_at = self.prefilled_at = self.finished_at = time.monotonic()

    def fail(self, reason: str) -> None:
        self.error = reason
        self.decoding.finish = FinishReason.ERROR
