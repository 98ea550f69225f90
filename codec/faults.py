"""What is wrong with a recording that is to be cloned, in the words of somebody who may make a better one."""

from collections.abc import Iterator

import numpy as np

from codec.activity import FRAMES_PER_SECOND, Activity, Audio, Frames, Mask

LITTLE_SECONDS = 2.0
FULL_SCALE, MOST_AT_IT = 0.93, 0.005
"""A share of samples so near full scale is no speech but its peaks cut off."""
NEAR_PEAKS, MOST_NEAR = 0.85, 0.08
"""The same for what was made quieter later: a share of the 99th percentile, and of the samples above it."""
AUDIBLE = 0.02
MOST_DECIBELS = 12.0
"""Between seconds of one voice."""
LEAST_SHARE = 0.4
"""Of a second that must be speech to be compared."""
LAST_FRAMES = slice(-4, -1)
"""Before the very last, whose spectrum is that of an edge."""


def faults(audio: Audio, heard: Activity) -> Iterator[str]:
    """Why a voice made of a recording may not be the speaker's."""
    seconds = heard.spoken.sum() / FRAMES_PER_SECOND
    if seconds < LITTLE_SECONDS:
        yield f"{seconds:.1f} s of speech; {LITTLE_SECONDS:g} s and more make a better voice"
    if is_clipped(audio):
        yield "it is clipped: its peaks are cut off, which is heard in the voice; record it at a lower level"
    spread = loudness_spread(heard.level, heard.spoken)
    if spread > MOST_DECIBELS:
        yield f"its loudness changes by {spread:.0f} dB; one distance to the microphone makes a better voice"


def is_clipped(audio: Audio) -> bool:
    """Whether peaks were cut off."""
    levels = np.abs(audio)
    if (levels > FULL_SCALE).mean() > MOST_AT_IT:
        return True
    high = np.percentile(levels, 99)
    return bool((levels[levels > AUDIBLE * high] > NEAR_PEAKS * high).mean() > MOST_NEAR) if high else False


def loudness_spread(level: Frames, spoken: Mask) -> float:
    """Decibels between the loudest and the quietest second of speech."""
    power = np.where(spoken, 10 ** (level / 10), 0.0)
    seconds = range(0, max(1, len(level) - FRAMES_PER_SECOND), FRAMES_PER_SECOND // 2)
    parts = [slice(begin, begin + FRAMES_PER_SECOND) for begin in seconds]
    means = [power[part].sum() / spoken[part].sum() for part in parts if spoken[part].mean() > LEAST_SHARE]
    return float(10 * np.log10(max(means) / min(means))) if means else 0.0


def ends_in_speech(heard: Activity) -> bool:
    """Whether a recording was cut off within a word."""
    return bool(heard.spoken[LAST_FRAMES].all() and len(heard.spoken))
