"""Waveforms to the bytes of an audio file."""

import io
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import soundfile

AudioFormat = Literal["wav", "flac", "ogg", "opus", "mp3", "pcm"]
FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)

_CONTAINERS: dict[AudioFormat, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def encode_audio(wave: npt.NDArray[np.float32], sample_rate: int, audio_format: AudioFormat) -> bytes:
    """Encode mono audio.

    Args:
        wave: float32 [n] in [-1, 1]; what lies outside is clipped.
        sample_rate: Hz.
        audio_format: ``pcm`` is bare signed 16-bit little-endian samples; the others are files.
    """
    clipped = np.clip(wave, -1.0, 1.0)
    samples = np.round(clipped * 32767).astype("<i2")  # libsndfile would round down, which adds an offset
    if audio_format == "pcm":
        return samples.tobytes()
    container, subtype = _CONTAINERS[audio_format]
    file = io.BytesIO()
    data = samples if subtype == "PCM_16" else clipped
    soundfile.write(file, data, sample_rate, format=container, subtype=subtype)
    return file.getvalue()
