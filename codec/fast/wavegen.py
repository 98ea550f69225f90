"""The wave generator with each activation in the convolution before it."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor, nn

from codec.fast.kernels import collect
from codec.fast.layers import LINEAR, Activation, Convolution
from codec.wavegen import DILATIONS, KERNEL_SIZE, ResidualUnit, WaveGenerator

Stage = Callable[[Tensor, Tensor], Tensor]
"""[L * rate, C] and ``inside``, float32 [L], to [L * rate', C']."""

_ROWS_OF_LAST = 1024
_TAPS_STRIDE = 8


class FastWaveGenerator:
    """What ``WaveGenerator`` computes; its weights are copied.

    Args:
        generator: The plain one.
        dtype: Of matrices and activations; sums are float32.

    Attributes:
        hop: Samples of one frame.
        gap: Tokens that have to lie between two utterances.
    """

    def __init__(self, generator: WaveGenerator, dtype: torch.dtype) -> None:
        first, *blocks, activate, final = list[Any](generator.model)
        activations = [*(Activation.of(block.block[0]) for block in blocks), Activation.of(activate)]
        self._stages: list[Stage] = [Convolution(first.weight, first.bias, dtype, activations[0])]
        self.hop = 1
        for block, after in zip(blocks, activations[1:], strict=True):
            self._stages.append(_Block(block.block, self.hop, after, dtype))
            self.hop *= block.block[1].stride[0]
        taps = F.pad(final.weight[0].t(), (0, 0, 0, _TAPS_STRIDE - KERNEL_SIZE))
        nothing = torch.zeros(_TAPS_STRIDE, device=taps.device)
        self._taps = Convolution(taps, nothing, dtype, LINEAR, rate=self.hop, out_dtype=torch.float32)
        self._bias = final.bias.float()
        reach = max(DILATIONS) * (KERNEL_SIZE // 2)
        self.gap = max(KERNEL_SIZE // 2, -(-reach // blocks[0].block[1].stride[0]))

    def __call__(self, frames: Tensor, inside: Tensor) -> Tensor:
        """The waveform of a row.

        Args:
            frames: [L, input_channel], zero in gaps.
            inside: float32 [L], see ``codec.fast.layers``.

        Returns:
            float32 [L * hop] in [-1, 1]; in gaps it means nothing.
        """
        x = frames
        for stage in self._stages:
            x = stage(x, inside)
        products = self._taps(x, inside)
        wave = torch.empty(len(x), device=x.device)
        collect[(triton.cdiv(len(x), _ROWS_OF_LAST),)](
            products, self._bias, wave, len(x), TAPS=KERNEL_SIZE, STRIDE=_TAPS_STRIDE, ROWS=_ROWS_OF_LAST
        )
        return wave


class _Block:
    """A ``DecoderBlock`` but for its first activation, which came before, and with the one that follows it.

    Args:
        parts: The activation, the transposed convolution, the residual units.
        rate: Positions of its input for each token.
        after: The activation that follows.
        dtype: Of matrices and activations.
    """

    def __init__(self, parts: nn.ModuleList, rate: int, after: Activation, dtype: torch.dtype) -> None:
        _, up, *units = list[Any](parts)
        stride, weight = up.stride[0], up.weight.transpose(0, 1)
        afters = [Activation.of(unit.block[0]) for unit in units] + [after]
        self._upsample = Convolution(weight, up.bias, dtype, afters[0], rate=rate, stride=stride)
        pairs = zip(units, afters[1:], strict=True)
        self._units = [_Unit(unit, rate * stride, following, dtype) for unit, following in pairs]

    def __call__(self, x: Tensor, inside: Tensor) -> Tensor:
        sums = torch.empty(self._upsample.shape(x), dtype=x.dtype, device=x.device)
        x = self._upsample(x, inside, sums)
        for unit in self._units:
            x = unit(x, inside, sums)
        return x


class _Unit:
    """A ``ResidualUnit`` but for its first activation, and with the one that follows it; adds to ``sums``."""

    def __init__(self, unit: ResidualUnit, rate: int, after: Activation, dtype: torch.dtype) -> None:
        _, mix, activate, project = list[Any](unit.block)
        (dilation,) = mix.dilation
        self._mix = Convolution(mix.weight, mix.bias, dtype, Activation.of(activate), rate=rate, dilation=dilation)
        self._project = Convolution(project.weight, project.bias, dtype, after, rate=rate)

    def __call__(self, x: Tensor, inside: Tensor, sums: Tensor) -> Tensor:
        return self._project(self._mix(x, inside), inside, sums, add=True)
