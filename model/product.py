"""Products of rows with weight matrices, in the form in which this machine's libraries are fastest.

Decoding a few rows costs what reading the weights costs. On a CPU, torch's FBGEMM multiplies float32 rows with a
matrix that is kept in 16 bits, as checkpoints have it, and sums in float32: half the bytes, nothing rounded twice,
and no row that depends on its batch mates. Its operators are old and may leave torch one day: they are tried
before they are trusted, and where they are missing, or a checkpoint needs more bits, BLAS multiplies.

On request large matrices are kept in 8 bits, and rows are rounded to 7 for the product: another half of the bytes,
and instructions that multiply four numbers at once, for an error of 1 to 2 % in each product.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.invariance import RowPlan, rounds_alike, row_plan

Multiply = Callable[[Tensor, Tensor | None], Tensor]
"""Rows, float32 [n, in], to [n, out], which is written into the second tensor where there is one."""

_HALF_ERROR = 2.0**-25
"""Half the spacing of the smallest float16: what rounding bfloat16 weights of any usual size costs at most."""
_TOLERANCE = 1e-3
"""Between products of normal numbers: float32 sums pass, a library set to bfloat16 does not."""
_INT8_ERROR = 0.04
"""Of a product of normal numbers over its size, with 8 bits."""
_LEAST_INT8 = 2**19
"""Numbers of a matrix, from which on 8 bits gain more than rounding the rows costs."""
_ENDS = (1.0, -1.0, 0.0, 0.0)
"""The least and the greatest number of every row, met by weights of zero, so that all rows get the same steps."""


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
        int8: Whether large ones are kept in 8.
    """

    rows: RowPlan
    half: bool = False
    int8: bool = False

    @staticmethod
    def measured(matrices: Sequence[Tensor], *, int8: bool = False) -> "Products":
        """What suits this machine for these matrices, each [in, out].

        GPU libraries promise nothing alike, so there rows go as they come.

        Raises:
            ValueError: There are no products with 8 bits here.
        """
        if int8:
            _check_int8(matrices)
        if any(matrix.device.type != "cpu" for matrix in matrices):
            return Products(RowPlan(multiple=1, block=sys.maxsize))
        shapes = {(matrix.shape[0], matrix.shape[1]) for matrix in matrices}
        if all(map(_fits_half, matrices)) and all(map(_half_works, shapes)):
            return Products(_ANY_ROWS, half=True, int8=int8)
        return Products(row_plan(shapes), int8=int8)

    def of(self, matrix: Tensor) -> Product:
        """The product with a matrix [in, out], which is copied into the form it needs."""
        make = _int8 if self.int8 and _is_large(matrix) else _half if self.half else _float
        return Product(make(matrix), self.rows.block)


_ANY_ROWS = RowPlan(multiple=1, block=512)


def _is_large(matrix: Tensor) -> bool:
    return matrix.numel() >= _LEAST_INT8


def _check_int8(matrices: Sequence[Tensor]) -> None:
    shapes = {(matrix.shape[0], matrix.shape[1]) for matrix in matrices if _is_large(matrix)}
    on_cpu = all(matrix.device.type == "cpu" for matrix in matrices)
    if not on_cpu or not all(_works(_int8, shape, _int8_close) for shape in shapes):
        raise ValueError("engine: int8 needs a CPU and a build of torch that multiply 8 bits; accepted: auto")


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
    return _works(_half, shape, lambda found, right: torch.allclose(found, right, atol=_TOLERANCE))


def _int8_close(found: Tensor, right: Tensor) -> bool:
    return bool((found - right).norm() < _INT8_ERROR * right.norm())


def _int8(matrix: Tensor) -> Multiply:
    """Each output has its own step, and each row; torch's dynamic product would give all rows the same one."""
    steps = matrix.abs().amax(0).clamp_min(torch.finfo(torch.float32).tiny) / 127
    weight = F.pad(matrix.t(), (0, len(_ENDS))).contiguous()
    zeros = torch.zeros(len(steps), dtype=torch.int64)
    quantized = torch.quantize_per_channel(weight, steps.double(), zeros, 0, torch.qint8)
    packed, linear = torch.ops.quantized.linear_prepack(quantized, None), torch.ops.quantized.linear_dynamic
    width, ends = len(matrix), torch.tensor(_ENDS)

    def multiply(x: Tensor, out: Tensor | None) -> Tensor:
        sizes = x.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
        rows = x.new_empty(len(x), width + len(ends))
        torch.div(x, sizes, out=rows[:, :width])
        rows[:, width:] = ends
        return torch.mul(linear(rows, packed, True), sizes, out=out)  # True: 7 bits, or sums of two overflow

    return multiply


def _works(
    make: Callable[[Tensor], Multiply], shape: tuple[int, int], close: Callable[[Tensor, Tensor], bool]
) -> bool:
    generator = torch.Generator().manual_seed(0)
    matrix, x = torch.randn(shape, generator=generator), torch.randn(8, shape[0], generator=generator)
    matrix = matrix.half().float()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once that the operators are deprecated
            multiply = make(matrix)
            found, written = multiply(x, None), torch.empty(8, shape[1])
            multiply(x, written)
    except (AttributeError, RuntimeError, TypeError):  # other processors, versions and builds of torch
        return False
    right = close(found, x @ matrix) and torch.equal(found, written)
    return right and rounds_alike(lambda part: multiply(part, None), shape[0], _ANY_ROWS)
