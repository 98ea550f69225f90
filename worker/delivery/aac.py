"""AAC in ADTS frames, written by PyAV, which the extra ``media`` brings."""

import io

import av
import numpy as np
import numpy.typing as npt

_BIT_RATE = 64_000
"""A second, of mono speech; the encoder takes less where the sample rate allows no more."""


class AacFile:
    """A file of mono AAC-LC; each frame of 1024 samples leaves when the next one is there.

    Args:
        sample_rate: Hz.

    Attributes:
        changes: Empty: nothing in such a file tells its length.
    """

    def __init__(self, sample_rate: int) -> None:
        self.changes: list[tuple[int, bytes]] = []
        self._bytes = io.BytesIO()
        self._rate = sample_rate
        self._container = av.open(self._bytes, "w", format="adts", options={"flush_packets": "1"})
        self._stream = self._container.add_stream("aac", sample_rate, layout="mono", bit_rate=_BIT_RATE)

    def write(self, wave: npt.NDArray[np.float32]) -> bytes:
        """Take float32 [n] in [-1, 1]; return the bytes that are ready."""
        if len(wave):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None]), format="fltp", layout="mono")
            frame.sample_rate = self._rate
            self._container.mux(self._stream.encode(frame))
        return self._taken()

    def close(self) -> bytes:
        """End the file and return its last bytes."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._taken()

    def _taken(self) -> bytes:
        new = self._bytes.getvalue()
        self._bytes.seek(0)
        self._bytes.truncate()
        return new
