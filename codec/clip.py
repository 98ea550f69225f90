"""Recordings as Spark-TTS prepares them: one loudness for all, a clip of fixed length for the voice."""

import numpy as np
from numpy.typing import NDArray

CLIP_SECONDS = 6
TARGET_VOLUME = 0.2
QUIET_PEAK = 0.1
SILENT_PEAK = 1e-3
SPEECH_FLOOR = 0.01
MIN_SPEECH_SAMPLES = 10
GAIN_LIMITS = (0.1, 10.0)

Audio = NDArray[np.float64]
"""Samples of one channel, [N]; full scale is [-1, 1]."""


def check_audio(audio: Audio) -> None:
    """Refuse what is not one channel of finite samples.

    Raises:
        ValueError: The shape or a sample is wrong.
    """
    if audio.ndim != 1 or not audio.size:
        raise ValueError(f"audio: got shape {list(audio.shape)}, expected [N] with N at least 1")
    if not np.isfinite(audio).all():
        raise ValueError("audio: got samples that are infinite or not a number, expected finite ones")


def normalize_volume(audio: Audio) -> Audio:
    """Scale samples float64 [N] so that loud speech, its 90th to 99th percentile, averages 0.2 of full scale.

    The gain is limited to a factor of ten either way, and no sample exceeds full scale. A recording with a
    peak below 0.1 is first raised to it; as in Spark-TTS its gain still follows from the levels before that.

    Raises:
        ValueError: There are no samples, or one is not a finite number.
    """
    check_audio(audio)
    levels = np.sort(np.abs(audio))
    if levels[-1] < QUIET_PEAK:
        audio = audio / max(levels[-1], SILENT_PEAK) * QUIET_PEAK
    levels = levels[levels > SPEECH_FLOOR]
    count = len(levels)
    if count <= MIN_SPEECH_SAMPLES:
        return audio
    volume = levels[int(0.9 * count) : int(0.99 * count)].mean()
    audio = audio * np.clip(TARGET_VOLUME / volume, *GAIN_LIMITS)
    peak: float = np.abs(audio).max()
    return audio / max(1.0, peak)


def trim_silence(audio: Audio) -> Audio:
    """Samples float64 [N] without those at both ends that are within 0.01 of zero: none when all of them are.

    Raises:
        ValueError: There are no samples, or one is not a finite number.
    """
    check_audio(audio)
    loud = np.flatnonzero(np.abs(audio) > SPEECH_FLOOR)
    return audio[loud[0] : loud[-1] + 1] if len(loud) else audio[:0]


def voice_clip(audio: Audio, sample_rate: int, hop: int) -> Audio:
    """The first 6 s of samples float64 [N], in whole tokens; shorter audio is repeated until it is long enough.

    Args:
        audio: A recording.
        sample_rate: In hertz.
        hop: Samples of a token.

    Raises:
        ValueError: There are no samples, or one is not a finite number.
    """
    check_audio(audio)
    return np.resize(audio, CLIP_SECONDS * sample_rate // hop * hop)
