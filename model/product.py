"""Products of rows with weight matrices, in the form in which this machine's libraries are fastest.

Decoding a few rows costs what reading the weights costs. On a CPU, torch's FBGEMM multiplies float32 rows with a
matrix that is kept in 16 bits, as checkpoints have it, and sums in float32: half the bytes, nothing rounded twice,
and no row that depends on its batch mates, with AVX2 only if few rows are padded. Its operators are old and may
leave torch one day: they are tried before they are trusted, and where they are missing, or a checkpoint needs more
bits, BLAS multiplies, which reads twice the bytes; ``Products.description`` says so.

On request large matrices are kept in 8 bits, and rows are rounded to 7 for the product: another half of the bytes,
and instructions that multiply four numbers at once, for an error of 1 to 2 % in each product.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.invariance import ANY_ROWS, RowPlan, Trial, rounds_alike, row_plan

Multiply = Callable[[Tensor, Tensor | None], Tensor]
"""Rows, float32 [n, in], to [n, out], which is written into the second tensor where there is one."""
Make = Callable[[Tensor], Multiply]
"""A matrix [in, out] to the product with it."""
Shape = tuple[int, int]

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
_CAUTIOUS = RowPlan.of({32}, 32)
_NOTHING_HELPS = (
    "matrix products on this machine round a row by its batch mates whatever the size of the batch: the "
    "tokens of a request may depend on what runs beside it"
)


class UntrustedError(ValueError):
    """A product is missing on this machine, wrong, or rounds a row by its batch mates; the message says which."""


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
        reason: Why the matrices are not kept in 16 bits, where they are not.
        alike: Whether rows come out alike in any company, which GPUs do not promise.
        device: The type of the matrices' device.
    """

    rows: RowPlan
    half: bool = False
    int8: bool = False
    reason: str = ""
    alike: bool = True
    device: str = "cpu"

    @staticmethod
    def measured(matrices: Sequence[Tensor], *, int8: bool = False) -> "Products":
        """What suits this machine for these matrices, each [in, out].

        GPU libraries promise nothing alike, so there rows go as they come.

        Raises:
            ValueError: There are no products with 8 bits here.
        """
        if int8:
            _check_int8(matrices)
        if device := _gpu(matrices):
            return Products(RowPlan(sys.maxsize), alike=False, device=device)
        shapes = _shapes(matrices)
        if not all(map(fits_half, matrices)):
            return _float_products(shapes, int8, "which the weights need")
        try:
            return Products(_half_plan(shapes), half=True, int8=int8)
        except UntrustedError as error:
            return _float_products(shapes, int8, f"16 would hold the weights, but {error}")

    @property
    def description(self) -> str:
        """What is used, and why if not 16 bits, in a line: "16 bits (FBGEMM), rows not padded; AVX512"."""
        if self.device != "cpu":
            return f"32 bits; {self.device}"
        bits = "16 bits (FBGEMM)" if self.half else f"32 bits (BLAS; {self.reason})"
        kept = f"8 bits, small matrices {bits}" if self.int8 else bits
        rows = f"{self.rows}" if self.alike else f"{self.rows}, which round by their batch mates all the same"
        return f"{kept}, {rows}; {torch.backends.cpu.get_cpu_capability()}"

    def of(self, matrix: Tensor) -> Product:
        """The product with a matrix [in, out], which is copied into the form it needs."""
        make = _int8 if self.int8 and _is_large(matrix) else _half if self.half else _float
        return Product(make(matrix), self.rows.block)


def _shapes(matrices: Iterable[Tensor]) -> list[Shape]:
    return sorted({(matrix.shape[0], matrix.shape[1]) for matrix in matrices})


def _gpu(matrices: Iterable[Tensor]) -> str | None:
    """The type of a device that is not a CPU, if one is among theirs."""
    return next((matrix.device.type for matrix in matrices if matrix.device.type != "cpu"), None)


def _is_large(matrix: Tensor) -> bool:
    return matrix.numel() >= _LEAST_INT8


def _check_int8(matrices: Sequence[Tensor]) -> None:
    if _gpu(matrices) or not all(map(_int8_works, _shapes(filter(_is_large, matrices)))):
        raise ValueError("engine: int8 needs a CPU and a build of torch that multiply 8 bits; accepted: auto")


def _int8_works(shape: Shape) -> bool:
    try:
        return rounds_alike(_trial(_int8, shape, _int8_close), ANY_ROWS)
    except UntrustedError:
        return False


def _half_plan(shapes: Sequence[Shape]) -> RowPlan:
    """How to multiply with 16-bit matrices of these shapes.

    Raises:
        UntrustedError: They cannot be had, are wrong, or no sizes of them agree.
    """
    plan = row_plan([_trial(_half, shape, _half_close) for shape in shapes])
    if plan is None:
        raise UntrustedError("such products round a row by its batch mates here")
    return plan


def _float_products(shapes: Sequence[Shape], int8: bool, reason: str) -> Products:
    """Products with float32 matrices; with a warning where no sizes of them agree."""
    plan = row_plan([_of_rows(_float(_matrix(shape)), shape) for shape in shapes])
    if plan is None:
        warnings.warn(_NOTHING_HELPS, RuntimeWarning, stacklevel=3)
    return Products(plan or _CAUTIOUS, int8=int8, reason=reason, alike=plan is not None)


def _float(matrix: Tensor) -> Multiply:
    matrix = matrix.contiguous()
    return lambda x, out: torch.mm(x, matrix, out=out)


def _half(matrix: Tensor) -> Multiply:
    packed, linear = (
        torch.fbgemm_pack_gemm_matrix_fp16(matrix.t().contiguous()),
        torch.fbgemm_linear_fp16_weight_fp32_activation,
    )
    return lambda x, out: linear(x, packed, None) if out is None else linear(x, packed, None, out)


def fits_half(matrix: Tensor) -> bool:
    """Whether float16 holds the matrix, up to what it cannot hold of very small bfloat16 numbers."""
    return bool((matrix.half().float() - matrix).abs().max() <= _HALF_ERROR)


def _half_close(found: Tensor, right: Tensor) -> bool:
    return torch.allclose(found, right, atol=_TOLERANCE)


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


def _matrix(shape: Shape) -> Tensor:
    """Random numbers that 16 bits hold."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).half().float()


def _trial(make: Make, shape: Shape, close: Callable[[Tensor, Tensor], bool]) -> Trial:
    """The product with a random matrix, once it has been right.

    Raises:
        UntrustedError: It cannot be had, or is wrong.
    """
    matrix, x = _matrix(shape), torch.randn(8, shape[0], generator=torch.Generator().manual_seed(2))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once that the operators are deprecated
            multiply = make(matrix)
            found, written = multiply(x, None), torch.empty(8, shape[1])
            multiply(x, written)
    except (AttributeError, RuntimeError, TypeError) as error:  # other processors, versions and builds of torch
        raise UntrustedError("this machine or build of torch has no such product") from error
    if not close(found, x @ matrix) or not torch.equal(found, written):
        raise UntrustedError("such products are wrong here")
    return _of_rows(multiply, shape)


def _of_rows(multiply: Multiply, shape: Shape) -> Trial:
    return Trial(lambda x: multiply(x, None), shape[0])
