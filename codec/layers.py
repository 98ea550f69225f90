"""Convolutions for rows of unequal length, and the periodic activation.

A row decoded alone sees exact zeros beyond its end at every convolution. In a right-padded batch the padding
holds biases and codebook rows instead, which leak backwards into the row. Zeroing the padding of the *input
of every convolution that mixes time* makes a batch equal to its rows decoded alone; all else is pointwise in
time.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

Part = TypeVar("Part", bound=nn.Module)


@dataclass(frozen=True)
class Tail:
    """A mask of rows that all have the same padding.

    It is zeroed in place, which costs next to nothing: for inputs that nobody else reads, as the wave generator's.

    Attributes:
        inside: Tokens that count.
        total: Tokens with the padding.
    """

    inside: int
    total: int


Mask = Tensor | Tail | None
"""float32 [B, 1, T] at token rate, one inside a row and zero in its padding; a ``Tail``; or None, no padding."""

SNAKE_EPSILON = 1e-9


def loaded(part: Part | None) -> Part:
    """A part that only encoding needs.

    Raises:
        RuntimeError: The codec was loaded without it.
    """
    if part is None:
        raise RuntimeError("this codec was loaded without its encoder; load it with encoder=True")
    return part


def length_mask(lengths: list[int], device: torch.device) -> Tensor | None:
    """Mask for rows of these lengths (tokens), or None when they are all equal."""
    if min(lengths) == max(lengths):
        return None
    time = torch.arange(max(lengths), device=device)
    inside = time < torch.tensor(lengths, device=device).unsqueeze(1)
    return inside.unsqueeze(1).to(torch.float32)


def zero_padding(x: Tensor, mask: Mask) -> Tensor:
    """Zero the padding of ``x``, float32 [B, C, T * rate], at any rate."""
    if mask is None:
        return x
    if isinstance(mask, Tail):
        x[..., x.shape[2] // mask.total * mask.inside :] = 0
        return x
    by_token = x.reshape(*x.shape[:2], mask.shape[2], -1)
    return (by_token * mask.unsqueeze(3)).flatten(2)


class RaggedConv1d(nn.Conv1d):
    """Conv1d that keeps the length of its input float32 [B, C, T] and treats padding as zeros."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = dilation * (kernel_size - 1) // 2
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups)

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        return super().forward(zero_padding(x, mask))


class RaggedConvTranspose1d(nn.ConvTranspose1d):
    """ConvTranspose1d from float32 [B, C, T] to exactly [B, C', T * rate] that treats padding as zeros."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int) -> None:
        padding = (kernel_size - rate) // 2
        super().__init__(in_channels, out_channels, kernel_size, stride=rate, padding=padding)

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:  # type: ignore[override]
        return super().forward(zero_padding(x, mask))


class Snake(nn.Module):
    """``x + sin²(alpha x) / alpha``, the activation of Ziyin et al. 2020, per channel of float32 [B, C, T]."""

    inverse: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))
        self.register_buffer("inverse", torch.ones(1, channels, 1), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.prepare())  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def prepare(self) -> None:
        """Compute what depends on the weights alone; runs after every load."""
        self.inverse = (self.alpha + SNAKE_EPSILON).reciprocal()

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:  # noqa: ARG002 (pointwise in time)
        wave = (self.alpha * x).sin_().square_()
        return torch.addcmul(x, wave, self.inverse)
