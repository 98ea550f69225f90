"""ECAPA-TDNN (Desplanques et al. 2020) without its pooling: mel frames to one latent per frame.

Frames of all times are averaged inside, so rows of a batch must have equal length. Tensors are float32.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 8
BOTTLENECK = 128
DILATIONS = (2, 3, 4)


class TimeDelay(nn.Module):
    """Convolution, ReLU, batch norm, in that order; [B, C, T] to [B, C', T]."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.bn = nn.BatchNorm1d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.bn(F.relu(self.conv(x))))


class Res2(nn.Module):
    """Res2Net (Gao et al. 2019) of [B, C, T]: every channel group also sees the result of the one before it."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width, groups = channels // SCALE, SCALE - 1
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(groups)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(groups))

    def forward(self, x: Tensor) -> Tensor:
        *groups, untouched = x.chunk(SCALE, dim=1)
        outputs: list[Tensor] = []
        for group, conv, bn in zip(groups, self.convs, self.bns, strict=True):
            seen = group + outputs[-1] if outputs else group
            outputs.append(bn(F.relu(conv(seen))))
        return torch.cat([*outputs, untouched], dim=1)


class SqueezeExcitation(nn.Module):
    """Scale channels of [B, C, T] by a gate computed from their mean over time (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, BOTTLENECK)
        self.linear2 = nn.Linear(BOTTLENECK, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.linear2(F.relu(self.linear1(x.mean(dim=2)))).sigmoid()
        return cast(Tensor, x * gate.unsqueeze(2))


class Res2Block(nn.Module):
    """[B, C, T] to [B, C, T]."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.se_res2block = nn.Sequential(
            TimeDelay(channels, channels, 1),
            Res2(channels, dilation),
            TimeDelay(channels, channels, 1),
            SqueezeExcitation(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.se_res2block(x))


class EcapaTdnn(nn.Module):
    """Mel frames [B, T, num_mels] to latents [B, 3 * channels, T]."""

    def __init__(self, num_mels: int, channels: int) -> None:
        super().__init__()
        self.layer1 = TimeDelay(num_mels, channels, 5)
        self.layer2, self.layer3, self.layer4 = (Res2Block(channels, dilation) for dilation in DILATIONS)
        self.conv = nn.Conv1d(3 * channels, 3 * channels, 1)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.layer1(mel.transpose(1, 2))
        outputs = []
        for layer in (self.layer2, self.layer3, self.layer4):
            x = layer(x)
            outputs.append(x)
        return F.relu(self.conv(torch.cat(outputs, dim=1)))
