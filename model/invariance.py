"""Finds out how this machine's matrix kernels must be called to round every row alike.

A BLAS picks its kernel by the number of rows: one row is a vector product, three are an edge case, hundreds are
blocked otherwise, and each kernel adds in another order. A row's logits would then depend on its batch mates.
Padding the batch to a multiple of a few rows, and splitting it into blocks, keeps it on kernels that agree; which
multiple and which block suffice is measured, once, when a model is loaded.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCKS = (512, 128, 64, 32)
_MULTIPLES = (1, 2, 4, 8, 16, 32)

Shape = tuple[int, int]


@dataclass(frozen=True)
class RowPlan:
    """How to multiply rows with a matrix: in blocks of at most ``block`` rows, each a multiple of ``multiple``."""

    multiple: int
    block: int

    def padding(self, rows: int) -> int:
        """Rows to add to ``rows``."""
        return -rows % self.multiple


def row_plan(shapes: Iterable[Shape]) -> RowPlan:
    """The cheapest plan under which products with float32 matrices [in, out] of these shapes round rows alike.

    Where no plan does, the most cautious one is returned, with a warning.
    """
    shapes = set(shapes)
    for block in _BLOCKS:
        for multiple in _MULTIPLES:
            plan = RowPlan(multiple, block)
            if all(_is_consistent(shape, plan) for shape in shapes):
                return plan
    warnings.warn(
        "matrix products on this machine round a row by its batch mates whatever the size of the batch: the "
        "tokens of a request may depend on what runs beside it",
        RuntimeWarning,
        stacklevel=2,
    )
    return RowPlan(_MULTIPLES[-1], _BLOCKS[-1])


def _is_consistent(shape: Shape, plan: RowPlan) -> bool:
    """Whether a matrix, stored by rows or by columns, multiplies rows alike."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    turned = matrix.t().contiguous().t()
    return all(rounds_alike(lambda x, m=m: x @ m, shape[0], plan) for m in (matrix, turned))  # type: ignore[misc]


def rounds_alike(product: Callable[[Tensor], Tensor], width: int, plan: RowPlan) -> bool:
    """Whether rows [n, width] come out alike in all kinds of sizes up to the block, and at another place in it."""
    x = torch.randn(plan.block + 1, width, generator=torch.Generator().manual_seed(1))
    whole = product(x[:-1])
    small = range(plan.multiple, 17 * plan.multiple, plan.multiple)
    sizes = {n for n in (*small, plan.block // 4, plan.block // 2) if n < plan.block and n % plan.multiple == 0}
    if not torch.equal(product(x[1:])[:-1], whole[1:]):
        return False
    return all(torch.equal(product(x[1 : 1 + n]), whole[1 : 1 + n]) for n in sorted(sizes))
