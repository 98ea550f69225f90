"""Which of the parts that wait gets the next row. Policy, without threads and without a clock.

First comes the listener with the least audio ahead, where that is not much; then what jobs begin with, in the
order in which they came; then the further parts of long texts, which take turns and leave a few rows free.

While a job waits, further parts get no more than seven rows of eight, whoever listens. Every row that is taken
when a job comes to the head of the queue has ended after the time of one part, and then not all of them can have
gone to further parts: the job has waited for no longer than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

NEAR_SECONDS = 10.0
"""A listener with less audio ahead comes first; what is missing takes as long where a row runs in real time."""

_KEPT_SHARE = 8
"""One row of so many is kept from further parts."""

_HEARD_AT_ONCE, _MOST_HEARD_AT_ONCE = 2, 8


@dataclass(eq=False)
class Bid:
    """A part that could start.

    Attributes:
        first: Whether its job begins with it.
        running: Rows that its job has.
        ahead: Seconds of audio that its listener has left; infinity where nobody listens.
    """

    first: bool
    running: int = 0
    ahead: float = float("inf")


def choose(bids: Sequence[Bid], *, free: int, rows: int, further: int) -> Bid | None:
    """The part that starts next; None where all of them wait on.

    Args:
        bids: One of each job at most, in the order in which the jobs came.
        free: Rows that are free.
        rows: Rows that there are.
        further: Rows with parts that are not the first of their job.
    """
    if free <= 0:
        return None
    kept = -(-rows // _KEPT_SHARE)
    first = next((bid for bid in bids if bid.first), None)
    others = [bid for bid in bids if not bid.first]
    if first is None or further < rows - kept:
        near = [bid for bid in others if bid.ahead < NEAR_SECONDS]
        first = min(near, key=lambda bid: bid.ahead, default=first)
    if first is not None or (free <= kept and rows > 1):
        return first
    return min(others, key=lambda bid: bid.running, default=None)


def heard_at_once(waits: int, *, begun: bool) -> int:
    """How many parts of a stream may be under way, from their start until they are in the audio.

    One until it is heard, so that nothing is in the way of its beginning; then the one that is to be heard next as
    well, and one more for each time that its listener had to wait.
    """
    return min(_HEARD_AT_ONCE + waits, _MOST_HEARD_AT_ONCE) if begun else 1
