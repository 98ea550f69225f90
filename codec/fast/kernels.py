"""The wave generator's activation as one pass over memory."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["total"])
def snake(
    x, turns, inverse, inside, out, total, C: tl.constexpr, RATE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out = (x + inverse sin²(pi turns x)) inside, over [L * RATE, C]; ``inside`` is [L]. Computed in float32.

    The sine is its Taylor series to the 11th power within half a period, exact to 1e-7: sin² has the period pi.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = at < total
    c = at % C
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    y = value * tl.load(turns + c)
    y -= tl.floor(y + 0.5)
    z = y * y
    wave = 0.08214589 + z * -0.00737043
    wave = y * (3.14159265 + z * (-5.16771278 + z * (2.55016404 + z * (-0.59926453 + z * wave))))
    value += wave * wave * tl.load(inverse + c)
    value *= tl.load(inside + at // (C * RATE), mask=there, other=0.0)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)
