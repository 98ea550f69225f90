"""The ConvNeXt backbone of Vocos (Siuzdak 2023), on either side of BiCodec's quantiser.

Time is T token frames. Tensors are float32, [B, C, T] where convolutions run and [B, T, C] elsewhere; each module
says which.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.config import VocosConfig
from codec.layers import Mask, RaggedConv1d

NORM_EPSILON = 1e-6
KERNEL_SIZE = 7
RESAMPLING_LAYERS = 2


class AdaptiveLayerNorm(nn.Module):
    """Layer norm of [B, T, dim] whose scale and shift are linear in a condition [B, condition_dim]."""

    def __init__(self, dim: int, condition_dim: int) -> None:
        super().__init__()
        self.scale = nn.Linear(condition_dim, dim)
        self.shift = nn.Linear(condition_dim, dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        normed = F.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)
        scale, shift = self.scale(condition).unsqueeze(1), self.shift(condition).unsqueeze(1)
        return torch.addcmul(shift, normed, scale)


class PlainLayerNorm(nn.LayerNorm):
    """Layer norm of [B, T, dim] with the signature of ``AdaptiveLayerNorm``; there is no condition to use."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=NORM_EPSILON)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return super().forward(x)


def make_norm(dim: int, condition_dim: int | None) -> nn.Module:
    """The layer norm of width ``dim`` for a condition, or for none."""
    return PlainLayerNorm(dim) if condition_dim is None else AdaptiveLayerNorm(dim, condition_dim)


class ConvNeXtBlock(nn.Module):
    """[B, dim, T] to [B, dim, T], given a condition [B, condition_dim] where there is one."""

    def __init__(self, dim: int, intermediate_dim: int, condition_dim: int | None) -> None:
        super().__init__()
        self.dwconv = RaggedConv1d(dim, dim, KERNEL_SIZE, groups=dim)
        self.norm = make_norm(dim, condition_dim)
        self.pwconv1 = nn.Linear(dim, intermediate_dim)
        self.pwconv2 = nn.Linear(intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, condition: Tensor | None, mask: Mask) -> Tensor:
        y = self.norm(self.dwconv(x, mask).transpose(1, 2), condition)
        y = self.pwconv2(F.gelu(self.pwconv1(y)))
        return torch.add(x, (self.gamma * y).transpose(1, 2))


class VocosBackbone(nn.Module):
    """[B, in_channels, T] to [B, T, dim], given a condition [B, condition_dim] where there is one."""

    def __init__(
        self, in_channels: int, dim: int, intermediate_dim: int, layers: int, condition_dim: int | None = None
    ) -> None:
        super().__init__()
        self.embed = RaggedConv1d(in_channels, dim, KERNEL_SIZE)
        self.norm = make_norm(dim, condition_dim)
        self.convnext = nn.ModuleList(ConvNeXtBlock(dim, intermediate_dim, condition_dim) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(dim, eps=NORM_EPSILON)

    def forward(self, x: Tensor, condition: Tensor | None = None, mask: Mask = None) -> Tensor:
        x = self.norm(self.embed(x, mask).transpose(1, 2), condition).transpose(1, 2)
        for block in self.convnext:
            x = block(x, condition, mask)
        return cast(Tensor, self.final_layer_norm(x.transpose(1, 2)))


class ResamplingStage(nn.ModuleList):
    """[B, T, dim] to [B, T, dim] at ratio 1, the published one.

    Entry 0 is upstream's sampling block, which has no parameters at ratio 1 but still adds both of its skip
    connections to its input: it multiplies by three.
    """

    def __init__(self, dim: int, intermediate_dim: int) -> None:
        super().__init__([nn.Identity(), VocosBackbone(dim, dim, intermediate_dim, RESAMPLING_LAYERS)])

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        return cast(Tensor, self[1](3 * x.transpose(1, 2), mask=mask))


def make_stages(config: VocosConfig) -> nn.ModuleList:
    """A resampling stage for each of the ratios."""
    return nn.ModuleList(
        ResamplingStage(config.vocos_dim, config.vocos_intermediate_dim) for _ in config.sample_ratios
    )


class FrameEncoder(nn.Module):
    """Features [B, T, input_channels] to what the quantiser takes, [B, out_channels, T]."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.encoder = VocosBackbone(
            config.input_channels, config.vocos_dim, config.vocos_intermediate_dim, config.vocos_num_layers
        )
        self.downsample = make_stages(config)
        self.project = nn.Linear(config.vocos_dim, config.out_channels)

    def forward(self, features: Tensor, mask: Mask = None) -> Tensor:
        x = self.encoder(features.transpose(1, 2), mask=mask)
        for stage in self.downsample:
            x = stage(x, mask)
        return cast(Tensor, self.project(x).transpose(1, 2))


class FrameDecoder(nn.Module):
    """[B, input_channels, T] to [B, out_channels, T]: the prenet (conditioned on a voice) and the postnet."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.linear_pre = nn.Linear(config.input_channels, config.vocos_dim)
        self.downsample = make_stages(config)
        self.vocos_backbone = VocosBackbone(
            config.vocos_dim,
            config.vocos_dim,
            config.vocos_intermediate_dim,
            config.vocos_num_layers,
            config.condition_dim,
        )
        self.linear = nn.Linear(config.vocos_dim, config.out_channels)

    def forward(self, x: Tensor, condition: Tensor | None = None, mask: Mask = None) -> Tensor:
        x = self.linear_pre(x.transpose(1, 2))
        for stage in self.downsample:
            x = stage(x, mask)
        x = self.vocos_backbone(x.transpose(1, 2), condition, mask)
        return cast(Tensor, self.linear(x).transpose(1, 2))
