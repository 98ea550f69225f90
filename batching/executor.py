"""What the engine asks of a way to run a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from batching.row import Row
from batching.scheduler import Share
from batching.steady import Fed
from sampler.decoding import Decoding
from sampler.draws import Ints


@dataclass(frozen=True)
class Launched:
    """A step that was started.

    Attributes:
        size: Its rows, steady ones included.
        fed: The steady rows.
        rows: The others that draw in it.
        decodings: Theirs; a row that restarts meanwhile has another one.
        ids: Waits for the step, and gives the drawn ids, int32, of the steady rows, then of the others; -1 for
            a row whose logits are not finite.
    """

    size: int
    fed: Fed
    rows: Sequence[Row]
    decodings: Sequence[Decoding]
    ids: Callable[[], Ints]


class Executor(Protocol):
    """Feeds the shares of a step and the steady rows, and draws for every row that has then fed all it had."""

    @property
    def ahead(self) -> int:
        """Steps that may be launched before the results of an earlier one are taken."""

    def launch(self, shares: Sequence[Share]) -> Launched:
        """Start a step. A row with no steps yet begins from a zero state.

        Raises:
            Exception: The step was not run, or states may have advanced without a result.
        """
