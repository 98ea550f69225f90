"""Decoding on a GPU: all utterances of a batch in one long row with gaps between them.

What is zeroed in the gaps is what ``codec.layers`` zeroes in the padding of a batch, so that each utterance is
what it is alone; but a short one costs no more than its length, and there is one size to vary. The prenet's row
holds all tokens that it has to see, the wave generator's the frames of the spans and what their samples depend on.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codec.bicodec import BiCodec
from codec.fast.graphs import Graphs
from codec.fast.prenet import FastPrenet
from codec.fast.wavegen import FastWaveGenerator
from codec.streaming import Span
from codec.windows import receptive_field

TOKENS_AT_ONCE = 3072
"""Of one row: so many have a graph; launching kernel by kernel would keep the interpreter from other threads."""

FRAMES_LADDER = (*range(64, 512, 64), *range(512, 3073, 128))
"""Lengths of the wave generator's row that become graphs: with the published sizes about 1 GB of memory."""
TOKENS_LADDER = (*FRAMES_LADDER, 4096, 6144, 8192)
"""Of the prenet's."""

_TOKENS_PER_VOICE = 16
"""A row has room for one voice in so many tokens."""


class FastDecoder:
    """What ``BiCodec.faster`` may be.

    Args:
        codec: Its weights are copied.
        dtype: Of products of matrices.
        graphs: Whether rows of a few lengths are CUDA graphs, where there is CUDA.
    """

    def __init__(self, codec: BiCodec, dtype: torch.dtype = torch.float16, *, graphs: bool = True) -> None:
        self._codec, device = codec, codec.device
        self._context = receptive_field(codec.config.decoder)
        self._voice_rows = -(-codec.globals_per_voice // _TOKENS_PER_VOICE)
        with torch.inference_mode():
            self._prenet = FastPrenet(codec.prenet, codec.quantizer.table, codec.speaker_encoder, dtype)
            self._generator = FastWaveGenerator(codec.decoder, dtype)
            shape = TOKENS_AT_ONCE + 1, codec.config.decoder.input_channel
            self._frames = torch.zeros(shape, dtype=dtype, device=device)
            frames_ladder, tokens_ladder = (FRAMES_LADDER, TOKENS_LADDER) if graphs else ((), ())
            self._wave_of = Graphs(lambda told: self._make_wave(told[0], self._frames), 1, frames_ladder, device)
            rows, pool = 2 + self._voice_rows, self._wave_of.pool
            self._frames_of = Graphs(self._make_frames, rows, tokens_ladder, device, pool)

    def __call__(self, semantic: Sequence[Tensor], spans: Sequence[Span], globals_: Tensor) -> list[Tensor]:
        """See ``BiCodec.decode``; arguments are on the host."""
        waves: list[Tensor] = []
        for group in _groups(list(map(len, semantic)), self._generator.gap):
            part = slice(group.start, group.stop)
            waves += self._run(semantic[part], spans[part], globals_[part])
        return waves

    def _run(self, semantic: Sequence[Tensor], spans: Sequence[Span], globals_: Tensor) -> list[Tensor]:
        lengths = [len(row) for row in semantic]
        seen = [
            Span(max(0, begin - self._context), min(length, end + self._context))
            for (begin, end), length in zip(spans, lengths, strict=True)
        ]
        at, in_all = _places(lengths, self._generator.gap)
        frames = self._frames_of(self._told(semantic, globals_, at, in_all))
        at_wave, in_all = _places([end - begin for begin, end in seen], self._generator.gap)
        sources = np.full((1, self._wave_of.rung(in_all)), -1, np.int32)
        for begin, place, of in zip(at, at_wave, seen, strict=True):
            sources[0, place : place + of.end - of.begin] = np.arange(begin + of.begin, begin + of.end)
        wave, hop = self._wave(torch.from_numpy(sources), frames), self._generator.hop
        firsts = [place + span.begin - of.begin for place, span, of in zip(at_wave, spans, seen, strict=True)]
        return [
            wave[first * hop : (first + span.end - span.begin) * hop]
            for first, span in zip(firsts, spans, strict=True)
        ]

    def _told(self, semantic: Sequence[Tensor], globals_: Tensor, at: Sequence[int], in_all: int) -> Tensor:
        """What ``_make_frames`` gets: a row of ids, one of owners, and the voices in the others."""
        least = -(-globals_.numel() // self._voice_rows)
        told = np.zeros((2 + self._voice_rows, self._frames_of.rung(max(in_all, least))), np.int32)
        told[0] = -1
        for owner, (ids, begin) in enumerate(zip(semantic, at, strict=True)):
            end = begin + len(ids)
            told[0, begin:end], told[1, begin:end] = ids.numpy(), owner
        told[2:].reshape(-1)[: globals_.numel()] = globals_.flatten().numpy()
        return torch.from_numpy(told)

    def _make_frames(self, told: Tensor) -> Tensor:
        """The wave generator's input for each token, [L, C]."""
        each = self._codec.globals_per_voice
        voices = told[2:].flatten()
        codes = self._codec.speaker_encoder.quantizer.codes(voices[: len(voices) // each * each].view(-1, each))
        return self._prenet(told[0], told[1], codes.flatten(1))

    def _make_wave(self, sources: Tensor, frames: Tensor) -> Tensor:
        """The wave of the frames at int32 [L]; -1 stands for a gap, and the last frame is zero."""
        return self._generator(frames[sources], (sources >= 0).float())

    def _wave(self, sources: Tensor, frames: Tensor) -> Tensor:
        if len(frames) >= len(self._frames):  # one utterance alone
            return self._make_wave(sources[0].to(frames.device), F.pad(frames, (0, 0, 0, 1)))
        self._frames[: len(frames)] = frames
        return self._wave_of(sources).clone()


def _places(lengths: Sequence[int], gap: int) -> tuple[list[int], int]:
    """Where each begins in a row with gaps after all of them, and the row's length."""
    ends = list(accumulate(length + gap for length in lengths))
    return [0, *ends[:-1]], ends[-1]


def _groups(lengths: Sequence[int], gap: int) -> Iterator[range]:
    """Consecutive utterances that fit into one row; one that is too long is alone."""
    begin, total = 0, 0
    for i, length in enumerate(lengths):
        if i > begin and total + length + gap > TOKENS_AT_ONCE:
            yield range(begin, i)
            begin, total = i, 0
        total += length + gap
    yield range(begin, len(lengths))
