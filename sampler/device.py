"""The sampler of ``sampler.sampling`` as one Triton kernel: a program draws for one row; logits stay in place.

The cuts need no sort: the edge is the largest float32 at which either rule holds, and halving finds it exactly,
since the bits of positive floats are ordered as they are. Sums add in another order than the reference's: a draw
differs where a sum lies within rounding of an edge.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from sampler.draws import DRAW_FIELDS

_BITS_OF_ONE = tl.constexpr(0x3F800000)
_ROUNDS = tl.constexpr(10)


@dataclass(frozen=True)
class DrawRows:
    """What the sampler must know of each row, views of one int32 array.

    Attributes:
        allowed: Columns below it may be drawn; 0 for a row that draws nothing.
        top_k: 1 or more; ``allowed`` or more keeps every column.
        phases, steps: The counter of the draw.
        seeds_low, seeds_high: Halves of the seed.
        temperatures, top_ps: float32; a temperature of 0 is greedy.
    """

    allowed: Tensor
    top_k: Tensor
    phases: Tensor
    steps: Tensor
    seeds_low: Tensor
    seeds_high: Tensor
    temperatures: Tensor
    top_ps: Tensor

    @staticmethod
    def of(array: Tensor, rows: int) -> "DrawRows":
        """The views of int32 [DRAW_FIELDS * stride], the stride at least ``rows``."""
        fields = list(array.view(DRAW_FIELDS, -1)[:, :rows])
        return DrawRows(*fields[:6], *(field.view(torch.float32) for field in fields[6:]))


def draw(logits: Tensor, columns: int, parameters: DrawRows, slots: Tensor, ids: Tensor, drawn: Tensor) -> None:
    """Draw one token for each row that may draw one.

    Args:
        logits: float32 [rows, V].
        columns: Those that there are; the last one is EOS, so the others are often a power of two.
        parameters: Of the rows.
        slots: int32 [rows], where each row's id belongs in ``drawn``.
        ids: int32 [rows]; gets the drawn ids, -1 for a row whose logits are not finite or that draws nothing.
        drawn: int32 [slots]; gets the drawn ids by slot, for the next step to feed.
    """
    rows, stride = logits.shape
    p = parameters
    sample[(rows,)](
        logits, ids, drawn, slots, p.allowed, p.top_k, p.phases, p.steps,
        p.seeds_low, p.seeds_high, p.temperatures, p.top_ps,
        V=stride, EOS=columns - 1, BLOCK=triton.next_power_of_2(columns - 1),
        num_warps=16 if columns > 4096 else 4,
    )  # fmt: skip


@triton.jit
def uniform(seed_low, seed_high, phase, step):
    """``sampler.randomness.uniform`` for one counter: Philox-4x32-10, the first word's upper 24 bits."""
    c0, c1 = step.to(tl.uint32, bitcast=True), phase.to(tl.uint32, bitcast=True)
    c2, c3 = c0 * 0, c0 * 0
    k0, k1 = seed_low.to(tl.uint32, bitcast=True), seed_high.to(tl.uint32, bitcast=True)
    m0, m1 = c2 + 0xD2511F53, c2 + 0xCD9E8D57
    for _ in tl.static_range(_ROUNDS):
        high0, high1 = tl.umulhi(c0, m0), tl.umulhi(c2, m1)
        low0, low1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return (c0 >> 8).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def _edge(p, eos_p, top_k, top_p, COLUMNS: tl.constexpr):
    """The largest value at which top_k columns are as probable, or the columns that are reach top_p; 0 if none.

    Either rule holds at ``low`` and not at ``high``; ``below`` and ``above`` columns are as probable. Once a
    single column lies between the two, it is the edge.
    """
    low, high = top_k * 0, top_k * 0 + _BITS_OF_ONE + 1
    below, above = eos_p * 0.0 + COLUMNS, eos_p * 0.0
    while (high - low > 1) & (below - above > 1):
        middle = (low + high) // 2
        least = middle.to(tl.float32, bitcast=True)
        kept = p >= least
        count, mass = tl.split(tl.sum(tl.join(kept.to(tl.float32), tl.where(kept, p, 0.0)), axis=0))
        count += tl.where(eos_p >= least, 1.0, 0.0)
        mass += tl.where(eos_p >= least, eos_p, 0.0)
        holds = (count >= top_k) | (mass >= top_p)
        low, below = tl.where(holds, middle, low), tl.where(holds, count, below)
        high, above = tl.where(holds, high, middle), tl.where(holds, above, count)
    end = high.to(tl.float32, bitcast=True)
    return tl.maximum(tl.max(tl.where(p < end, p, 0.0), axis=0), tl.where(eos_p < end, eos_p, 0.0))


@triton.jit
def sample(
    logits, ids, drawn, slots, alloweds, top_ks, phases, steps, seeds_low, seeds_high, temperatures, top_ps,
    V: tl.constexpr, EOS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    allowed = tl.load(alloweds + row)
    if allowed == 0:
        tl.store(ids + row, -1)
        return
    column = tl.arange(0, BLOCK)
    open_ = column < tl.minimum(allowed, EOS)
    eos_open = allowed > EOS
    at = logits + row.to(tl.int64) * V
    logit = tl.load(at + column, mask=open_, other=float("-inf"))
    eos_logit = tl.load(at + EOS, mask=eos_open, other=float("-inf"))
    most = tl.maximum(tl.max(logit, axis=0), eos_logit)
    weight, eos_weight = tl.exp(logit - most), tl.exp(eos_logit - most)
    total = tl.sum(weight, axis=0) + eos_weight
    p, eos_p = weight / total, eos_weight / total
    temperature = tl.load(temperatures + row)
    greedy = temperature == 0.0
    top_k = tl.where(greedy, 1, tl.minimum(tl.load(top_ks + row), allowed))
    edge = _edge(p, eos_p, top_k, tl.load(top_ps + row), BLOCK + 1)
    tie = open_ & (p == edge)
    ties = tl.sum(tie.to(tl.int32), axis=0)
    spare = top_k - tl.sum((open_ & (p > edge)).to(tl.int32), axis=0) - (eos_open & (eos_p > edge)).to(tl.int32)
    if ties > spare:  # ties that top_k leaves no room for: the lowest ids stay
        tie = tie & (tl.cumsum(tie.to(tl.int32), axis=0) <= spare)
    kept = ((open_ & (p > edge)) | tie) & (p > 0)
    eos_kept = eos_open & ((eos_p > edge) | ((eos_p == edge) & (ties < spare))) & (eos_p > 0)
    sharp, eos_sharp = weight, eos_weight
    if temperature != 1.0:
        sharp, eos_sharp = tl.exp((logit - most) / temperature), tl.exp((eos_logit - most) / temperature)
    mass = tl.where(kept, tl.where(greedy, 1.0, sharp), 0.0)
    eos_mass = tl.where(eos_kept, tl.where(greedy, 1.0, eos_sharp), 0.0)
    cumulative = tl.cumsum(mass, axis=0)
    target = uniform(
        tl.load(seeds_low + row), tl.load(seeds_high + row), tl.load(phases + row), tl.load(steps + row)
    ) * (tl.sum(mass, axis=0) + eos_mass)
    # A parallel sum need not grow steadily, and may end below its own total: the id must be a survivor anyway.
    first = tl.min(tl.where(kept & (cumulative > target), column, BLOCK), axis=0)
    last = tl.where(eos_kept, EOS, tl.max(tl.where(kept, column, 0), axis=0))
    token = tl.where(first < BLOCK, first, last)
    token = tl.where((total > 0.0) & (total < float("inf")), token, -1)
    tl.store(ids + row, token)
    tl.store(drawn + tl.load(slots + row), tl.maximum(token, 0))
