"""Recordings as strangers send them: bytes to speech at the codec's rate, or a reason why not."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from codec import media
from codec.activity import activity, speech_spans
from codec.clip import Audio, normalize_volume, trim_silence
from codec.faults import ends_in_speech, faults
from codec.mp3 import only_frames
from codec.ogg import only_pages
from codec.wav import only_audio

QUALITY = "VHQ"
BLOCK_FRAMES = 1 << 16
MIN_RATE = 8000
"""In hertz."""
LOUDEST = 1e6
"""Floating-point samples may exceed full scale, but those beyond this are no audio."""
FLATTEST = 2e-4
"""Peak to peak, for silence with an offset: a tenth of what 8 bits can hold."""
LEAST_CUT = 0.3
"""Seconds; a recording with less of what is no speech stays as it is."""
UNKNOWN_FRAMES = (1 << 63) - 1
"""libsndfile's number of a FLAC stream whose encoder could not go back to write its length."""

SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"),
    "AIFF": ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}
"""Encodings that are read here, by container: few, because native code decodes them."""
DEMUXERS = {"M4A": "mov", "WEBM": "matroska", "AAC": "aac", "CAF": "caf", "AMR": "amr"}
"""FFmpeg's names of the containers that ``codec.media`` reads."""
ACCEPTED = (
    "expected WAV (PCM, ADPCM, float, A-law or mu-law), AIFF, FLAC, OGG (Vorbis or Opus), MP3, or with the extra "
    "'media' M4A, AAC, WebM, CAF or AMR"
)
CLEAN = {"WAV": only_audio, "MP3": only_frames, "OGG": only_pages}
"""What is done to files whose headers lie, or whose decoders would search what is none at length."""
STARTS = {
    "WAV": re.compile(rb"(RIFF|RF64|BW64)....WAVE", re.DOTALL),
    "AIFF": re.compile(rb"FORM....AIF[FC]", re.DOTALL),
    "FLAC": re.compile(rb"fLaC"),
    "OGG": re.compile(rb"OggS"),
    "M4A": re.compile(rb"....ftyp", re.DOTALL),
    "WEBM": re.compile(rb"\x1a\x45\xdf\xa3"),
    "CAF": re.compile(rb"caff"),
    "AMR": re.compile(rb"#!AMR"),
    "AAC": re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"),
    "MP3": re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"),
}
"""How files begin."""
EXTENSIBLE = "WAVEX"
"""libsndfile's name of a WAV file with a longer header."""


class RecordingError(ValueError):
    """A recording is refused; the message is one line that says why, and what is accepted."""


@dataclass(frozen=True)
class RecordingLimits:
    """What a recording may be at most and at least.

    Attributes:
        max_bytes: Size of the file.
        max_seconds: Length of the audio.
        min_seconds: Length of the audio, also without the silence at its ends.
        max_channels: Channels of the file.
        max_rate: Sample rate of the file, in hertz; the least is 8000.
    """

    max_bytes: int = 8 << 20
    max_seconds: float = 60.0
    min_seconds: float = 0.1
    max_channels: int = 8
    max_rate: int = 192_000


DEFAULT_LIMITS = RecordingLimits()


class Recorded(NamedTuple):
    """What a recording is to the codec.

    Attributes:
        speech: Samples float64 [N] in [-1, 1].
        faults: Why its voice may not be the speaker's.
        cut_off: Whether it ends within a word.
    """

    speech: Audio
    faults: tuple[str, ...]
    cut_off: bool


class Content(BytesIO):
    """A file for libsndfile, which may seek where a hostile one sends it."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:  # before its beginning
            return self.tell()


class Opened(NamedTuple):
    """A file that is being read.

    Attributes:
        rate: Hz.
        channels: As the header tells them.
        frames: Samples of a channel, as the header tells them; 0 where it does not.
        read: Gives the next samples, float64 [n, channels]; none at the end.
    """

    rate: int
    channels: int
    frames: int
    read: Callable[[], NDArray[np.float64]]


def read_recording(
    data: bytes, limits: RecordingLimits = DEFAULT_LIMITS, sample_rate: int = 16000
) -> NDArray[np.float64]:
    """Decode a file to speech as the codec's encoder expects it.

    The mean of the channels, resampled by soxr at its best quality, of normalised volume, and without what is
    below 1 % of full scale at its ends, as rwkv-tts-rs prepares recordings. Where more of it is no speech (long
    pauses, clicks by themselves, music, hum), that is left out first.

    Headers are not trusted: whatever a file claims, memory is a few MB and what ``max_seconds`` at ``sample_rate``
    need.

    Args:
        data: One of the formats in ``STARTS``, told apart by content.
        limits: What it may be at most and at least.
        sample_rate: Of the result, in hertz.

    Returns:
        Samples float64 [N] in [-1, 1].

    Raises:
        RecordingError: The file is refused.
    """
    return recorded(decode(data, limits, sample_rate), limits, sample_rate).speech


def recorded(audio: Audio, limits: RecordingLimits, sample_rate: int) -> Recorded:
    """What is spoken in samples float64 [N].

    Raises:
        RecordingError: Nothing is, or too little.
    """
    check_shortest(audio, sample_rate, limits)
    if np.ptp(audio) <= FLATTEST:
        raise RecordingError("recording is silent, expected speech")
    heard = activity(audio, sample_rate)
    spans = speech_spans(heard.spoken, sample_rate)
    pieces = [audio[begin:end] for begin, end in spans]
    if sum(map(len, pieces)) > len(audio) - LEAST_CUT * sample_rate or not pieces:
        pieces = [audio]
    speech = trim_silence(normalize_volume(np.concatenate(pieces)))
    check_shortest(speech, sample_rate, limits, " without the silence at its ends")
    return Recorded(speech, tuple(faults(audio, heard)), ends_in_speech(heard))


def decode(data: bytes, limits: RecordingLimits, sample_rate: int) -> Audio:
    """A file's bytes to samples float64 [N], the mean of its channels, at ``sample_rate`` hertz.

    Raises:
        RecordingError: The file is not read, or beyond a limit.
    """
    if len(data) > limits.max_bytes:
        raise RecordingError(f"recording of {len(data)} bytes, expected at most {limits.max_bytes}")
    container = starts_as(data)
    if container is None:
        raise RecordingError(f"recording in an unknown format, {ACCEPTED}")
    try:
        with (opened_media if container in DEMUXERS else opened_here)(data, container) as file:
            check_header(file, limits)
            blocks = resampled(mono_blocks(file, limits), file.rate, sample_rate)
            return np.concatenate([np.zeros(0), *blocks])
    except (soundfile.LibsndfileError, media.MediaError) as error:
        reason = " ".join(getattr(error, "error_string", str(error)).split()).rstrip(".")
        raise RecordingError(f"recording is no readable {container} ({reason}), {ACCEPTED}") from None


@contextmanager
def opened_here(data: bytes, container: str) -> Iterator[Opened]:
    """A file that libsndfile reads.

    Raises:
        RecordingError: Its encoding is not accepted.
    """
    with soundfile.SoundFile(Content(CLEAN.get(container, bytes)(data))) as file:
        found = "WAV" if file.format == EXTENSIBLE else file.format
        if found != container or file.subtype not in SUBTYPES[container]:
            raise RecordingError(f"recording is {file.format} with {file.subtype}, {ACCEPTED}")
        frames = 0 if file.frames == UNKNOWN_FRAMES else file.frames
        yield Opened(file.samplerate, file.channels, frames, partial(next_block, file))


@contextmanager
def opened_media(data: bytes, container: str) -> Iterator[Opened]:
    """A file that PyAV reads.

    Raises:
        RecordingError: There is no PyAV.
    """
    if (lacking := media.missing()) is not None:
        raise RecordingError(f"recording is {container}, for which the worker lacks {lacking}, {ACCEPTED}")
    with media.opened(data, DEMUXERS[container]) as file:
        yield Opened(file.rate, file.channels, 0, partial(file.read, BLOCK_FRAMES))


def starts_as(data: bytes) -> str | None:
    """The container that a file's first bytes announce."""
    for container, start in STARTS.items():
        if start.match(data):
            return container
    return None


def check_header(file: Opened, limits: RecordingLimits) -> None:
    """Refuse a file that is not within the limits.

    Raises:
        RecordingError: It is refused.
    """
    if not 1 <= file.channels <= limits.max_channels:
        raise RecordingError(f"recording of {file.channels} channels, expected 1 to {limits.max_channels}")
    if not MIN_RATE <= file.rate <= limits.max_rate:
        raise RecordingError(f"recording at {file.rate} Hz, expected {MIN_RATE} to {limits.max_rate} Hz")
    check_longest(file.frames, file.rate, limits)


def check_longest(frames: int, rate: int, limits: RecordingLimits) -> None:
    """Refuse more samples of a channel, at ``rate`` hertz, than the limits allow.

    Raises:
        RecordingError: There are more.
    """
    if frames > limits.max_seconds * rate:
        raise RecordingError(
            f"recording of at least {frames / rate:.6g} s, expected at most {limits.max_seconds:g} s"
        )


def check_shortest(audio: Audio, rate: int, limits: RecordingLimits, of_what: str = "") -> None:
    """Refuse fewer samples, at ``rate`` hertz, than the limits allow; ``of_what`` follows the length found.

    Raises:
        RecordingError: There are fewer.
    """
    if len(audio) < limits.min_seconds * rate:
        raise RecordingError(
            f"recording of {len(audio) / rate:.2f} s{of_what}, expected at least {limits.min_seconds:g} s"
        )


def next_block(file: soundfile.SoundFile) -> NDArray[np.float64]:
    """The next samples, float64 [n, channels]; soundfile's own method seeks, which not every file allows."""
    block = np.empty((BLOCK_FRAMES, file.channels))
    pointer = soundfile._ffi.cast("double *", block.ctypes.data)
    count = soundfile._snd.sf_readf_double(file._file, pointer, BLOCK_FRAMES)
    soundfile._error_check(file._errorcode)
    return block[:count]


def mono_blocks(file: Opened, limits: RecordingLimits) -> Iterator[Audio]:
    """The mean of the channels, block by block, float64 [n].

    Raises:
        RecordingError: The file goes on beyond the limits, or has samples that are no audio.
    """
    frames = 0
    while len(block := file.read()):
        frames += len(block)
        check_longest(frames, file.rate, limits)
        # Also false for what is not a number.
        if not (np.abs(block) <= LOUDEST).all():
            raise RecordingError(f"recording has samples beyond {LOUDEST:g} or not numbers, expected -1 to 1")
        yield block.mean(axis=1)


def resampled(blocks: Iterator[Audio], rate: int, sample_rate: int) -> Iterator[Audio]:
    """Blocks at one rate, in hertz, to blocks at another: together what ``soxr.resample`` makes of the whole."""
    if rate == sample_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float64", quality=QUALITY)
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0), last=True)
