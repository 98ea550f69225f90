"""Compares the fast wave generator with the reference, before anyone relies on it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from codec.bicodec import BiCodec
from codec.fast.wavegen import FastWaveGenerator
from codec.layers import length_mask

LEAST_DECIBELS = 25.0
"""Signal over the difference; float16 is at 40 to 60."""

_LENGTHS = (40, 1, 23)


class SelfTestError(ValueError):
    """The fast wave generator is wrong on this machine or for this model; the message says by how much."""


def signal_to_noise(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Decibels of ``expected`` over the difference; NaN when either is not finite."""
    a, b = torch.cat(list(found)).double(), torch.cat(list(expected)).double()
    return float(10 * (b.square().sum() / (a - b).square().sum()).log10())


@torch.inference_mode()
def check(fast: FastWaveGenerator, codec: BiCodec) -> None:
    """Decode a few utterances of unequal length by both.

    Raises:
        SelfTestError: They differ by more than rounding does.
    """
    longest = max(_LENGTHS)
    ids = torch.arange(len(_LENGTHS) * longest, device=codec.device).view(len(_LENGTHS), longest) * 7919
    voices = (
        torch.arange(len(_LENGTHS) * codec.globals_per_voice, device=codec.device).view(len(_LENGTHS), -1) * 31
    )
    mask = length_mask(list(_LENGTHS), codec.device)
    frames = codec.frames(ids % codec.semantic_size, voices % codec.global_size, mask)
    expected = codec.decoder(frames, mask)[:, 0]
    kept = [wave[: length * codec.hop] for wave, length in zip(expected, _LENGTHS, strict=True)]
    decibels = signal_to_noise(fast(frames, _LENGTHS), kept)
    if not decibels >= LEAST_DECIBELS:
        raise SelfTestError(
            f"vocoder: float16 is {decibels:.3g} dB from the reference; accepted: {LEAST_DECIBELS:g} dB or more; "
            "the setting engine = reference does without it"
        )
