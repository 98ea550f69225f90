"""Where in a recording somebody speaks: not where it is silent, clicks, hums or plays music.

Speech changes its timbre all the time, several times as fast as chords, notes, engines and noise do. How far a
spectrum differs from that of 50 ms before, its loudness left aside, tells them apart, also in noise and in a room
that echoes. Music with a voice in it counts as speech, and so does everything where nothing is clearly more like
speech.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float64]
"""Samples of one channel, [N]; full scale is [-1, 1]."""
Frames = NDArray[np.float64]
"""A number for each 10 ms, [T]."""
Mask = NDArray[np.bool_]

FRAMES_PER_SECOND = 100
WINDOW_SECONDS = 0.025
BANDS = 24
LOWEST, HIGHEST = 80.0, 7600.0
"""Hertz; of the bands, which are equally wide to the ear."""
DEEPEST = 60.0
"""Decibels below the loudest that count as equal."""
LAG = 5
"""Frames between the spectra that are compared."""
QUIET, NEAR_NOISE, LOUDEST_THRESHOLD = 30.0, 6.0, 12.0
"""Decibels: speech is up to so much below loud speech, and so much above noise, unless that is nearer to it."""
AROUND, EVERY = 150, 10
"""Frames in which a timbre has to change, and from one such look to the next."""
LIVELY, AS_LIVELY = 2.4, 0.6
"""Decibels a band by which it does in speech; or this share of what it does where it changes most."""
PERCENTILE = 40
"""Of the changes: notes that follow each other fast change the timbre as much, but not most of the time."""
LONGEST_PAUSE = 100
"""Frames; longer ones are no part of speech."""
SHORTEST, ALONE = 20, 30
"""Frames of a sound that may be speech, a click has fewer; and of silence around it that make it one by itself."""
MARGIN = 15
"""Frames that are kept on either side of speech."""


class Activity(NamedTuple):
    """What is heard in each 10 ms of a recording.

    Attributes:
        level: Decibels.
        loud: Whether it is more than a pause or noise.
        spoken: Whether somebody speaks.
    """

    level: Frames
    loud: Mask
    spoken: Mask


def activity(audio: Audio, sample_rate: int) -> Activity:
    """Look through a recording of at least one sample."""
    bands = band_levels(audio, sample_rate)
    level = 10 * np.log10((10 ** (bands / 10)).sum(axis=1))
    loud = level > threshold(level)
    change = liveliness(bands, loud)
    most = change.max()
    spoken = loud & (change >= min(LIVELY, AS_LIVELY * most)) if most >= LIVELY else loud.copy()
    for begin, end in runs(spoken, ALONE):
        if spoken[begin:end].sum() < SHORTEST:
            spoken[begin:end] = False
    return Activity(level, loud, spoken)


def speech_spans(spoken: Mask, sample_rate: int) -> list[tuple[int, int]]:
    """Begins and ends of speech, with margins and short pauses, in samples; the last may be beyond the audio."""
    hop = sample_rate // FRAMES_PER_SECOND
    return [(max(0, begin - MARGIN) * hop, (end + MARGIN) * hop) for begin, end in runs(spoken, LONGEST_PAUSE)]


def band_levels(audio: Audio, sample_rate: int) -> Frames:
    """Decibels in each band, [T, BANDS]."""
    size, hop = round(WINDOW_SECONDS * sample_rate), sample_rate // FRAMES_PER_SECOND
    count = -(-len(audio) // hop)
    padded = np.pad(audio, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop]
    power = np.abs(np.fft.rfft(windows * np.hanning(size))) ** 2
    levels: Frames = 10 * np.log10(power @ filters(sample_rate, size) + 1e-10)
    deepest = float(np.percentile(levels.max(axis=1), 99)) - DEEPEST
    return np.maximum(levels, deepest)


@cache
def filters(sample_rate: int, size: int) -> Frames:
    """Triangles over the bins of a spectrum, [bins, BANDS]."""
    hertz = 700 * np.expm1(np.linspace(np.log1p(LOWEST / 700), np.log1p(HIGHEST / 700), BANDS + 2))
    bins = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    rising = (bins - hertz[:-2]) / np.diff(hertz[:-1])
    falling = (hertz[2:] - bins) / np.diff(hertz[1:])
    triangles: Frames = np.maximum(0, np.minimum(rising, falling))
    return triangles


def threshold(level: Frames) -> float:
    """What is louder, in decibels, may be speech."""
    loud, noise = np.percentile(level, (95, 5))
    return float(max(loud - QUIET, min(noise + NEAR_NOISE, loud - LOUDEST_THRESHOLD)))


def liveliness(bands: Frames, loud: Mask) -> Frames:
    """How much the timbre changes around each frame, [T]: a percentile over the loud ones near it."""
    timbre = bands - bands.mean(axis=1, keepdims=True)
    change = np.full(len(bands), np.nan)
    both = loud[LAG:] & loud[:-LAG]
    change[LAG:][both] = np.abs(timbre[LAG:] - timbre[:-LAG]).mean(axis=1)[both]
    found = np.zeros(len(bands))
    for begin in range(0, len(bands), EVERY):
        near = change[max(0, begin + (EVERY - AROUND) // 2) : begin + (EVERY + AROUND) // 2]
        near = near[~np.isnan(near)]
        found[begin : begin + EVERY] = np.sort(near)[len(near) * PERCENTILE // 100] if len(near) else 0.0
    return found


def runs(mask: Mask, most_gap: int) -> list[tuple[int, int]]:
    """Where a mask is true, gaps up to ``most_gap`` included: begins and ends."""
    places = np.flatnonzero(mask)
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) > most_gap)
    begins = places[np.concatenate(([0], breaks + 1))]
    ends = places[np.concatenate((breaks, [len(places) - 1]))] + 1
    return list(zip(begins.tolist(), ends.tolist(), strict=True))
