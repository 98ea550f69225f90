"""How loud speech is, and what brings one part to the loudness of another."""

import numpy as np

from worker.delivery.encoding import Wave

_BLOCK_SECONDS = 0.4
_HOP_SECONDS = 0.1
_GATE = 0.1
"""Blocks of less than a tenth of the mean power (-10 dB) are pauses, as in ITU-R BS.1770."""

_MOST_GAIN = 4.0
_SILENCE = 1e-10


def loudness(wave: Wave, sample_rate: int) -> float:
    """The mean power of speech without its pauses, by overlapping blocks of 0.4 s; 0 for silence.

    Args:
        wave: float32 [n].
        sample_rate: Hz.
    """
    block, hop = round(_BLOCK_SECONDS * sample_rate), round(_HOP_SECONDS * sample_rate)
    sums = np.concatenate(([0.0], np.cumsum(wave.astype(np.float64) ** 2)))
    starts = np.arange(0, max(1, len(wave) - block + 1), hop)
    ends = np.minimum(starts + block, len(wave))
    powers = (sums[ends] - sums[starts]) / np.maximum(1, ends - starts)
    if powers.mean() < _SILENCE:
        return 0.0
    return float(powers[powers >= _GATE * powers.mean()].mean())


def matched(wave: Wave, sample_rate: int, target: float) -> Wave:
    """Speech float32 [n] scaled to a loudness, by a factor of four at most and never beyond full scale."""
    own = loudness(wave, sample_rate)
    if not own or not target:
        return wave
    gain = min(max((target / own) ** 0.5, 1 / _MOST_GAIN), _MOST_GAIN, 1 / max(float(np.abs(wave).max()), 1e-9))
    return wave * np.float32(gain)
