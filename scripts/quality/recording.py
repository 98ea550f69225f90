"""What one recording tells without any other: where speech is, clipping, and the fundamental frequency."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float64]
Samples = NDArray[np.int16]

SAMPLE_RATE = 16_000
FULL_SCALE = 32_768
SILENCE = 10 ** (-40 / 20)
"""A frame is silent when its level is 40 dB below that of the loudest, or below the floor."""
SILENCE_FLOOR = 1e-3
CLIPPED = 0.99

FRAME = SAMPLE_RATE // 50
YIN_WINDOW = 480
YIN_HOP = 160
YIN_THRESHOLD = 0.15
LOW_PASS = np.hanning(13)[1:-1] / np.hanning(13).sum()
"""Half its gain at 1.3 kHz: above, a period that is no whole number of samples would hide itself."""
PITCH_RANGE = (55.0, 450.0)
"""Hz; from below the deepest demo voice to above its highest."""


def as_audio(samples: Samples) -> Audio:
    """16-bit samples as float64 in [-1, 1)."""
    return samples.astype(np.float64) / FULL_SCALE


def to_samples(audio: Audio) -> Samples:
    """Float64 [N] in [-1, 1] as 16-bit samples."""
    samples: Samples = np.round(np.clip(audio, -1, 1 - 1 / FULL_SCALE) * FULL_SCALE).astype(np.int16)
    return samples


def framed(audio: Audio, window: int, hop: int) -> Audio:
    """Samples [N] as frames [T, window], with zeros after the end so that there is at least one."""
    padded = np.concatenate([audio, np.zeros(max(window - len(audio), 0))])
    return np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]


def active_frames(audio: Audio, window: int, hop: int) -> NDArray[np.bool_]:
    """Which frames [T] are not silent."""
    levels = np.sqrt((framed(audio, window, hop) ** 2).mean(axis=1))
    active: NDArray[np.bool_] = levels > max(levels.max() * SILENCE, SILENCE_FLOOR)
    return active


@dataclass(frozen=True)
class Signal:
    """Seconds of a recording and of the silence around its speech; silent frames and clipped samples as shares."""

    seconds: float
    leading: float
    trailing: float
    silent: float
    clipped: float


def measure(audio: Audio) -> Signal:
    """Look at samples [N]; without any speech all of it is leading and trailing silence."""
    seconds = len(audio) / SAMPLE_RATE
    active = active_frames(audio, FRAME, FRAME)
    clipped = float((np.abs(audio) >= CLIPPED).mean()) if len(audio) else 0.0
    speech = np.flatnonzero(active)
    if not len(speech):
        return Signal(seconds, seconds, seconds, 1.0, clipped)
    leading = int(speech[0]) * FRAME / SAMPLE_RATE
    trailing = max(seconds - (int(speech[-1]) + 1) * FRAME / SAMPLE_RATE, 0.0)
    return Signal(seconds, leading, trailing, 1 - float(active.mean()), clipped)


def median_pitch(audio: Audio) -> float:
    """The median fundamental frequency in Hz over voiced frames, 0 when there are none."""
    tracked = pitch_track(audio)
    voiced = tracked[tracked > 0]
    return float(np.median(voiced)) if len(voiced) else 0.0


def pitch_track(audio: Audio) -> Audio:
    """Fundamental frequency in Hz every 10 ms, 0 where a frame is silent or not periodic: [T].

    YIN (de Cheveigne and Kawahara 2002): the first minimum of the cumulative mean normalised difference below a
    threshold, with parabolic interpolation.
    """
    shortest, longest = (int(SAMPLE_RATE / hertz) for hertz in reversed(PITCH_RANGE))
    width = YIN_WINDOW + longest + 1
    frames = framed(np.convolve(audio, LOW_PASS, "same") if len(audio) else audio, width, YIN_HOP)
    active = active_frames(audio, width, YIN_HOP)
    lags = np.zeros(len(frames))
    lags[active] = [_first_dip(row, shortest) for row in _normalised_difference(frames[active], longest + 1)]
    return np.where(lags > 0, SAMPLE_RATE / np.maximum(lags, 1), 0.0)


def _normalised_difference(frames: Audio, lags: int) -> Audio:
    """YIN's d'(lag) of frames [T, YIN_WINDOW + lags]: [T, lags + 1]."""
    size = 1 << int(np.ceil(np.log2(frames.shape[1] + YIN_WINDOW)))
    windows = np.fft.rfft(frames[:, :YIN_WINDOW], size)
    correlation = np.fft.irfft(np.fft.rfft(frames, size) * windows.conj(), size)[:, : lags + 1]
    energy = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    power = energy[:, YIN_WINDOW : YIN_WINDOW + lags + 1] - energy[:, : lags + 1]
    difference = np.maximum(power[:, :1] + power - 2 * correlation, 0.0)
    mean = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, lags + 1)
    return np.concatenate([np.ones((len(frames), 1)), difference[:, 1:] / np.maximum(mean, 1e-12)], axis=1)


def _first_dip(normalised: Audio, shortest: int) -> float:
    """The lag, in samples, of the bottom of the first dip below the threshold; 0 when there is none."""
    below = np.flatnonzero(normalised[shortest:-1] < YIN_THRESHOLD)
    if not len(below):
        return 0.0
    lag = int(below[0]) + shortest
    while lag + 2 < len(normalised) and normalised[lag + 1] < normalised[lag]:
        lag += 1
    left, bottom, right = normalised[lag - 1 : lag + 2]
    curvature = left - 2 * bottom + right
    return lag + (0.5 * (left - right) / curvature if curvature > 0 else 0.0)
