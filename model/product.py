"""Products of rows with weight matrices, in the form in which this machine's libraries are fastest.

On a CPU, MKL spends more time on packing a large matrix than on multiplying a few rows with it. oneDNN takes a
matrix that has been packed once; its calls cost more, so that small matrices stay with MKL. Its operators are
those of torch's own compiler (inductor) and not public: they are tried before they are trusted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from model.invariance import RowPlan, Shape, rounds_alike, row_plan

Product = Callable[[Tensor], Tensor]
"""Padded rows, float32 [n, in], to [n, out]."""

_PACKED_FROM = 2**17
"""Elements from which a packed matrix is faster at every number of rows (AVX-512, measured)."""
_TOLERANCE = 1e-3
"""Between packed and plain products of normal numbers: float32 passes, a library set to bfloat16 does not."""


@dataclass(frozen=True)
class Products:
    """How to multiply with the matrices of one model so that a row's result does not depend on its batch mates.

    Attributes:
        rows: How many rows at once.
        packed: Shapes [in, out] of the matrices to pack.
    """

    rows: RowPlan
    packed: frozenset[Shape] = frozenset()

    @staticmethod
    def measured(shapes: Iterable[Shape], head: Shape) -> "Products":
        """What suits this CPU for matrices of these shapes, and for a head, whose product is written in place."""
        shapes = frozenset(shapes)
        packed = frozenset(shape for shape in shapes if shape[0] * shape[1] >= _PACKED_FROM and _packs(shape))
        return Products(row_plan({head} | shapes - packed), packed)

    def of(self, matrix: Tensor) -> Product:
        """The product with a matrix [in, out], which is copied into the form it needs."""
        if tuple(matrix.shape) in self.packed:
            return partial(self.rows.in_blocks, _packed_product(matrix))
        return partial(self.rows.product, matrix=matrix.contiguous())


def _packed_product(matrix: Tensor) -> Product:
    weight = torch.ops.mkldnn._reorder_linear_weight(matrix.t().contiguous(), None)

    def product(x: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return result

    return product


def _packs(shape: Shape) -> bool:
    """Whether a packed matrix of this shape can be had, is right, and rounds any number of rows alike."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    matrix, x = torch.randn(shape, generator=generator), torch.randn(8, shape[0], generator=generator)
    try:
        product = _packed_product(matrix)
        right = torch.allclose(product(x), x @ matrix, atol=_TOLERANCE)
    except (AttributeError, RuntimeError, TypeError):  # other versions and builds of torch
        return False
    return right and rounds_alike(product, shape[0], RowPlan(multiple=1, block=512))
