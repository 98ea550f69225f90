"""Compares the compiled forward with the reference, before anyone relies on what some compiler made of it."""

from dataclasses import replace

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.native.forward import NativeRWKV7
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from native.library import UnavailableError

TOLERANCE = 1e-3
"""Greatest difference over the greatest number of the reference; rounding is at 0.00001."""
_LAYERS, _VOCABULARY, _HEAD_ROWS = 2, 256, 100
"""All kinds of layers, some of the embeddings, and a head that ends within a panel."""
_BATCHES = ((40, 3), (1, 1), (1, 7))
"""Tokens of two rows, step by step."""


@torch.inference_mode()
def check(checkpoint: Checkpoint) -> None:
    """Feed the first layers' weights, in both, two rows of tokens.

    Raises:
        UnavailableError: They differ, or there is no compiled forward for this machine or these weights.
    """
    part, rows = _beginning(checkpoint), min(_HEAD_ROWS, checkpoint.sizes.head_rows)
    ours, theirs = NativeRWKV7(part, rows), RWKV7(part, head_rows=rows)
    our_state, their_state = ours.state(2), theirs.state(2)
    for step, lengths in enumerate(_BATCHES):
        tokens = (torch.arange(sum(lengths)) + step) * 7919 % part.sizes.vocabulary
        batch = Ragged.of(lengths, (1, 0))
        found = ours.logits(ours.forward(tokens, batch, our_state), torch.empty(2, rows))
        residual = theirs.forward(tokens, batch, their_state)
        _compare(found, theirs.logits(residual, torch.empty(theirs.padded(2), rows)))
    for mine, right in zip(our_state.tensors(), their_state.tensors(), strict=True):
        _compare(mine, right)


def _beginning(checkpoint: Checkpoint) -> Checkpoint:
    """The first layers and embeddings alone."""
    layers = min(_LAYERS, checkpoint.sizes.layers)
    blocks = tuple(f"blocks.{i}." for i in range(layers))
    tensors = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("blocks.") or n.startswith(blocks)}
    embedding = tensors["emb.weight"][:_VOCABULARY]
    sizes = replace(checkpoint.sizes, layers=layers, vocabulary=len(embedding))
    return Checkpoint({**tensors, "emb.weight": embedding}, sizes)


def _compare(found: Tensor, right: Tensor) -> None:
    if not right.isfinite().all():  # such weights are for the warm-up to tell of
        return
    error = float((found - right).abs().max() / right.abs().max())
    if not error <= TOLERANCE:
        raise UnavailableError(f"it is {error:.2g} of the greatest number off the reference on this machine")
