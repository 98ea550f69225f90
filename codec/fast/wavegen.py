"""The wave generator in float16, channels last, all utterances of a batch in one long row with gaps between them.

The gaps are zeroed at the input of every convolution, as the padding of a batch is in ``codec.layers``, so that
each utterance is what it is alone; but a short one costs no more than its length, and there is one size to vary.
"""

from collections.abc import Callable, Iterator, Sequence
from math import pi
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from codec.fast.kernels import snake
from codec.layers import RaggedConv1d, RaggedConvTranspose1d, Snake
from codec.wavegen import DILATIONS, KERNEL_SIZE, DecoderBlock, ResidualUnit, WaveGenerator

TOKENS_AT_ONCE = 16384
"""Of one row: with the published sizes about 5 GB of memory."""

_LENGTH_STEPS = ((4096, 256), (TOKENS_AT_ONCE, 2048))
"""Up to so many tokens a row's length is a multiple of; every new length costs time where kernels are chosen."""

_BLOCK = 4096

Stage = Callable[[Tensor, Tensor], Tensor]
"""[L * rate, C] and ``inside``, float32 [L], to [L * rate', C']."""


class FastWaveGenerator:
    """What ``WaveGenerator`` computes.

    Args:
        generator: Its weights are copied.
        dtype: Of matrices and activations; sums are float32.

    Attributes:
        hop: Samples of one frame.
    """

    def __init__(self, generator: WaveGenerator, dtype: torch.dtype = torch.float16) -> None:
        first, *blocks, activate, last = list[Any](generator.model)
        self._dtype = dtype
        self._first = _Conv(first, dtype)
        self._stages: list[Stage] = []
        self.hop, bias = 1, first.bias
        for block in blocks:
            rate = block.block[1].stride[0]
            self._stages += _block_stages(block, self.hop, self.hop * rate, bias, dtype)
            self.hop, bias = self.hop * rate, None
        self._stages.append(_Activation(activate, self.hop))
        self._taps = F.pad(last.weight[0].detach(), (0, -KERNEL_SIZE % 8)).to(dtype)  # an even width is faster
        self._bias = last.bias.float()
        reach = max(DILATIONS) * (KERNEL_SIZE // 2)
        self._gap = max(KERNEL_SIZE // 2, -(-reach // blocks[0].block[1].stride[0]))

    def __call__(self, frames: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """Waveforms of a batch.

        Args:
            frames: float32 [B, C, T].
            lengths: Frames of each that count, 1 to T.

        Returns:
            B waveforms float32 [length * hop] in [-1, 1].
        """
        waves: list[Tensor] = []
        for group in _groups(lengths, self._gap):
            waves += self._run(frames[group.start : group.stop], lengths[group.start : group.stop])
        return waves

    def _run(self, frames: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        begins, end = [], 0
        for length in lengths:
            begins.append(end)
            end += length + self._gap
        row = torch.zeros(_rounded(end), frames.shape[1], device=frames.device, dtype=self._dtype)
        inside = torch.zeros(len(row), device=frames.device)
        for utterance, begin, length in zip(frames, begins, lengths, strict=True):
            row[begin : begin + length] = utterance[:, :length].t()
            inside[begin : begin + length] = 1.0
        x = self._first(row)
        for stage in self._stages:
            x = stage(x, inside)
        wave = (self._last(x) + self._bias).tanh_()
        return [
            wave[begin * self.hop : (begin + length) * self.hop]
            for begin, length in zip(begins, lengths, strict=True)
        ]

    def _last(self, x: Tensor) -> Tensor:
        """The last convolution, to one channel: a product for its taps, then their sum along time, float32."""
        taps = F.pad((x @ self._taps).float(), (0, 0, KERNEL_SIZE // 2, KERNEL_SIZE // 2))
        return torch.stack([taps[k : k + len(x), k] for k in range(KERNEL_SIZE)]).sum(0)


class _Conv:
    """A convolution that keeps the length of [L, C]; its bias is left to the activation that follows."""

    def __init__(self, module: RaggedConv1d, dtype: torch.dtype) -> None:
        self._weight = _planar(module, dtype)
        self._dilation = module.dilation[0]
        self._padding = self._dilation * (module.kernel_size[0] - 1) // 2

    def __call__(self, x: Tensor) -> Tensor:
        image = _image(x)
        return _row(F.conv2d(image, self._weight, padding=(0, self._padding), dilation=(1, self._dilation)))


class _Activation:
    """``codec.layers.Snake`` and the zeros outside utterances.

    Args:
        module: The activation.
        rate: Positions of its input for each token.
        bias: To add before; a convolution would take another pass over memory for it.
        keep: Whether the input with the bias is needed again.
    """

    def __init__(self, module: Snake, rate: int, bias: Tensor | None = None, *, keep: bool = False) -> None:
        self._turns = module.alpha.detach().flatten().float() / pi
        self._inverse = module.inverse.flatten().float().contiguous()
        self._bias = None if bias is None else bias.detach().float()
        self._rate, self._keep = rate, keep

    def __call__(self, x: Tensor, inside: Tensor) -> Tensor:
        rows, channels = x.shape
        columns = triton.next_power_of_2(channels)
        at_once = max(1, _BLOCK // columns)
        out = torch.empty_like(x)
        snake[(triton.cdiv(rows, at_once),)](
            x, self._turns if self._bias is None else self._bias, self._turns, self._inverse, inside, out, rows,
            C=channels, RATE=self._rate, BIAS=self._bias is not None, KEEP=self._keep, ROWS=at_once,
            COLUMNS=columns,
        )  # fmt: skip
        return out


class _Upsampling:
    """Its bias is left to the activation that follows, too."""

    def __init__(self, activation: _Activation, module: RaggedConvTranspose1d, dtype: torch.dtype) -> None:
        self._activation = activation
        self._weight = _planar(module, dtype)
        self._stride = module.stride[0]
        self._padding = (module.kernel_size[0] - self._stride) // 2

    def __call__(self, x: Tensor, inside: Tensor) -> Tensor:
        image = _image(self._activation(x, inside))
        return _row(F.conv_transpose2d(image, self._weight, stride=(1, self._stride), padding=(0, self._padding)))


class _Residual:
    """``bias`` is that of the convolution before the unit, if it is still to be added."""

    def __init__(self, unit: ResidualUnit, rate: int, bias: Tensor | None, dtype: torch.dtype) -> None:
        activate, mix, activate_again, project = list[Any](unit.block)
        self._activate = _Activation(activate, rate, bias, keep=bias is not None)
        self._mix = _Conv(mix, dtype)
        self._activate_again = _Activation(activate_again, rate, mix.bias)
        self._weight = project.weight[:, :, 0].to(dtype).contiguous()
        self._bias = project.bias.to(dtype)

    def __call__(self, x: Tensor, inside: Tensor) -> Tensor:
        mixed = self._activate_again(self._mix(self._activate(x, inside)), inside)
        return x.add_(F.linear(mixed, self._weight, self._bias))


def _block_stages(
    block: DecoderBlock, rate: int, rate_after: int, bias: Tensor | None, dtype: torch.dtype
) -> Iterator[Stage]:
    """The stages of a block; ``bias`` is still to be added to its input."""
    activate, upsample, *units = list[Any](block.block)
    yield _Upsampling(_Activation(activate, rate, bias), upsample, dtype)
    for unit in units:
        yield _Residual(unit, rate_after, upsample.bias if unit is units[0] else None, dtype)


def _planar(module: RaggedConv1d | RaggedConvTranspose1d, dtype: torch.dtype) -> Tensor:
    """The weight of a convolution over time as of one over an image of height 1, channels last."""
    weight = module.weight.detach().to(dtype)[:, :, None]
    return weight.contiguous(memory_format=torch.channels_last)


def _image(x: Tensor) -> Tensor:
    """[L, C] as an image [1, C, 1, L], channels last; the same memory."""
    return x[None, None].permute(0, 3, 1, 2)


def _row(image: Tensor) -> Tensor:
    """The inverse of ``_image``."""
    return image.permute(0, 2, 3, 1).contiguous().view(image.shape[3], image.shape[1])


def _groups(lengths: Sequence[int], gap: int) -> Iterator[range]:
    """Consecutive utterances that fit into one row; one that is too long is alone."""
    begin, total = 0, 0
    for i, length in enumerate(lengths):
        if i > begin and total + length + gap > TOKENS_AT_ONCE:
            yield range(begin, i)
            begin, total = i, 0
        total += length + gap
    yield range(begin, len(lengths))


def _rounded(length: int) -> int:
    step = next((step for most, step in _LENGTH_STEPS if length <= most), _LENGTH_STEPS[-1][1])
    return -(-length // step) * step
