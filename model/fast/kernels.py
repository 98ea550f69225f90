"""Triton kernels of one layer. Sums and state updates are float32 whatever the tensors' type.

Names: n tokens in a batch, C width, H heads of 64, R the padded LoRA rank, V columns of the head. Every kernel
takes tokens in the order of their rows; ``owners`` is each token's row, and a row is (start, length, slot, fresh).

With EARLY a kernel may start while the one before it still runs (programmatic dependent launch): until ``wait`` it
touches only what no kernel of the same step writes, that is weights, where rows lie, and the state that it alone
advances. ``embed``, the first of a step, never starts early.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from model.fast.tiles import ROOM

HEAD = tl.constexpr(64)
DECAY_SCALE = tl.constexpr(0.6065306597126334)
LAYER_NORM_EPS = tl.constexpr(1e-5)
GROUP_NORM_EPS = tl.constexpr(64e-5)
_USED_SHARE = 0.86


def starts_early(device: torch.device) -> bool:
    """Whether kernels of this device may start while the one before them runs."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def room_on(device: torch.device, bytes_each: int) -> int:
    """Numbers that a program may have in a device's shared memory, with some bytes left for what Triton needs."""
    if device.type != "cuda":
        return ROOM * 2 // bytes_each
    index = torch.cuda.current_device() if device.index is None else device.index
    most: int = triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"]
    return int(_USED_SHARE * most) // bytes_each


@triton.jit
def wait(EARLY: tl.constexpr):
    """Wait for the results of the kernel before this one; from then on the next may start."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def _fetch(weight, columns, begin, STRIDE: tl.constexpr, DEPTH: tl.constexpr):
    """Ask for a block of a matrix to come into the L2 cache: DEPTH columns from ``begin`` on, in lines of 64."""
    lines: tl.constexpr = DEPTH // 64
    at_once: tl.constexpr = lines & -lines  # a power of two
    for k in tl.static_range(0, lines, at_once):
        line = (k + tl.arange(0, at_once)) * 64
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l",
            [weight + columns[:, None] * STRIDE + begin + line[None, :]], dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def embed(tokens, owners, slots, drawn, table, x, C: tl.constexpr, BLOCK: tl.constexpr):
    """x[n, C] = table[token]; a negative token -1-o is the id that the row has drawn last, plus o."""
    i = tl.program_id(0)
    token = tl.load(tokens + i)
    last = tl.load(drawn + tl.load(slots + tl.load(owners + i)))
    token = tl.where(token < 0, last - 1 - token, token).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < C
    tl.store(x + i * C + c, tl.load(table + token * C + c, mask=inside, other=0.0).to(tl.float32), mask=inside)


@triton.jit
def _residual(x, parts, i, n, c, inside, C: tl.constexpr, PARTS: tl.constexpr):
    """The residual stream at token i, with the partial sums of the last product added."""
    total = tl.load(x + i * C + c, mask=inside, other=0.0)
    for part in tl.static_range(PARTS):
        total += tl.load(parts + (part * n + i) * C + c, mask=inside, other=0.0).to(tl.float32)
    return total


@triton.jit
def _layer_norm(x, inside, gain, bias, C: tl.constexpr):
    mean = tl.sum(x, axis=0) / C
    centred = tl.where(inside, x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / C
    return centred * tl.rsqrt(variance + LAYER_NORM_EPS) * gain + bias


@triton.jit(do_not_specialize=["n"])
def mix(
    x, parts, x_out, mixed, gain, bias, mu, shift, owners, starts, lengths, slots, fresh, n,
    C: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, MIXES: tl.constexpr, SINGLE: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Add what the last product gave, normalise, mix with the row's previous token, remember the row's last.

    The program of a row's first token also stores the row's last into the shift pool: it alone reads the pool.
    SINGLE: every row has one token.
    """
    i = tl.program_id(0)
    owner = tl.load(owners + i)
    first = tl.load(starts + owner)
    slot = tl.load(slots + owner).to(tl.int64)
    is_first = i == first
    c = tl.arange(0, BLOCK)
    inside = c < C
    known = inside & is_first & (tl.load(fresh + owner) == 0)
    seen = tl.load(shift + slot * C + c, mask=known, other=0.0)
    weight, offset = tl.load(gain + c, mask=inside, other=0.0), tl.load(bias + c, mask=inside, other=0.0)
    wait(EARLY)
    own = _residual(x, parts, i, n, c, inside, C, PARTS)
    tl.store(x_out + i * C + c, own, mask=inside)
    y = _layer_norm(own, inside, weight, offset, C)
    if SINGLE:
        z = y.to(shift.dtype.element_ty)
    else:
        neighbour = tl.where(is_first, first + tl.load(lengths + owner) - 1, i - 1)
        other = _residual(x, parts, neighbour, n, c, inside, C, PARTS)
        z = _layer_norm(other, inside, weight, offset, C).to(shift.dtype.element_ty)  # as the pool would keep it
    tl.debug_barrier()
    tl.store(shift + slot * C + c, z, mask=inside & is_first)
    delta = tl.where(is_first, seen, z).to(tl.float32) - y
    for m in tl.static_range(MIXES):
        share = tl.load(mu + m * C + c, mask=inside, other=0.0)
        tl.store(mixed + (m * n + i) * C + c, (y + delta * share).to(mixed.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["n"])
def last_norm(
    x, parts, hidden, gain, bias, starts, lengths, n,
    C: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """hidden[rows, C]: the final layer norm at the last token of each row."""
    row = tl.program_id(0)
    i = tl.maximum(tl.load(starts + row) + tl.load(lengths + row) - 1, 0)
    c = tl.arange(0, BLOCK)
    inside = c < C
    weight, offset = tl.load(gain + c, mask=inside, other=0.0), tl.load(bias + c, mask=inside, other=0.0)
    wait(EARLY)
    y = _layer_norm(_residual(x, parts, i, n, c, inside, C, PARTS), inside, weight, offset, C)
    tl.store(hidden + row * C + c, y.to(hidden.dtype.element_ty), mask=inside)


@triton.jit
def _accumulate(
    x, weight, rows, columns, begin, STRIDE: tl.constexpr, DEPTH: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """float32 [BM, BN]: rows of x times rows of ``weight``, over DEPTH columns from ``begin`` on."""
    k = begin + tl.arange(0, BK)
    x_at = x + rows[:, None] * STRIDE + k[None, :]
    weight_at = weight + columns[None, :] * STRIDE + k[:, None]
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for _ in range(0, DEPTH, BK):
        total = tl.dot(tl.load(x_at), tl.load(weight_at), total, input_precision="ieee")
        x_at += BK
        weight_at += BK
    return total


@triton.jit(do_not_specialize=["n"])
def project(
    mixed, weight, out, n, C: tl.constexpr, R: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """out = [r, k, v as [3, n, C]; LoRA inputs v, w, a, g as [4, n, R]] of the mixes r, k, v, w, a, g.

    ``weight`` is [3C + 4R, C]; a block of columns lies in one of the seven.
    """
    column = tl.program_id(0) * BN
    if EARLY:
        _fetch(weight, column + tl.arange(0, BN), 0, C, C)
    wait(EARLY)
    wide = column < 3 * C
    lora = (column - 3 * C) // R
    source = tl.where(wide, column // C, 2 + lora)
    begin = tl.where(wide, column % C, (column - 3 * C) % R)
    width = tl.multiple_of(tl.where(wide, C, R), 16)
    base = tl.multiple_of(tl.where(wide, source * n * C, 3 * n * C + lora * n * R), 16)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    total = _accumulate(
        mixed + source * n * C, weight, tl.minimum(rows, n - 1), column + tl.arange(0, BN), 0, C, C, BM, BN, BK
    )
    at = base + rows[:, None] * width + tl.multiple_of(begin, 16) + tl.arange(0, BN)[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=rows[:, None] < n)


@triton.jit(do_not_specialize=["n"])
def gate(
    hidden, weight, bias, out, n, C: tl.constexpr, R: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """out[4, n, C]: the LoRA outputs v, w, a, g with their biases; w's input goes through tanh, g's sigmoid."""
    group = tl.program_id(2)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    if EARLY:
        _fetch(weight + group * C * R, columns, 0, R, R)
    offset = tl.load(bias + group * C + columns)
    wait(EARLY)
    k = tl.arange(0, BK)
    x_at = hidden + group * n * R + tl.minimum(rows, n - 1)[:, None] * R + k[None, :]
    weight_at = weight + group * C * R + columns[None, :] * R + k[:, None]
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for _ in range(0, R, BK):
        h = tl.load(x_at)
        s = h.to(tl.float32)
        s = tl.sigmoid(tl.where(group == 1, 2 * s, s))
        s = tl.where(group == 1, 2 * s - 1, s)  # tanh x = 2 sigmoid(2x) - 1
        h = tl.where((group == 1) | (group == 3), s.to(h.dtype), h)
        total = tl.dot(h, tl.load(weight_at), total, input_precision="ieee")
        x_at += BK
        weight_at += BK
    total += offset[None, :]
    at = group * n * C + rows[:, None] * C + columns[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=rows[:, None] < n)


@triton.jit(do_not_specialize=["n"])
def product(
    x, weight, out, n, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, RELU_SQUARE: tl.constexpr, SPLITS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """out[SPLITS, n, COLUMNS]: parts of x[n, DEPTH] @ weight[COLUMNS, DEPTH]^T, along the depth."""
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    part = tl.program_id(2)
    size: tl.constexpr = DEPTH // SPLITS
    if EARLY:
        _fetch(weight, columns, part * size, DEPTH, size)
    wait(EARLY)
    total = _accumulate(x, weight, tl.minimum(rows, n - 1), columns, part * size, DEPTH, size, BM, BN, BK)
    if RELU_SQUARE:
        total = tl.maximum(total, 0.0)
        total = total * total
    at = (part * n + rows)[:, None] * COLUMNS + columns[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=rows[:, None] < n)


@triton.jit
def _wide(pointer, at, inside):
    return tl.load(pointer + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _wkv_inputs(k, v, first, lora_v, lora_w, lora_a, k_k, k_a, AXIS: tl.constexpr, LAYER_0: tl.constexpr):
    """What the recurrence takes, heads along AXIS: forget = 1 - decay, k, v, removal, replacement."""
    forget = 1.0 - tl.exp(-DECAY_SCALE * tl.sigmoid(lora_w))
    rate = tl.sigmoid(lora_a)
    if not LAYER_0:
        v += (first - v) * tl.sigmoid(lora_v)
    removal = k * k_k
    norm = tl.sqrt(tl.sum(removal * removal, axis=AXIS, keep_dims=True))
    removal = removal / tl.maximum(norm, 1e-12)
    return forget, k * (1.0 + (rate - 1.0) * k_a), v, removal, removal * rate


@triton.jit
def _wkv_output(o, r, k, v, g, r_k, gain, bias, AXIS: tl.constexpr):
    """Group norm of a head, bonus, gate."""
    centred = o - tl.sum(o, axis=AXIS, keep_dims=True) / HEAD
    variance = tl.sum(centred * centred, axis=AXIS, keep_dims=True) / HEAD
    bonus = tl.sum(r * k * r_k, axis=AXIS, keep_dims=True)
    return (centred * tl.rsqrt(variance + GROUP_NORM_EPS) * gain + bias + bonus * v) * g


@triton.jit
def _advance(s, r, forget, k, v, removal, replacement):
    """One token of S = S (diag(w) - kk^T (kk a)) + v^T k, o = S r; s is [value, key]."""
    removed = tl.sum(s * removal[None, :], axis=1)
    s = s - s * forget[None, :] - removed[:, None] * replacement[None, :] + v[:, None] * k[None, :]
    return s, tl.sum(s * r[None, :], axis=1)


@triton.jit(do_not_specialize=["n"])
def wkv_step(
    rkv, first, gates, out, state, k_k, k_a, r_k, gain, bias, slots, fresh, n,
    C: tl.constexpr, LAYER_0: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One token of every row, a head each program: all between the projections and the output product.

    Args:
        rkv: [3, n, C] of this layer; ``first`` of layer 0, whose third part is the first value.
        gates: [4, n, C], v, w, a, g before their sigmoids.
        out: [n, C].
        state: [slots, H, 64 (value), 64 (key)], updated in place.
    """
    row = tl.program_id(0)
    head = tl.program_id(1)
    j = tl.arange(0, HEAD)
    c = head * HEAD + j
    at = row * C + c
    plane = n * C
    every = j >= 0
    slot = tl.load(slots + row).to(tl.int64)
    known = tl.load(fresh + row) == 0
    cells = state + slot * (C * HEAD) + head * (HEAD * HEAD) + j[:, None] * HEAD + j[None, :]
    s = tl.load(cells, mask=known & (j[:, None] >= 0) & (j[None, :] >= 0), other=0.0).to(tl.float32)
    wait(EARLY)
    r = _wide(rkv, at, every)
    forget, k, v, removal, replacement = _wkv_inputs(
        _wide(rkv, plane + at, every), _wide(rkv, 2 * plane + at, every), _wide(first, 2 * plane + at, every),
        _wide(gates, at, every), _wide(gates, plane + at, every), _wide(gates, 2 * plane + at, every),
        _wide(k_k, c, every), _wide(k_a, c, every), 0, LAYER_0,
    )  # fmt: skip
    s, o = _advance(s, r, forget, k, v, removal, replacement)
    tl.store(cells, s.to(state.dtype.element_ty))
    g = _wide(gates, 3 * plane + at, every)
    result = _wkv_output(o, r, k, v, g, _wide(r_k, c, every), _wide(gain, c, every), _wide(bias, c, every), 0)
    tl.store(out + at, result.to(out.dtype.element_ty))


@triton.jit(do_not_specialize=["n"])
def wkv_prepare(
    rkv, first, gates, prepared, k_k, k_a, n,
    C: tl.constexpr, HEADS: tl.constexpr, LAYER_0: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """prepared[5, n, C]: forget, k, v, removal, replacement of a token each program. HEADS: C / 64 rounded up."""
    i = tl.program_id(0)
    c = tl.arange(0, HEADS)[:, None] * HEAD + tl.arange(0, HEAD)[None, :]
    inside = c < C
    wait(EARLY)
    at = i * C + c
    plane = n * C
    forget, k, v, removal, replacement = _wkv_inputs(
        _wide(rkv, plane + at, inside), _wide(rkv, 2 * plane + at, inside), _wide(first, 2 * plane + at, inside),
        _wide(gates, at, inside), _wide(gates, plane + at, inside), _wide(gates, 2 * plane + at, inside),
        _wide(k_k, c, inside), _wide(k_a, c, inside), 1, LAYER_0,
    )  # fmt: skip
    kind = prepared.dtype.element_ty
    tl.store(prepared + at, forget.to(kind), mask=inside)
    tl.store(prepared + plane + at, k.to(kind), mask=inside)
    tl.store(prepared + 2 * plane + at, v.to(kind), mask=inside)
    tl.store(prepared + 3 * plane + at, removal.to(kind), mask=inside)
    tl.store(prepared + 4 * plane + at, replacement.to(kind), mask=inside)


@triton.jit(do_not_specialize=["n"])
def wkv_sequence(
    rkv, prepared, out, state, starts, lengths, slots, fresh, n,
    C: tl.constexpr, VALUES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """All tokens of every row, one after the other; a program keeps VALUES rows of a head's state.

    ``out`` is [n, C], before the group norm. A token's vectors are loaded while the one before is worked on.
    """
    row = tl.program_id(0)
    length = tl.load(lengths + row)
    if length == 0:
        wait(EARLY)
        return
    head = tl.program_id(1)
    j = head * HEAD + tl.arange(0, HEAD)
    i = head * HEAD + tl.program_id(2) * VALUES + tl.arange(0, VALUES)
    begin = tl.load(starts + row)
    end = begin + length
    slot = tl.load(slots + row).to(tl.int64)
    known = tl.load(fresh + row) == 0
    key = tl.arange(0, HEAD)
    cells = state + slot * (C * HEAD) + i[:, None] * HEAD + key[None, :]
    s = tl.load(cells, mask=known & (i[:, None] >= 0) & (key[None, :] >= 0), other=0.0).to(tl.float32)
    plane = n * C
    at = begin * C
    wait(EARLY)
    r, forget = tl.load(rkv + at + j), tl.load(prepared + at + j)
    k, v = tl.load(prepared + plane + at + j), tl.load(prepared + 2 * plane + at + i)
    removal, replacement = tl.load(prepared + 3 * plane + at + j), tl.load(prepared + 4 * plane + at + j)
    t = begin
    while t < end:
        ahead = tl.minimum(t + 1, end - 1) * C
        next_r, next_forget = tl.load(rkv + ahead + j), tl.load(prepared + ahead + j)
        next_k, next_v = tl.load(prepared + plane + ahead + j), tl.load(prepared + 2 * plane + ahead + i)
        next_removal = tl.load(prepared + 3 * plane + ahead + j)
        next_replacement = tl.load(prepared + 4 * plane + ahead + j)
        s, o = _advance(
            s, r.to(tl.float32), forget.to(tl.float32), k.to(tl.float32), v.to(tl.float32),
            removal.to(tl.float32), replacement.to(tl.float32),
        )  # fmt: skip
        tl.store(out + t * C + i, o.to(out.dtype.element_ty))
        r, forget, k, v, removal, replacement = (
            next_r, next_forget, next_k, next_v, next_removal, next_replacement,
        )  # fmt: skip
        t += 1
    tl.store(cells, s.to(state.dtype.element_ty))


@triton.jit(do_not_specialize=["n"])
def wkv_finish(
    rkv, prepared, gates, out, r_k, gain, bias, n, C: tl.constexpr, HEADS: tl.constexpr, EARLY: tl.constexpr
):
    """Group norm, bonus and gate of ``wkv_sequence``'s output, in place, a token each program."""
    i = tl.program_id(0)
    c = tl.arange(0, HEADS)[:, None] * HEAD + tl.arange(0, HEAD)[None, :]
    inside = c < C
    wait(EARLY)
    at = i * C + c
    plane = n * C
    result = _wkv_output(
        _wide(out, at, inside), _wide(rkv, at, inside), _wide(prepared, plane + at, inside),
        _wide(prepared, 2 * plane + at, inside), _wide(gates, 3 * plane + at, inside),
        _wide(r_k, c, inside), _wide(gain, c, inside), _wide(bias, c, inside), 1,
    )  # fmt: skip
    tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)
