"""What the engine has done so far, as plain numbers: the cheapest thing a step can leave behind."""

from bisect import bisect_left
from dataclasses import dataclass, field

from sampler.decoding import Phase

STEP_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096)
"""Upper bounds of the classes of ``StepStats.durations``; one more class has all that is longer."""


@dataclass
class StepStats:
    """Sums since the start. The engine's thread writes them, any thread may read them, none locks.

    A reader may see one number of a step already and another not yet.

    Attributes:
        slots: State slots: the most rows that a step can have.
        sizes: Steps by their number of rows, 0 to ``slots``.
        durations: Steps by their duration, in the classes of ``STEP_SECONDS``.
        busy_seconds: Inside steps.
        idle_seconds: Waiting because there was no row; the owner of the engine's thread counts them.
        sampling_seconds: Inside steps, from the residual stream to token ids: head, masks and draw; 0 with the
            fast engine, whose draw is part of the same graph. In plain torch on a GPU, the step waits here for the
            forward pass, too.
        tokens: By phase: prompt tokens that were fed, then tokens that were drawn.
    """

    slots: int
    sizes: list[int] = field(init=False)
    durations: list[int] = field(init=False)
    busy_seconds: float = field(init=False)
    idle_seconds: float = field(init=False)
    sampling_seconds: float = field(init=False)
    tokens: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    @property
    def steps(self) -> int:
        """Batches that were run."""
        return sum(self.sizes)

    @property
    def row_steps(self) -> int:
        """The sum of their rows."""
        return sum(rows * steps for rows, steps in enumerate(self.sizes))

    @property
    def drawn(self) -> int:
        """Tokens that were drawn, also those of rows that restarted."""
        return self.tokens[Phase.GLOBAL] + self.tokens[Phase.SEMANTIC]

    def reset(self) -> None:
        """Start anew; for the engine's thread."""
        self.sizes = [0] * (self.slots + 1)
        self.durations = [0] * (len(STEP_SECONDS) + 1)
        self.busy_seconds = self.idle_seconds = self.sampling_seconds = 0.0
        self.tokens = [0] * len(Phase)

    def count(self, rows: int, seconds: float) -> None:
        """Count a step."""
        self.sizes[rows] += 1
        self.durations[bisect_left(STEP_SECONDS, seconds)] += 1
        self.busy_seconds += seconds
