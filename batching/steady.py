"""Rows that only speak on, as arrays: a step costs the host a few array operations, however many rows there are.

``Decoding`` says what a draw means; here the same is counted for all rows at once, and a row's decoding is brought
up to date when the row ends, or at every step where somebody follows it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batching.row import Row
from sampler.decoding import MAX_SEMANTIC_TOKENS, Phase
from sampler.draws import ALLOWED, DRAW_FIELDS, STEP, Ints, draw_fields
from sampler.layout import TokenLayout

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fed:
    """The steady rows of one step.

    Attributes:
        slots: int64 [n].
        terms: int64 [n], whose the slots are: another row's term is another number.
        draws: int32 [DRAW_FIELDS, n], what the sampler is told.
    """

    slots: Indices
    terms: Indices
    draws: Ints

    def __len__(self) -> int:
        return len(self.slots)


NOBODY = Fed(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((DRAW_FIELDS, 0), np.int32))


class SteadyRows:
    """Rows whose next tokens are all semantic ones, one a step, each fed as it was drawn.

    A row joins when its first draw of that kind is under way and leaves when it has finished or restarts.

    Args:
        slots: State slots.
        layout: The token layout.
    """

    def __init__(self, slots: int, layout: TokenLayout) -> None:
        self._layout = layout
        self._slots: dict[Row, int] = {}
        self._rows: dict[int, Row] = {}
        self._followed: set[Row] = set()
        self._fed: Indices = np.zeros(0, np.int64)
        self._draws = np.zeros((DRAW_FIELDS, slots), np.int32)
        # By slot: the row's limits, what was fed, and what has come back.
        (
            self._terms, self._first_eos, self._limit, self._streak, self._drawn, self._steps, self._batch_total,
            self._said, self._last, self._repeats,
        ) = np.zeros((10, slots), np.int64)  # fmt: skip
        self._tokens = np.zeros((slots, MAX_SEMANTIC_TOKENS), np.int32)

    @property
    def rows(self) -> list[Row]:
        """All of them."""
        return list(self._slots)

    @property
    def feeding(self) -> int:
        """Those that the next step feeds; the others wait for their last draw."""
        return len(self._fed)

    def join(self, row: Row) -> None:
        """Take over a row whose draw is under way, if it is of this kind."""
        decoding, slot = row.decoding, row.slot
        speaks = decoding.phase is Phase.SEMANTIC and decoding.remaining == 1
        if not speaks or decoding.limit > MAX_SEMANTIC_TOKENS:
            return
        self._rows[slot], self._slots[row] = row, slot
        if row.followed:
            self._followed.add(row)
        self._draws[:, slot : slot + 1] = draw_fields([decoding])
        self._first_eos[slot], self._limit[slot] = decoding.first_eos, decoding.limit
        self._streak[slot], self._drawn[slot] = decoding.streak, decoding.step
        self._steps[slot] = self._batch_total[slot] = 0
        self._fed = np.append(self._fed, slot)
        row.steady = True
        self.load(row)

    def load(self, row: Row) -> None:
        """Note what a row's decoding has got: the draw that was under way when it joined comes back to that."""
        slot, decoding = self._slots[row], row.decoding
        self._said[slot], self._repeats[slot] = len(decoding.semantic), decoding.repeats
        self._last[slot] = decoding.semantic[-1] if decoding.semantic else -1

    def feed(self, others: int) -> Fed:
        """Count a step beside ``others`` rows, and tell what it feeds of these."""
        slots = self._fed
        drawn = self._drawn[slots]
        draws = self._draws[:, slots]
        draws[ALLOWED] = np.where(drawn < self._first_eos[slots], self._layout.eos, self._layout.head_size)
        draws[STEP] = drawn
        self._drawn[slots] = drawn = drawn + 1
        self._steps[slots] += 1
        self._batch_total[slots] += others + len(slots)
        more = drawn < self._limit[slots]
        if not more.all():
            self._fed = slots[more]
        return Fed(slots, self._terms[slots], draws)

    def settle(self, fed: Fed, ids: Ints) -> int:
        """Take what a step has drawn, int32 [n]; return how many of the draws were wanted."""
        wanted = self._terms[fed.slots] == fed.terms
        slots, ids = fed.slots[wanted], ids[wanted]
        said, repeats = self._said[slots], np.where(ids == self._last[slots], self._repeats[slots] + 1, 1)
        self._tokens[slots, said] = self._last[slots] = ids
        self._repeats[slots] = repeats
        self._said[slots] = said = said + 1
        ends = (
            (ids < 0) | (ids == self._layout.eos) | (repeats >= self._streak[slots]) | (said >= self._limit[slots])
        )
        for i in np.flatnonzero(ends):
            self._end(int(slots[i]), int(ids[i]))
        for row in self._followed:
            self._bring_up(row)
        return len(slots)

    def leave(self, row: Row) -> None:
        """Let go of a row; its decoding and its counts are brought up to date."""
        self._bring_up(row)
        slot = self._slots.pop(row)
        del self._rows[slot]
        self._followed.discard(row)
        self._terms[slot] += 1
        self._fed = self._fed[self._fed != slot]
        row.steps += int(self._steps[slot])
        row.batch_total += int(self._batch_total[slot])
        row.steady = False

    def _end(self, slot: int, token: int) -> None:
        """A row's last token; its decoding says how it ends."""
        row = self._rows[slot]
        self._said[slot] -= 1
        self._bring_up(row)
        if row.finished is None:
            row.decoding.accept(token)
        self._said[slot] = len(row.decoding.semantic)

    def _bring_up(self, row: Row) -> None:
        slot, known = self._slots[row], len(row.decoding.semantic)
        row.decoding.catch_up(self._tokens[slot, known : self._said[slot]].tolist())
