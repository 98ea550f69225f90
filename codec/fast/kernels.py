"""The wave generator's activation as one pass over memory."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows"])
def snake(
    x, bias, turns, inverse, inside, out, rows,
    C: tl.constexpr, RATE: tl.constexpr, BIAS: tl.constexpr, KEEP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = (y + inverse sin²(pi turns y)) inside of y = x + bias, [rows, C]; ``inside`` is [rows / RATE].

    With KEEP, y takes the place of x. The sine is its Taylor series to the 11th power within half a period, exact
    to 1e-7, in float32: sin² has the period pi.
    """
    c = tl.arange(0, COLUMNS)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = (row < rows)[:, None] & (c < C)[None, :]
    at = row[:, None] * C + c[None, :]
    y = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    if BIAS:
        y += tl.load(bias + c, mask=c < C, other=0.0)[None, :]
    if KEEP:
        y = y.to(x.dtype.element_ty)
        tl.store(x + at, y, mask=there)
        y = y.to(tl.float32)
    turned = y * tl.load(turns + c, mask=c < C, other=0.0)[None, :]
    turned -= tl.floor(turned + 0.5)
    z = turned * turned
    wave = 0.08214589 + z * -0.00737043
    wave = turned * (3.14159265 + z * (-5.16771278 + z * (2.55016404 + z * (-0.59926453 + z * wave))))
    y += wave * wave * tl.load(inverse + c, mask=c < C, other=0.0)[None, :]
    y *= tl.load(inside + row // RATE, mask=row < rows, other=0.0)[:, None]
    tl.store(out + at, y.to(out.dtype.element_ty), mask=there)
