"""Finds out how this machine's matrix kernels must be called to round every row alike.

A library picks its kernel by the number of rows: one row is a vector product, three are an edge case, hundreds are
blocked otherwise, and each kernel adds in another order. A row's logits would then depend on its batch mates.
Padding the batch to the next size of which the kernels agree, and splitting it into blocks, avoids that; which
sizes agree is measured, once, when a model is loaded.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

_BLOCKS = (512, 128)
"""Rows at once, at most: libraries that pack the matrix for each call are slower with fewer."""
_MEASURED = (64, 32)
"""Up to how many rows every size is measured; with fewer rows other sizes may agree."""
_DENSE = 16
"""Sizes in a row that are measured of a plan: as many as kernels have rows, or more."""
_SPREAD = (25, 38, 57, 85, 128, 192, 288)
"""Further numbers of rows that are measured of a plan."""


@dataclass(frozen=True)
class RowPlan:
    """How many rows to multiply for n rows, so that a row's product is the same for every n.

    Attributes:
        block: Rows to multiply at once, at most; a multiple of the length of ``extra``.
        extra: Rows to add to n, by the remainder of n when divided by the length of ``extra``.
    """

    block: int
    extra: tuple[int, ...] = (0,)

    @staticmethod
    def of(sizes: Collection[int], block: int) -> "RowPlan":
        """Pad to the next of ``sizes``, of which the largest recurs, in blocks of at most ``block`` rows."""
        largest = max(sizes)
        extra = tuple(min(size - n for size in (0, *sizes) if size >= n) for n in range(largest))
        return RowPlan(block // largest * largest, extra)

    def padding(self, rows: int) -> int:
        """Rows to add to ``rows``."""
        return self.extra[rows % len(self.extra)]

    def padded(self, rows: int) -> int:
        """Rows to multiply for ``rows``; never fewer for more."""
        return rows + self.padding(rows)

    def __str__(self) -> str:
        """Such as "rows padded from 1-2 to 3, 7 to 8, in blocks of 64", or "rows not padded"."""
        sizes = groupby(filter(self.padding, range(1, len(self.extra))), self.padded)
        steps = [f"{_span(list(rows))} to {size}" for size, rows in sizes]
        if not steps:
            return "rows not padded"
        recurring = f" of every {len(self.extra)}" if self.block > len(self.extra) else ""
        return f"rows padded from {', '.join(steps)}{recurring}, in blocks of {self.block}"


def _span(rows: Sequence[int]) -> str:
    return f"{rows[0]}" if len(rows) == 1 else f"{rows[0]}-{rows[-1]}"


ANY_ROWS = RowPlan(_BLOCKS[0])
"""For products that round any number of rows alike."""


@dataclass(frozen=True)
class Trial:
    """A product to be measured, of rows, float32 [n, width]."""

    product: Callable[[Tensor], Tensor]
    width: int

    def rows(self, count: int) -> Tensor:
        """float32 [count, width]."""
        return torch.randn(count, self.width, generator=torch.Generator().manual_seed(1))


def row_plan(trials: Sequence[Trial]) -> RowPlan | None:
    """The cheapest plan under which all the products round rows alike; None where there is none.

    The best is no padding. Else what counts is how many rows are multiplied for one, and then large blocks.
    """
    if all(rounds_alike(trial, ANY_ROWS) for trial in trials):
        return ANY_ROWS
    plans = [plan for most in _MEASURED if (plan := _padded_plan(trials, most))]
    return min(plans, key=lambda plan: plan.padded(1), default=None)


def _padded_plan(trials: Sequence[Trial], most: int) -> RowPlan | None:
    """A plan of the sizes that agree, up to ``most`` rows."""
    sizes = set(range(1, most + 1))
    for trial in trials:
        sizes = _agreeing(trial, sizes)
    if not sizes:
        return None
    plans = (RowPlan.of(sizes, block) for block in (*_BLOCKS, max(sizes)))
    return next((plan for plan in plans if all(rounds_alike(trial, plan) for trial in trials)), None)


def _agreeing(trial: Trial, sizes: Iterable[int]) -> set[int]:
    """Those of the sizes at which rows come out as in a larger one, clear of its end, and one place on."""
    x = trial.rows(max(sizes, default=0) + _DENSE)
    whole = trial.product(x)
    return {n for n in sizes if torch.equal(trial.product(x[1 : 1 + n]), whole[1 : 1 + n])}


def rounds_alike(trial: Trial, plan: RowPlan) -> bool:
    """Whether rows come out alike in all kinds of the plan's sizes, and at another place in a block.

    Of small sizes as many as there may be kernels are measured, as many of those from where the plan recurs, and
    some of the others.
    """
    x = trial.rows(plan.block + 1)
    whole, recurring = trial.product(x[:-1]), len(plan.extra)
    counts = {*range(1, _DENSE + 1), *range(recurring + 1, recurring + _DENSE + 1), *_SPREAD}
    sizes = sorted({plan.padded(n) for n in counts if n < plan.block})
    if not all(torch.equal(trial.product(x[1 : 1 + n]), whole[1 : 1 + n]) for n in sizes if n < plan.block):
        return False
    return torch.equal(trial.product(x[1:])[:-1], whole[1:])
