"""A small wav2vec 2.0 of random weights, for tests that need its structure and not its knowledge."""

from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

LAYERS = 18
"""One more than the features need, as published models have more."""


def random_wav2vec2(width: int) -> "Wav2Vec2Model":
    """A model of the published structure; skips the test where there is no transformers.

    Args:
        width: Of the hidden states, and so of the features; a multiple of 4.

    Returns:
        The model in float32, ready for inference; equal widths, equal weights.
    """
    transformers: Any = pytest.importorskip("transformers", reason="needs the extra `clone`")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=[8] * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    model: Wav2Vec2Model = transformers.Wav2Vec2Model(config).eval().requires_grad_(False)
    return model
