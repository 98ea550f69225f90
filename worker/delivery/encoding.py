"""From waves, piece by piece, to the bytes of an audio file."""

import io
from collections.abc import Iterable
from typing import Self

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


class AudioFile:
    """A mono audio file in the making; as a context it is finished at the end.

    Args:
        sample_rate: Hz.
        audio_format: ``pcm`` is bare signed 16-bit little-endian samples; the others are files.

    Attributes:
        content: The bytes; whole when the file is finished.
    """

    def __init__(self, sample_rate: int, audio_format: AudioFormat) -> None:
        self._bytes = io.BytesIO()
        self._file: soundfile.SoundFile | None = None
        self._subtype = "PCM_16"
        if audio_format != "pcm":
            container, self._subtype = _CONTAINERS[audio_format]
            self._file = soundfile.SoundFile(
                self._bytes, "w", sample_rate, channels=1, format=container, subtype=self._subtype
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def content(self) -> bytes:
        return self._bytes.getvalue()

    def append(self, wave: Wave) -> None:
        """Add samples.

        Args:
            wave: float32 [n] in [-1, 1]; what lies outside is clipped.
        """
        clipped = np.clip(wave, -1.0, 1.0)
        samples = np.round(clipped * 32767).astype("<i2")  # libsndfile would round down, which adds an offset
        if self._file is None:
            self._bytes.write(samples.tobytes())
        else:
            self._file.write(samples if self._subtype == "PCM_16" else clipped)


def encode_audio(waves: Iterable[Wave], sample_rate: int, audio_format: AudioFormat) -> bytes:
    """Encode mono audio, waves float32 [n] that follow one another, as a whole."""
    with AudioFile(sample_rate, audio_format) as file:
        for wave in waves:
            file.append(wave)
    return file.content
