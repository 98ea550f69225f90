"""Recordings of phones and browsers, which FFmpeg decodes by way of PyAV, in a process of their own.

Whatever that process does, it ends soon, and what it says is not trusted: ``codec.media_child`` says what it may.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

SECONDS = 15.0
"""That a recording may take; its processor time is limited to less."""
CHILD = Path(__file__).with_name("media_child.py")
MOST_LINE = 500
BYTES = 4
"""Of a sample."""


class MediaError(ValueError):
    """A file is not read; the message is a reason in a few words."""


@dataclass(frozen=True)
class Media:
    """A file that is being decoded.

    Attributes:
        rate: Hz.
        channels: At least one.
    """

    rate: int
    channels: int
    _samples: IO[bytes]

    def read(self, frames: int) -> NDArray[np.float64]:
        """The next samples, float64 [n, channels] with n up to ``frames``; none at the end."""
        content = self._samples.read(frames * self.channels * BYTES)
        whole = len(content) - len(content) % (self.channels * BYTES)
        return np.frombuffer(content[:whole], "<f4").astype(np.float64).reshape(-1, self.channels)


def missing() -> str | None:
    """What a worker lacks that is to read such files; None where it has all."""
    return None if find_spec("av") else "PyAV (pip install 'rwkv-tts-worker[media]')"


@contextmanager
def opened(data: bytes, demuxer: str) -> Iterator[Media]:
    """Start decoding a file with one of FFmpeg's demuxers; what is left of it in the end is killed.

    Raises:
        MediaError: It is not readable, or decoding it has failed, which may only turn out in the end.
    """
    command = [sys.executable, "-I", str(CHILD), demuxer]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, cwd="/", env={}) as child:  # noqa: S603
        watch = threading.Timer(SECONDS, child.kill)
        watch.start()
        try:
            hand_over(child, data)
            yield started(child)
            if child.wait():
                raise MediaError("decoding it took too much, or failed")
        finally:
            watch.cancel()
            child.kill()


def hand_over(child: "subprocess.Popen[bytes]", data: bytes) -> None:
    """Give a process a file on its standard input; one that is gone takes none."""
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write(data)
    with suppress(BrokenPipeError):
        child.stdin.close()


def started(child: "subprocess.Popen[bytes]") -> Media:
    """What a process says that a file is.

    Raises:
        MediaError: It is not readable.
    """
    assert child.stdout is not None
    try:
        said = json.loads(child.stdout.readline(MOST_LINE))
        if isinstance(reason := said.get("refused"), str):
            raise MediaError("".join(filter(str.isprintable, reason)))
        rate, channels = int(said["rate"]), int(said["channels"])
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, OverflowError):
        raise MediaError("it holds no audio that can be decoded") from None
    if channels < 1:
        raise MediaError("it has no channels")
    return Media(rate, channels, child.stdout)
