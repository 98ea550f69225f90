"""The wave generator on a CPU in compiled code: samples that are the same however an utterance is cut."""

import ctypes
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.config import WaveGeneratorConfig
from codec.layers import RaggedConv1d, RaggedConvTranspose1d, Snake
from codec.native import structures as c
from codec.wavegen import DecoderBlock, ResidualUnit, WaveGenerator
from codec.windows import Windowed
from native.cores import least_seconds
from native.library import UnavailableError, function, supported
from native.team import Team

_FRAMES = 16
"""Of a measurement: some milliseconds' work with a small codec, a tenth of a second's with the published one."""


class NativeWaveGenerator(Windowed):
    """On one thread of a CPU or, where nothing else computes, on several.

    Args:
        generator: Has the weights.
        config: Its sizes.
        vectors: One of ``native.library.supported()``, the best when None.

    Attributes:
        threads: What a call uses at most, the caller's included; results do not depend on it.

    Raises:
        UnavailableError: There is no compiled code here, or the sizes are none that it was written for.
    """

    def __init__(
        self, generator: WaveGenerator, config: WaveGeneratorConfig, *, vectors: str | None = None
    ) -> None:
        super().__init__(config)
        vectors = vectors or supported()[0]
        self._function = function(f"waves_{vectors}", "pppnp")
        if max(config.rates) > c.MOST_RATE:
            raise UnavailableError(f"it takes rates up to {c.MOST_RATE}")
        if any(kernel > c.HALO * rate for kernel, rate in zip(config.kernel_sizes, config.rates, strict=True)):
            raise UnavailableError(f"it takes kernels up to {c.HALO} times their rate")
        self._widths = [_filled(config.channels // 2**i) for i in range(len(config.rates) + 1)]
        self._kept: list[Tensor] = []  # what the structures point to
        self._rates, self._channels = config.rates, _filled(config.input_channel)
        begin, *blocks, before_end, end = generator.model
        self._stages = (c.Stage * len(blocks))(*(self._stage(cast(DecoderBlock, block)) for block in blocks))
        self._generator = c.Generator(
            self._convolution(cast(RaggedConv1d, begin)),
            self._convolution(cast(RaggedConv1d, end)),
            self._snake(cast(Snake, before_end)),
            self._stages,
            len(blocks),
        )
        self.use(1)

    def use(self, threads: int) -> None:
        """Share the work among so many threads from the next call on."""
        self.threads, self._team = threads, Team(threads - 1)

    def seconds(self, threads: int) -> float:
        """Use so many threads, and tell what a short window takes."""
        self.use(threads)
        frames = torch.zeros(self._channels, _FRAMES)
        return least_seconds(lambda: self.window(frames, True))

    def window(self, frames: Tensor, alone: bool) -> Tensor:
        length = frames.shape[1]
        rows = [length]
        for rate in self._rates:
            rows.append(rows[-1] * rate)
        around = torch.zeros(length + 2 * c.HALO, self._channels)
        around[c.HALO : c.HALO + length, : len(frames)] = frames.t()
        cells = max((n + 2 * c.HALO) * width for n, width in zip(rows, self._widths, strict=True))
        chunk = max((max(c.CELLS // width, c.LEAST_CHUNK) + 2 * c.HALO) * width for width in self._widths)
        team, seats = (self._team.address, self.threads) if alone else (None, 1)
        buffers = [torch.empty(size) for size in (cells, cells, seats * chunk, seats * chunk)]
        wave = torch.empty(rows[-1])
        room = c.Room(*(buffer.data_ptr() for buffer in buffers), chunk, team)
        begin = around[c.HALO :].data_ptr()
        self._function(ctypes.byref(self._generator), ctypes.byref(room), begin, length, wave.data_ptr())
        return wave

    def _stage(self, block: DecoderBlock) -> c.Stage:
        before, upsample, *units = block.block
        upsample = cast(RaggedConvTranspose1d, upsample)
        phases, first = self._phases(upsample)
        return c.Stage(
            self._snake(cast(Snake, before)),
            (c.Convolution * c.MOST_RATE)(*phases),
            (ctypes.c_int64 * c.MOST_RATE)(*first),
            len(phases),
            (c.Unit * 3)(*(self._unit(cast(ResidualUnit, unit)) for unit in units)),
        )

    def _unit(self, unit: ResidualUnit) -> c.Unit:
        before, mix, between, project = unit.block
        mix = cast(RaggedConv1d, mix)
        return c.Unit(
            self._snake(cast(Snake, before)),
            self._snake(cast(Snake, between)),
            self._convolution(mix),
            self._convolution(cast(RaggedConv1d, project)),
            mix.dilation[0],
        )

    def _phases(self, upsample: RaggedConvTranspose1d) -> tuple[list[c.Convolution], list[int]]:
        """A convolution for every output between two inputs, and the row of its first tap, from the input's.

        Output ``q rate + phase`` is the sum over m of tap ``phase + padding + m rate`` of input row ``q - m``.
        """
        rate, padding, kernel = upsample.stride[0], cast(int, upsample.padding[0]), upsample.kernel_size[0]
        phases, first = [], []
        for phase in range(rate):
            chosen = range((phase + padding) % rate, kernel, rate)[::-1]
            phases.append(self._pack(upsample.weight[:, :, list(chosen)].permute(2, 0, 1), upsample.bias))
            first.append((phase + padding - chosen[0]) // rate)
        return phases, first

    def _convolution(self, conv: RaggedConv1d) -> c.Convolution:
        return self._pack(conv.weight.permute(2, 1, 0), conv.bias)

    def _pack(self, weight: Tensor, bias: Tensor | None) -> c.Convolution:
        """Weights [taps, in, out]."""
        taps, into, out = weight.shape
        width = _filled(into)
        weight = F.pad(weight, (0, _filled(out) - out, 0, width - into))
        bias = F.pad(cast(Tensor, bias), (0, _filled(out) - out))
        panels = [part.flatten() for part in torch.split(weight, _split(_filled(out)), dim=2)]
        return c.Convolution(self._keep(torch.cat(panels)), self._keep(bias), taps, width, _filled(out))

    def _snake(self, snake: Snake) -> c.Snake:
        channels = snake.alpha.numel()
        room = (0, _filled(channels) - channels)
        return c.Snake(*(self._keep(F.pad(t.flatten(), room)) for t in (snake.alpha, snake.inverse)))

    def _keep(self, numbers: Tensor) -> int:
        self._kept.append(numbers.contiguous())
        return self._kept[-1].data_ptr()


def _split(columns: int) -> list[int]:
    """The widths of the panels of so many columns, a multiple of the least."""
    widths: list[int] = []
    while (left := columns - sum(widths)) > 0:
        widths.append(next(width for width in c.COLUMNS if width <= left))
    return widths


def _filled(columns: int) -> int:
    """With as many columns of zeros as the narrowest panel needs."""
    return columns + -columns % c.COLUMNS[-1]
