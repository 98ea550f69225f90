"""Compares the fast forward with the reference, before anyone relies on it.

Layer by layer, each fed what the reference gives it: a deep network may turn the last bit of its first layer into
another token, so that comparing its ends would say nothing.
"""

import torch
from torch import Tensor

from model.fast.batch import Batch, Shape
from model.fast.forward import FastRWKV7
from model.ragged import Ragged
from model.rwkv7 import RWKV7

TOLERANCE = 0.03
"""Root mean square of the difference over that of the reference; float16 is at 0.001 to 0.005."""
_PROMPT = 40
_STEPS = 4


class SelfTestError(ValueError):
    """The fast forward is wrong on this machine or for this model; the message says where and by how much."""


def single_row(tokens: Tensor, fresh: bool) -> Batch:
    """A batch of one row, int32 [T] tokens, in slot 0."""
    n = len(tokens)
    shape = Shape(n, 1, single=n == 1)
    batch = Batch.of(torch.zeros(shape.size, dtype=torch.int32, device=tokens.device), shape)
    batch.tokens.copy_(tokens)
    batch.lengths.fill_(n)
    batch.fresh.fill_(int(fresh))
    return batch


@torch.inference_mode()
def check(fast: FastRWKV7, reference: RWKV7) -> None:
    """Feed both a prompt at once and then a few single tokens.

    Raises:
        SelfTestError: A layer or the head is out of tolerance, or not finite.
    """
    numbers = torch.arange(_PROMPT + _STEPS, device=fast.device)
    tokens = numbers * 7919 % fast.sizes.vocabulary
    ours, theirs = fast.state(1), reference.state(1)
    for begin, end in [(0, _PROMPT), *((i, i + 1) for i in range(_PROMPT, len(tokens)))]:
        batch = single_row(tokens[begin:end].int(), fresh=begin == 0)
        rows = Ragged.of([end - begin], [0], fast.device)
        x, first_theirs = reference.embed(tokens[begin:end]), torch.empty(0)
        count, first = end - begin, None
        _compare("embedding", fast.embed(batch, ours), x[:count])
        for layer, block in enumerate(reference.blocks):
            before = x[:count].clone()
            x, first_theirs = block.forward(x, first_theirs, rows, theirs)
            after, parts, first = fast.layer(layer, before, None, first, batch, ours)
            _compare(f"layer {layer}", after + parts.sum(0) - before, x[:count] - before)
        last = x[count - 1 : count]
        buffer = torch.empty(reference.padded(1), fast.head_rows, device=fast.device)
        logits = fast.logits(x[:count].contiguous(), None, batch)[:, : fast.head_rows]
        _compare("head", logits, reference.logits(last, buffer))


def _compare(where: str, found: Tensor, expected: Tensor) -> None:
    error = float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
    if not error <= TOLERANCE:
        raise SelfTestError(
            f"engine: cuda differs from the reference by {error:.3g} of its size at the {where}; accepted: "
            f"{TOLERANCE}; the setting engine = reference does without it"
        )
