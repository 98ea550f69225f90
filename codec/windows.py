"""The wave generator, one utterance or span of one after another, in windows of a few sizes.

On a CPU, oneDNN prepares every convolution anew for an input of a new length, which takes longer than to run it,
and what it has prepared takes memory; so do the gaps that tensors of many sizes leave in the heap. Speech has any
length; windows have ``LEAST`` tokens, or twice as many, or four times, so that all of them are soon prepared. A
sample depends on what lies within its receptive field: neighbouring windows overlap by so much, and the result is
the whole's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.config import WaveGeneratorConfig
from codec.layers import Tail
from codec.wavegen import DILATIONS, KERNEL_SIZE, WaveGenerator

LEAST = 32
"""Tokens of the shortest window."""
MOST = 256
"""Tokens of the longest window."""
MOST_PLAIN = 128
"""The same in plain torch: longer ones overlap less, but their tensors do not fit the processor's cache; with the
demo voice 256 take a fifth longer, and twice the memory."""


def receptive_field(config: WaveGeneratorConfig) -> int:
    """Tokens on either side that a token's samples depend on, at most; 11 for the published sizes."""
    reach = KERNEL_SIZE // 2
    for kernel, rate in reversed(list(zip(config.kernel_sizes, config.rates, strict=True))):
        reach += (KERNEL_SIZE // 2) * sum(DILATIONS)
        padding = (kernel - rate) // 2
        reach = -(-(reach + kernel - 1 - padding) // rate)
    return reach + KERNEL_SIZE // 2


class Windowed(ABC):
    """What ``WaveGenerator`` computes, window by window.

    Args:
        config: Its sizes.
        most: Tokens of a window at most, unless the receptive field is wide.
    """

    def __init__(self, config: WaveGeneratorConfig, most: int = MOST) -> None:
        self._context = receptive_field(config)
        self._most = max(most, 3 * self._context)

    @abstractmethod
    def window(self, frames: Tensor, alone: bool) -> Tensor:
        """Frames [C, T], T of any size up to a window's, to samples [T * hop]."""

    def __call__(self, frames: Tensor, begin: int, end: int, alone: bool = False) -> Tensor:
        """The waveform of some frames of an utterance.

        Args:
            frames: Its frames, float32 [C, T].
            begin: The first that is wanted.
            end: One more than the last, at most T.
            alone: Whether nothing else computes, so that several threads may.

        Returns:
            float32 [(end - begin) * hop] in [-1, 1].
        """
        return torch.cat(list(self._waves(frames, begin, end, alone)))

    def _waves(self, frames: Tensor, done: int, end: int, alone: bool) -> Iterator[Tensor]:
        """The pieces of one utterance, from frame ``done`` on."""
        length = min(frames.shape[1], end + self._context)
        while done < end:
            first = max(0, done - self._context)
            last = min(length, first + self._most)
            wave = self.window(frames[:, first:last], alone)
            hop = len(wave) // (last - first)
            kept = end if last == length else last - self._context
            yield wave[(done - first) * hop : (kept - first) * hop]
            done = kept


class WindowedWaveGenerator(Windowed):
    """In plain torch, in windows of few sizes.

    Args:
        generator: Runs each window.
        config: Its sizes.
    """

    def __init__(self, generator: WaveGenerator, config: WaveGeneratorConfig) -> None:
        super().__init__(config, MOST_PLAIN)
        self._generator = generator

    def window(self, frames: Tensor, _alone: bool = False) -> Tensor:
        length = frames.shape[1]
        room = max(LEAST, 1 << (length - 1).bit_length())
        mask = None if room == length else Tail(length, room)
        wave: Tensor = self._generator(F.pad(frames, (0, room - length))[None], mask)[0, 0]
        return wave[: len(wave) // room * length]
