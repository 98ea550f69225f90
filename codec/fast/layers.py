"""The layers of the fast decoder: weights laid out for its kernels, and how those are launched.

Everything works on one long row of L tokens, channels last. ``inside`` is float32 [L], one for a token of an
utterance and zero in the gaps between; what a layer gives is zero there, as ``codec.layers`` has it at the input
of every convolution.
"""

from math import pi
from typing import Literal, NamedTuple

import torch
import triton
from torch import Tensor, nn

from codec.fast.kernels import convolve, normalize
from codec.layers import RaggedConv1d, Snake
from codec.vocos import NORM_EPSILON, AdaptiveLayerNorm

_LEAST = 16
"""Of each side of a product of matrices."""
_ROWS_OF_NORM = 4


class Tile(NamedTuple):
    """What one program of a convolution makes, and how."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


_FEW_ROWS = Tile(64, 128, 64, 4, 4)
_WIDE, _EVEN, _NARROW, _SHALLOW = (
    Tile(128, 256, 64, 8, 3),
    Tile(128, 128, 64, 4, 3),
    Tile(128, 64, 64, 4, 3),
    Tile(128, 128, 32, 4, 4),
)
"""The fastest of some for the published sizes on an H200, where nothing or little of them stays empty."""


def _tile(inputs: int, outputs: int, rate: int) -> Tile:
    if rate == 1:
        return _FEW_ROWS
    if inputs % _EVEN.depth:
        return _SHALLOW
    fitting = (tile for tile in (_WIDE, _EVEN, _NARROW) if outputs % tile.columns == 0)
    return next(fitting, _EVEN)


class Activation(NamedTuple):
    """What follows a convolution, element by element.

    Attributes:
        name: Of the function.
        turns: Of a snake, float32 [C]: alpha / pi.
        inverse: Of a snake, float32 [C]: 1 / alpha.
    """

    name: Literal["none", "gelu", "snake"]
    turns: Tensor | None = None
    inverse: Tensor | None = None

    @classmethod
    def of(cls, snake: Snake) -> "Activation":
        """What this module does."""
        inverse = snake.inverse.flatten().float().contiguous()
        return cls("snake", snake.alpha.detach().flatten().float() / pi, inverse)


LINEAR, GELU = Activation("none"), Activation("gelu")


class Convolution:
    """[L * rate, inputs] to [L * rate * stride, outputs].

    Args:
        weight: [outputs, inputs, taps] or [outputs, inputs].
        bias: [outputs].
        dtype: Of the weight and the input; sums are float32.
        after: The activation; with None the result is only kept.
        rate: Positions of the input for each token.
        stride: Positions made of one, for a transposed convolution.
        dilation: Positions from one tap to the next.
        out_dtype: Of the output; ``dtype`` when None.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        after: Activation | None,
        *,
        rate: int = 1,
        stride: int = 1,
        dilation: int = 1,
        out_dtype: torch.dtype | None = None,
    ) -> None:
        taps_last = weight.detach().reshape(weight.shape[0], weight.shape[1], -1)
        self._weight = taps_last.permute(2, 1, 0).to(dtype).contiguous()
        self._bias = bias.detach().float()
        self._after, self._out_dtype = after, out_dtype or dtype
        self._rate, self._stride, self._dilation = rate, stride, dilation
        self._tile = _tile(weight.shape[1], weight.shape[0], rate)

    def __call__(self, x: Tensor, inside: Tensor, kept: Tensor | None = None, *, add: bool = False) -> Tensor:
        """Run it.

        Args:
            x: [L * rate, inputs], contiguous, zero outside.
            inside: See the module.
            kept: Gets the result before the activation, of any type.
            add: Whether what is in ``kept`` is added to the result first.

        Returns:
            The activation of the result, zero outside; ``kept`` where there is none.
        """
        taps, inputs, outputs = self._weight.shape
        out = None if self._after is None else torch.empty(self.shape(x), dtype=self._out_dtype, device=x.device)
        after, tile, columns = self._after or LINEAR, self._tile, _side(outputs, self._tile.columns)
        convolve[(triton.cdiv(len(x), tile.rows) * self._stride * triton.cdiv(outputs, columns),)](
            x, self._weight, self._bias, _or(after.turns, x), _or(after.inverse, x), inside, _or(kept, x),
            _or(out, x), len(x), self._dilation,
            INPUTS=inputs, OUTPUTS=outputs, TAPS=taps, STRIDE=self._stride, RATE=self._rate,
            ACTIVATION=after.name, RESIDUAL=add, KEEP=kept is not None,
            OUT=out is not None, ROWS=tile.rows, COLUMNS=columns,
            DEPTH=_side(inputs, tile.depth * 2 // x.element_size()),
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        return _or(out, _or(kept, x))

    def shape(self, x: Tensor) -> tuple[int, int]:
        """Of the result."""
        return len(x) * self._stride, self._weight.shape[2]


class Row(NamedTuple):
    """What the layers need to know of a row.

    Attributes:
        inside: See the module.
        owners: int32 [L], the utterance of each token; any in gaps.
        styles: float32 [utterances, norms, 2, C]: scale and shift of every adaptive norm.
    """

    inside: Tensor
    owners: Tensor
    styles: Tensor


class Norm:
    """Layer norm of float32 [L, C], plain or adaptive, after a convolution of each channel where there is one.

    Args:
        module: The norm.
        dtype: Of the output.
        mix: The convolution.
        number: Of an adaptive norm, its place in ``Row.styles``.
        factor: For the output.
    """

    def __init__(
        self,
        module: nn.LayerNorm | AdaptiveLayerNorm,
        dtype: torch.dtype,
        *,
        mix: RaggedConv1d | None = None,
        number: int = 0,
        factor: float = 1.0,
    ) -> None:
        self._dtype, self._number = dtype, number
        self._plain = (
            None if isinstance(module, AdaptiveLayerNorm) else (factor * module.weight, factor * module.bias)
        )
        self._taps = None if mix is None else mix.weight.detach()[:, 0].t().contiguous()
        self._bias = None if mix is None else mix.bias

    def __call__(self, x: Tensor, row: Row) -> Tensor:
        """[L, C], zero outside."""
        rows, channels = x.shape
        scale, shift = self._plain or row.styles[:, self._number].unbind(1)
        out = torch.empty_like(x, dtype=self._dtype)
        normalize[(triton.cdiv(rows, _ROWS_OF_NORM),)](
            x, _or(self._taps, x), _or(self._bias, x), scale, shift, row.owners, row.inside, out, rows,
            0 if self._plain else scale.stride(0),
            C=channels, TAPS=0 if self._taps is None else len(self._taps), EPSILON=NORM_EPSILON,
            ROWS=_ROWS_OF_NORM, COLUMNS=triton.next_power_of_2(channels),
        )  # fmt: skip
        return out


def _side(size: int, most: int) -> int:
    """Of a block over something of this size."""
    side: int = triton.next_power_of_2(size)
    return max(_LEAST, min(most, side))


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A kernel wants a pointer for what it does not touch, too."""
    return other if tensor is None else tensor
