"""Decides which rows feed how many tokens in a step; pure policy, without tensors."""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from batching.row import Row
from sampler.decoding import FinishReason, Phase


@dataclass(frozen=True)
class Share:
    """A row's part of one step."""

    row: Row
    tokens: int


class Scheduler:
    """Rows wait, run in a slot, and leave; a lone row never waits for company.

    Attributes:
        token_chunk_size: Prompt tokens that one step may prefill, over all rows. May be set between steps.
        max_rows: Rows that run at once; the number of state slots. May be lowered and raised between steps,
            up to ``slots``; rows that already run are not interrupted.
    """

    def __init__(self, slots: int, token_chunk_size: int) -> None:
        if slots < 1 or token_chunk_size < 1:
            raise ValueError(f"slots ({slots}) and token_chunk_size ({token_chunk_size}) must be at least 1")
        self.token_chunk_size = token_chunk_size
        self.max_rows = slots
        self._waiting: deque[Row] = deque()
        self._running: list[Row] = []
        self._free = list(range(slots))

    def __len__(self) -> int:
        """Rows that wait or run."""
        return len(self._waiting) + len(self._running)

    @property
    def running(self) -> list[Row]:
        """Rows that hold a slot, in the order of admission."""
        return self._running

    def add(self, row: Row) -> None:
        self._waiting.append(row)

    def admit(self) -> Iterator[Row]:
        """Give free slots to waiting rows, lowest slot first, and yield the rows that got one."""
        while self._waiting and self._free and len(self._running) < self.max_rows:
            row = self._waiting.popleft()
            row.slot = heapq.heappop(self._free)
            self._running.append(row)
            yield row

    def plan(self, yielding: int | None = None) -> list[Share]:
        """Share out one step: a token to every decoding row, the chunk to prefilling rows in order.

        Steady rows have no share: they feed a token in every step, as long as they have one.

        Args:
            yielding: Rows that yield and take part, in order; all of them when None.
        """
        budget = self.token_chunk_size
        shares = []
        for row in self._running:
            if row.steady or row.finished:  # cancelled since the last step
                continue
            if row.yields and yielding is not None:
                if not yielding:
                    continue
                yielding -= 1
            tokens = min(row.decoding.remaining, 1)  # none where the last draw is under way
            if row.decoding.phase is Phase.PREFILL:
                tokens = min(row.decoding.remaining, budget)
                budget -= tokens
            if tokens:
                shares.append(Share(row, tokens))
        return shares

    def release(self) -> list[Row]:
        """Take out the rows that have finished and free their slots."""
        finished = [row for row in self._running if row.finished]
        if finished:
            self._running = [row for row in self._running if not row.finished]
            for row in finished:
                heapq.heappush(self._free, row.slot)
                row.slot = -1
        return finished

    def restart(self, newest_first: bool = False) -> None:
        """Send the running rows back to their prompts, ahead of those that wait; ``release`` gets the finished.

        Args:
            newest_first: Whether rows with the fewest steps come first; else they keep their order.
        """
        rows = [row for row in self._running if not row.finished]
        self._running = [row for row in self._running if row.finished]
        if newest_first:
            rows.sort(key=lambda row: row.steps)
        for row in rows:
            heapq.heappush(self._free, row.slot)
            row.restart()
        self._waiting.extendleft(reversed(rows))

    def cancel(self, key: str) -> Row | None:
        """End the row named ``key``: a waiting row is returned at once, a running one by the next release."""
        for row in self._waiting:
            if row.key == key:
                self._waiting.remove(row)
                row.decoding.finish = FinishReason.CANCELLED
                return row
        for row in self._running:
            if row.key == key:
                row.decoding.finish = FinishReason.CANCELLED
        return None
