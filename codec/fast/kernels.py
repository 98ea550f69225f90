"""The decoder as passes over one long row of tokens: convolutions with what follows them, and layer norms."""

import triton
import triton.language as tl


@triton.jit
def _snake(y, turns, inverse):
    """y + inverse sin²(pi turns y).

    The sine is its Taylor series to the 11th power within half a period, exact to 1e-7: sin² has the period pi.
    """
    turned = y * turns
    turned -= tl.floor(turned + 0.5)
    z = turned * turned
    wave = 0.08214589 + z * -0.00737043
    wave = turned * (3.14159265 + z * (-5.16771278 + z * (2.55016404 + z * (-0.59926453 + z * wave))))
    return y + wave * wave * inverse


@triton.jit
def _columns(values, n, OUTPUTS: tl.constexpr):
    """One value for each column."""
    return tl.load(values + n, mask=n < OUTPUTS, other=0.0)[None, :]


@triton.jit(do_not_specialize=["rows", "dilation"])
def convolve(
    x, weight, bias, turns, inverse, inside, kept, out, rows, dilation,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, TAPS: tl.constexpr, STRIDE: tl.constexpr, RATE: tl.constexpr,
    ACTIVATION: tl.constexpr, RESIDUAL: tl.constexpr, KEEP: tl.constexpr, OUT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """y = weight * x + bias, [rows * STRIDE, OUTPUTS], of x [rows, INPUTS]; weight is [TAPS, INPUTS, OUTPUTS].

    With STRIDE 1 a convolution that keeps the length; otherwise a transposed one, each program for one position of
    a stride. RESIDUAL adds ``kept`` to y, KEEP puts y there, OUT stores activation(y) inside; ``inside`` is
    [rows / RATE].
    """
    blocks: tl.constexpr = (OUTPUTS + COLUMNS - 1) // COLUMNS
    steps: tl.constexpr = (INPUTS + DEPTH - 1) // DEPTH
    padding: tl.constexpr = (TAPS - STRIDE) // 2
    program = tl.program_id(0)
    n = program % blocks * COLUMNS + tl.arange(0, COLUMNS)
    phase = program // blocks % STRIDE
    row = program // (blocks * STRIDE) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, DEPTH)
    if STRIDE == 1:
        first, step, tap, next_tap = -(TAPS // 2) * dilation, dilation, 0, 1
    else:
        first, step, next_tap = -((TAPS - 1 - phase - padding) // STRIDE), 1, -STRIDE
        tap = phase + padding - STRIDE * first
    y = tl.zeros((ROWS, COLUMNS), tl.float32) + _columns(bias, n, OUTPUTS)
    real = (row < rows)[:, None] & (n < OUTPUTS)[None, :]
    place = (row * STRIDE + phase)[:, None] * OUTPUTS + n[None, :]
    if RESIDUAL:  # first, so that it comes while the product is made
        y += tl.load(kept + place, mask=real, other=0.0).to(tl.float32)
    for i in range((TAPS + STRIDE - 1) // STRIDE * steps):
        at = row + first + i // steps * step
        of = tap + i // steps * next_tap  # below zero where a position has fewer taps than others
        depth = i % steps * DEPTH + k
        there = ((at >= 0) & (at < rows) & (of >= 0))[:, None]
        wanted = n[None, :] < OUTPUTS
        if INPUTS % DEPTH != 0:
            there = there & (depth < INPUTS)[None, :]
            wanted = wanted & (depth < INPUTS)[:, None]
        a = tl.load(x + at[:, None] * INPUTS + depth[None, :], mask=there, other=0.0)
        b_at = weight + tl.maximum(of, 0) * (INPUTS * OUTPUTS) + depth[:, None] * OUTPUTS + n[None, :]
        if OUTPUTS % COLUMNS != 0 or INPUTS % DEPTH != 0:
            b = tl.load(b_at, mask=wanted, other=0.0)
        else:
            b = tl.load(b_at)
        y = tl.dot(a, b, y, input_precision="ieee")
    if KEEP:
        tl.store(kept + place, y.to(kept.dtype.element_ty), mask=real)
    if OUT:
        if ACTIVATION == "snake":
            y = _snake(y, _columns(turns, n, OUTPUTS), _columns(inverse, n, OUTPUTS))
        elif ACTIVATION == "gelu":
            y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
        y *= tl.load(inside + row // RATE, mask=row < rows, other=0.0)[:, None]
        tl.store(out + place, y.to(out.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["rows"])
def normalize(
    x, taps, tap_bias, scale, shift, owners, inside, out, rows, stride,
    C: tl.constexpr, TAPS: tl.constexpr, EPSILON: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = (layer norm of y) scale + shift, inside; y is x [rows, C], with TAPS a convolution of each channel.

    ``taps`` is [TAPS, C]; scale and shift are [voices, C] of row stride ``stride``; ``owners`` says which row is
    whose.
    """
    c = tl.arange(0, COLUMNS)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = (c < C)[None, :]
    there = (row < rows)[:, None] & real
    if TAPS > 0:
        y = tl.zeros((ROWS, COLUMNS), tl.float32) + tl.load(tap_bias + c, mask=c < C, other=0.0)[None, :]
        for tap in tl.static_range(TAPS):
            at = row + (tap - TAPS // 2)
            counts = tl.load(inside + at, mask=(at >= 0) & (at < rows), other=0.0) > 0.0
            value = tl.load(x + at[:, None] * C + c[None, :], mask=counts[:, None] & real, other=0.0)
            y += value * tl.load(taps + tap * C + c, mask=c < C, other=0.0)[None, :]
    else:
        y = tl.load(x + row[:, None] * C + c[None, :], mask=there, other=0.0)
    y = tl.where(real, y - (tl.sum(y, 1) / C)[:, None], 0.0)
    y *= tl.rsqrt(tl.sum(y * y, 1) / C + EPSILON)[:, None]
    of = tl.load(owners + row, mask=row < rows, other=0)[:, None] * stride + c[None, :]
    y = y * tl.load(scale + of, mask=there, other=0.0) + tl.load(shift + of, mask=there, other=0.0)
    y *= tl.load(inside + row, mask=row < rows, other=0.0)[:, None]
    tl.store(out + row[:, None] * C + c[None, :], y.to(out.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["rows"])
def collect(x, bias, out, rows, TAPS: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr):
    """out = tanh(y + bias), float32 [rows]; y sums each tap of x [rows, STRIDE], its products, along time."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    y = tl.zeros((ROWS,), tl.float32) + tl.load(bias)
    for tap in tl.static_range(TAPS):
        at = row + (tap - TAPS // 2)
        y += tl.load(x + at * STRIDE + tap, mask=(at >= 0) & (at < rows), other=0.0)
    tl.store(out + row, 1.0 - 2.0 / (tl.exp(2.0 * y) + 1.0), mask=row < rows)
