"""Lets a codec decode fast, if that gives what plain torch gives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from codec.bicodec import BiCodec
from codec.fast.decoder import FastDecoder

LEAST_DECIBELS = 25.0
"""Signal over the difference; float16 is at 40 to 60."""

_LENGTHS = (40, 1, 23)


class SelfTestError(ValueError):
    """The fast path is wrong on this machine or for this model; the message says by how much."""


def signal_to_noise(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Decibels of ``expected``, waveforms float [N_i], over the difference; NaN when either is not finite."""
    a, b = torch.cat(list(found)).double(), torch.cat(list(expected)).double()
    return float(10 * (b.square().sum() / (a - b).square().sum()).log10())


def adopt(codec: BiCodec, fast: FastDecoder) -> None:
    """Let ``fast`` decode for the codec when a few utterances of unequal length come out the same.

    Raises:
        SelfTestError: They differ by more than rounding does; the codec is as it was.
    """
    semantic = [torch.arange(length) * 7919 % codec.semantic_size for length in _LENGTHS]
    voices = torch.arange(len(_LENGTHS) * codec.globals_per_voice).view(len(_LENGTHS), -1) * 31 % codec.global_size
    expected = codec.decode(semantic, voices)
    before, codec.faster = codec.faster, fast
    decibels = signal_to_noise(codec.decode(semantic, voices), expected)
    if not decibels >= LEAST_DECIBELS:
        codec.faster = before
        raise SelfTestError(
            f"vocoder: float16 is {decibels:.3g} dB from plain torch; accepted: {LEAST_DECIBELS:g} dB or more; "
            "the setting engine = reference does without it"
        )
