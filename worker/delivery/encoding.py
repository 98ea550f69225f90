"""From waves, piece by piece, to the bytes of an audio file, as they come."""

import io
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soxr

from rwkv_tts.schema import FORMATS, AudioFormat
from worker.delivery.sndfile import SndFile, to_pcm

Wave = npt.NDArray[np.float32]
_QUALITY = "VHQ"
_NOTHING = np.zeros(0, np.float32)


class _File(Protocol):
    """What takes samples and gives the bytes of one file."""

    changes: list[tuple[int, bytes]]

    def write(self, wave: Wave, /) -> bytes: ...

    def close(self) -> bytes: ...


class _BareFile:
    """Signed 16-bit little-endian samples and nothing else."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, bytes]] = []

    def write(self, wave: Wave, /) -> bytes:
        return to_pcm(wave).tobytes()

    def close(self) -> bytes:
        return b""


class AudioEncoder:
    """Encodes mono audio that comes piece by piece.

    Args:
        sample_rate: Of the waves, Hz.
        audio_format: ``pcm`` is bare signed 16-bit little-endian samples; the others are files.
        file_rate: Of the file, Hz; that of the waves when None.

    Raises:
        ImportError: The format has an ``obstacle``.
    """

    def __init__(self, sample_rate: int, audio_format: AudioFormat, file_rate: int | None = None) -> None:
        file_rate = file_rate or sample_rate
        self._file = _opened(audio_format, file_rate)
        self._resampler = None
        if file_rate != sample_rate:
            self._resampler = soxr.ResampleStream(sample_rate, file_rate, 1, dtype="float32", quality=_QUALITY)

    @property
    def changes(self) -> list[tuple[int, bytes]]:
        """Once it is closed: offsets and bytes of the file's head that differ from what was given.

        They hold its length.
        """
        return self._file.changes

    def encode(self, wave: Wave) -> bytes:
        """Take float32 [n] in [-1, 1], where what lies outside is clipped; return the bytes that are ready."""
        return self._file.write(self._resampled(np.clip(wave, -1, 1)))

    def close(self) -> bytes:
        """End the file and return its last bytes."""
        return self._file.write(self._resampled(_NOTHING, last=True)) + self._file.close()

    def _resampled(self, wave: Wave, *, last: bool = False) -> Wave:
        """Samples at the file's rate; together they are the same in whatever pieces they come."""
        if self._resampler is None:
            return wave
        resampled: Wave = self._resampler.resample_chunk(wave, last=last)
        return np.clip(resampled, -1, 1)


def _opened(audio_format: AudioFormat, sample_rate: int) -> _File:
    if audio_format == "pcm":
        return _BareFile()
    if audio_format == "aac":
        from worker.delivery.aac import AacFile  # needs PyAV

        return AacFile(sample_rate)
    return SndFile(sample_rate, audio_format)


def obstacle(audio_format: AudioFormat) -> str | None:
    """Why a format cannot be written here, and which can; None where it can."""
    if audio_format != "aac" or find_spec("av") is not None:
        return None
    others = ", ".join(one for one in FORMATS if one != "aac")
    return f"the worker lacks PyAV (pip install 'rwkv-tts-worker[media]'); accepted: {others}"


def complete(content: io.BytesIO, encoder: AudioEncoder) -> bytes:
    """The whole file, from all that its closed encoder gave: its head now tells its length.

    The bytes are those of ``content``, not a copy.
    """
    for offset, new in encoder.changes:
        content.seek(offset)
        content.write(new)
    return content.getvalue()
