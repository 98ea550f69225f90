"""A small random model for the fast engine, on a GPU or in Triton's interpreter."""

import os
from collections.abc import Sequence
from importlib.util import find_spec

import pytest
import torch

from make_random_model import random_checkpoint
from model.checkpoint import Checkpoint, Sizes
from model.fast.batch import ROW_FIELDS, Batch, Shape
from sampler.layout import TokenLayout

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
if not CUDA:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is defined

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="needs triton, which CUDA builds of torch bring"
)
needs_cuda = pytest.mark.skipif(not CUDA, reason="needs a CUDA device")

LAYOUT = TokenLayout(semantic_size=100, global_size=16, globals_per_voice=3, text_size=40, control_size=8)


def small_checkpoint(layers: int = 2, width: int = 128, ffn: int = 192, eos_logit: float = 7.0) -> Checkpoint:
    """Sizes that are no powers of two where they need not be; LoRA ranks differ."""
    ranks = {"w": 24, "a": 16, "v": 8, "g": 40}
    sizes = Sizes(layers, width, width // 64, ffn, LAYOUT.vocabulary_size, LAYOUT.head_size, ranks)
    weights = random_checkpoint(sizes, seed=5, eos_logit=eos_logit)
    flat = {name: t.flatten() if t.ndim == 3 or name.endswith("r_k") else t for name, t in weights.items()}
    return Checkpoint({name: t.half().float() for name, t in flat.items()}, sizes)


def batch_of(shape: Shape, rows: Sequence[tuple[int, Sequence[int], bool]], scratch: int) -> Batch:
    """The batch of rows given as (slot, tokens, fresh); what the shape has more of is padding."""
    batch = Batch.of(torch.zeros(shape.size, dtype=torch.int32), shape)
    batch.slots.fill_(scratch)
    batch.fresh.fill_(1)
    if shape.single:
        batch.owners[:] = batch.starts[:-1] = torch.arange(shape.rows)
        batch.lengths.fill_(1)
    else:
        batch.owners.fill_(shape.rows)
    at = 0
    for i, (slot, tokens, fresh) in enumerate(rows):
        end = at + len(tokens)
        batch.tokens[at:end], batch.owners[at:end] = torch.tensor(tokens), i
        batch.starts[i], batch.lengths[i], batch.slots[i], batch.fresh[i] = at, len(tokens), slot, fresh
        at = end
    batch.starts[-1], batch.lengths[-1] = at, 1
    fields = {name: getattr(batch, name).to(DEVICE) for name in ("tokens", "owners", *ROW_FIELDS)}
    return Batch(shape, **fields)
