"""The wave generator's activation as one pass over memory."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["total"])
def snake(
    x, alpha, inverse, inside, out, total, C: tl.constexpr, RATE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out = (x + inverse sin²(alpha x)) inside, over [L * RATE, C]; ``inside`` is [L]. Computed in float32."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = at < total
    c = at % C
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    wave = tl.sin(value * tl.load(alpha + c))
    value += wave * wave * tl.load(inverse + c)
    value *= tl.load(inside + at // (C * RATE), mask=there, other=0.0)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)
