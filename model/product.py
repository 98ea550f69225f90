"""Products of rows with weight matrices, in the form in which this machine's libraries are fastest.

Decoding a few rows costs what reading the weights costs. On a CPU, torch's FBGEMM multiplies float32 rows with a
matrix that is kept in 16 bits, as checkpoints have it, and sums in float32: half the bytes, nothing rounded twice,
and no row that depends on its batch mates. Its operators are old and may leave torch one day: they are tried
before they are trusted, and where they are missing, or a checkpoint needs more bits, BLAS multiplies.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.invariance import RowPlan, rounds_alike, row_plan

Multiply = Callable[[Tensor, Tensor | None], Tensor]
"""Rows, float32 [n, in], to [n, out], which is written into the second tensor where there is one."""

_HALF_ERROR = 2.0**-25
"""Half the spacing of the smallest float16: what rounding bfloat16 weights of any usual size costs at most."""
_TOLERANCE = 1e-3
"""Between products of normal numbers: float32 sums pass, a library set to bfloat16 does not."""


@dataclass(frozen=True)
class Product:
    """The product with one matrix, at most ``block`` rows at once; rows are padded as the plan says."""

    multiply: Multiply
    block: int

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [n, in] to [n, out]."""
        if len(x) <= self.block:
            return self.multiply(x, None)
        return torch.cat([self.multiply(part, None) for part in torch.split(x, self.block)])

    def into(self, x: Tensor, out: Tensor) -> None:
        """Write the product into ``out``, float32 [n, out], without a copy."""
        for part, target in zip(torch.split(x, self.block), torch.split(out, self.block), strict=True):
            self.multiply(part, target)


@dataclass(frozen=True)
class Products:
    """How to multiply with the matrices of one model so that a row's result does not depend on its batch mates.

    Attributes:
        rows: How many rows at once.
        half: Whether the matrices are kept in 16 bits.
    """

    rows: RowPlan
    half: bool = False

    @staticmethod
    def measured(matrices: Sequence[Tensor]) -> "Products":
        """What suits this machine for these matrices, each [in, out].

        GPU libraries promise nothing alike, so there rows go as they come.
        """
        if any(matrix.device.type != "cpu" for matrix in matrices):
            return Products(RowPlan(multiple=1, block=sys.maxsize))
        shapes = {(matrix.shape[0], matrix.shape[1]) for matrix in matrices}
        if all(map(_fits_half, matrices)) and all(map(_half_works, shapes)):
            return Products(_HALF_ROWS, half=True)
        return Products(row_plan(shapes))

    def of(self, matrix: Tensor) -> Product:
        """The product with a matrix [in, out], which is copied into the form it needs."""
        multiply = _half(matrix) if self.half else _float(matrix)
        return Product(multiply, self.rows.block)


_HALF_ROWS = RowPlan(multiple=1, block=512)


def _float(matrix: Tensor) -> Multiply:
    matrix = matrix.contiguous()
    return lambda x, out: torch.mm(x, matrix, out=out)


def _half(matrix: Tensor) -> Multiply:
    packed, linear = (
        torch.fbgemm_pack_gemm_matrix_fp16(matrix.t().contiguous()),
        torch.fbgemm_linear_fp16_weight_fp32_activation,
    )
    return lambda x, out: linear(x, packed, None) if out is None else linear(x, packed, None, out)


def _fits_half(matrix: Tensor) -> bool:
    """Whether float16 holds the matrix, up to what it cannot hold of very small bfloat16 numbers."""
    return bool((matrix.half().float() - matrix).abs().max() <= _HALF_ERROR)


def _half_works(shape: tuple[int, int]) -> bool:
    """Whether a 16-bit matrix of this shape can be had, is right, and rounds any number of rows alike."""
    generator = torch.Generator().manual_seed(0)
    matrix, x = torch.randn(shape, generator=generator), torch.randn(8, shape[0], generator=generator)
    matrix = matrix.half().float()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once that the operators are deprecated
            multiply = _half(matrix)
            found, written = multiply(x, None), torch.empty(8, shape[1])
            multiply(x, written)
    except (AttributeError, RuntimeError, TypeError):  # other processors, versions and builds of torch
        return False
    right = torch.allclose(found, x @ matrix, atol=_TOLERANCE) and torch.equal(found, written)
    return right and rounds_alike(lambda part: multiply(part, None), shape[0], _HALF_ROWS)
