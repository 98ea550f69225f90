"""The Perceiver resampler (Alayrac et al. 2022): a fixed number of latents that read a sequence.

Tensors are float32.
"""

from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTH = 2
HEADS = 8
HEAD_DIM = 64
FEED_FORWARD_FACTOR = 4


class LatentAttention(nn.Module):
    """Latents [B, N, dim] attend to themselves followed by a context [B, T, dim]; no bias, no norm before."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_DIM
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        key, value = self.to_kv(torch.cat([latents, context], dim=1)).chunk(2, dim=2)
        heads = [x.unflatten(2, (HEADS, HEAD_DIM)).transpose(1, 2) for x in (self.to_q(latents), key, value)]
        attended = F.scaled_dot_product_attention(*heads)
        return cast(Tensor, self.to_out(attended.transpose(1, 2).flatten(2)))


class GatedGelu(nn.Module):
    """GEGLU (Shazeer 2020): the second half of the channels gates the first; [..., 2 * C] to [..., C]."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return F.gelu(gate) * value


def make_feed_forward(dim: int) -> nn.Sequential:
    """[..., dim] to [..., dim]."""
    inner = int(dim * FEED_FORWARD_FACTOR * 2 / 3)
    return nn.Sequential(nn.Linear(dim, 2 * inner), GatedGelu(), nn.Linear(inner, dim))


class RmsNorm(nn.Module):
    """Scale [..., dim] to root mean square one, then by gamma."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * sqrt(x.shape[-1]) * self.gamma


class PerceiverResampler(nn.Module):
    """Context [B, T, context_dim] to latents [B, count, dim]."""

    def __init__(self, context_dim: int, dim: int, count: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(count, dim))
        self.proj_context = nn.Linear(context_dim, dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([LatentAttention(dim), make_feed_forward(dim)]) for _ in range(DEPTH)
        )
        self.norm = RmsNorm(dim)

    def forward(self, context: Tensor) -> Tensor:
        context = self.proj_context(context)
        latents = self.latents.expand(len(context), -1, -1)
        for layer in self.layers:
            attend, feed_forward = cast(nn.ModuleList, layer)
            latents = latents + attend(latents, context)
            latents = latents + feed_forward(latents)
        return cast(Tensor, self.norm(latents))
