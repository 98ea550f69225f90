"""Files of the formats that libsndfile writes, as bytes that leave as they come."""

import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import soundfile

from codec.ogg import pages, with_serial
from rwkv_tts.schema import AudioFormat

_CONTAINERS: dict[AudioFormat, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
_SET_PAGE_LATENCY = 0x1302
"""libsndfile's ``SFC_SET_OGG_PAGE_LATENCY_MS``, which the Python package has no name for."""

_PAGE_MILLISECONDS = 60.0
"""Of Opus in one page; libsndfile's own second would hold audio back for as long."""

_SERIAL = 1
"""Of OGG streams; libsndfile takes a random number, and the same audio would be other bytes every time."""

_VORBIS_BLOCK = 1024
"""Samples."""

_UNKNOWN_SIZE = b"\xff" * 4
_SIZES_OF_WAV = (4, 40)


class _Spool(io.RawIOBase):
    """What libsndfile takes for a file: new bytes gather to be taken, changes of earlier ones are noted."""

    def __init__(self) -> None:
        self._position = self._end = 0
        self._new = bytearray()
        self.changes: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, content: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        content = bytes(content)
        if self._position == self._end:
            self._new += content
        else:
            self.changes.append((self._position, content))
        self._position += len(content)
        self._end = max(self._end, self._position)
        return len(content)

    def take(self) -> bytes:
        """The new bytes, once."""
        new = bytes(self._new)
        self._new.clear()
        return new

    def take_pages(self) -> bytes:
        """The new whole pages of an OGG file, once."""
        whole = b"".join(with_serial(page, _SERIAL) for page in pages(bytes(self._new)))
        del self._new[: len(whole)]
        return whole


class SndFile:
    """A file of mono audio in one of libsndfile's formats.

    Args:
        sample_rate: Hz.
        audio_format: Any but ``pcm`` and ``aac``.

    Attributes:
        changes: Once it is closed: offsets and bytes of the file's head that differ from what was given, because
            they hold its length.
    """

    def __init__(self, sample_rate: int, audio_format: AudioFormat) -> None:
        self.changes: list[tuple[int, bytes]] = []
        self._format = audio_format
        self._spool = _Spool()
        self._begun = False
        self._rest = np.zeros(0, np.float32)
        container, self._subtype = _CONTAINERS[audio_format]
        self._file = soundfile.SoundFile(self._spool, "w", sample_rate, 1, self._subtype, format=container)
        if audio_format == "opus":
            _shorten_pages(self._file)

    def write(self, wave: npt.NDArray[np.float32]) -> bytes:
        """Take float32 [n] in [-1, 1]; return the bytes that are ready."""
        for block in self._blocks(wave) if self._format == "ogg" else (wave,):
            self._file.write(to_pcm(block) if self._subtype == "PCM_16" else block)
        return self._taken()

    def close(self) -> bytes:
        """End the file and return its last bytes."""
        self._file.write(self._rest)
        self._file.close()
        last = self._taken()
        self.changes = self._spool.changes
        return last

    def _blocks(self, wave: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
        """What is written to Vorbis at once decides where its pages end, so it is always as much."""
        wave = np.concatenate((self._rest, wave))
        end = len(wave) - len(wave) % _VORBIS_BLOCK
        self._rest = wave[end:]
        yield from np.split(wave[:end], end // _VORBIS_BLOCK) if end else ()

    def _taken(self) -> bytes:
        """New bytes; the head of a WAV says that its length is not known."""
        if self._format in ("ogg", "opus"):
            return self._spool.take_pages()
        content = self._spool.take()
        if self._format != "wav" or self._begun or not content:
            return content
        self._begun = True
        head = bytearray(content)
        for offset in _SIZES_OF_WAV:
            head[offset : offset + 4] = _UNKNOWN_SIZE
        self._spool.changes.clear()
        return bytes(head)


def to_pcm(wave: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """16-bit samples, rounded to the nearest; libsndfile would round down, which adds an offset."""
    return np.round(wave * 32767).astype("<i2")


def _shorten_pages(file: soundfile.SoundFile) -> None:
    latency = soundfile._ffi.new("double *", _PAGE_MILLISECONDS)
    soundfile._snd.sf_command(file._file, _SET_PAGE_LATENCY, latency, soundfile._ffi.sizeof("double"))
