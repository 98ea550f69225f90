"""From waves, piece by piece, to the bytes of an audio file."""

import io
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import soundfile

from rwkv_tts.schema import AudioFormat

Wave = npt.NDArray[np.float32]
_CONTAINERS: dict[AudioFormat, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def encode_audio(waves: Iterable[Wave], sample_rate: int, audio_format: AudioFormat) -> bytes:
    """Encode mono audio that comes piece by piece.

    Args:
        waves: float32 [n] each, in [-1, 1]; what lies outside is clipped.
        sample_rate: Hz.
        audio_format: ``pcm`` is bare signed 16-bit little-endian samples; the others are files.
    """
    content = io.BytesIO()
    if audio_format == "pcm":
        content.writelines(_pcm(wave).tobytes() for wave in waves)
        return content.getvalue()
    container, subtype = _CONTAINERS[audio_format]
    with soundfile.SoundFile(content, "w", sample_rate, 1, subtype, format=container) as file:
        for wave in waves:
            file.write(_pcm(wave) if subtype == "PCM_16" else np.clip(wave, -1.0, 1.0))
    return content.getvalue()


def _pcm(wave: Wave) -> npt.NDArray[np.int16]:
    """Rounded to the nearest; libsndfile would round down, which adds an offset."""
    return np.round(np.clip(wave, -1.0, 1.0) * 32767).astype("<i2")
