"""Recordings as strangers send them: bytes to speech at the codec's rate, or a reason why not."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from codec.clip import Audio, normalize_volume, trim_silence
from codec.mp3 import only_frames
from codec.ogg import only_pages

QUALITY = "VHQ"
BLOCK_FRAMES = 1 << 16
MIN_RATE = 8000
"""In hertz."""
LOUDEST = 1e6
"""Floating-point samples may exceed full scale, but those beyond this are no audio."""
FLATTEST = 2e-4
"""Peak to peak, for silence with an offset: a tenth of what 8 bits can hold."""
UNKNOWN_FRAMES = (1 << 63) - 1
"""Of a FLAC stream whose encoder could not go back to write its length: soundfile fails to read it."""

SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}
"""Encodings that are read, by container: few, because native code decodes them."""
ACCEPTED = "expected WAV (PCM, float, A-law or mu-law), FLAC, OGG (Vorbis or Opus) or MP3"
CLEAN = {"MP3": only_frames, "OGG": only_pages}
"""What is done to files of containers whose decoders would search what is none at length."""
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


def read_recording(
    data: bytes, limits: RecordingLimits = DEFAULT_LIMITS, sample_rate: int = 16000
) -> NDArray[np.float64]:
    """Decode a file to speech as the codec's encoder expects it.

    The mean of the channels, resampled by soxr at its best quality, of normalised volume, and without what is
    below 1 % of full scale at its ends, as rwkv-tts-rs prepares recordings.

    Headers are not trusted: whatever a file claims, memory is a few MB and what ``max_seconds`` at ``sample_rate``
    need.

    Args:
        data: WAV, FLAC, OGG with Vorbis or Opus, or MP3, told apart by content.
        limits: What it may be at most and at least.
        sample_rate: Of the result, in hertz.

    Returns:
        Samples float64 [N] in [-1, 1].

    Raises:
        RecordingError: The file is refused.
    """
    if len(data) > limits.max_bytes:
        raise RecordingError(f"recording of {len(data)} bytes, expected at most {limits.max_bytes}")
    audio = decode(data, limits, sample_rate)
    check_shortest(audio, sample_rate, limits)
    speech = trim_silence(normalize_volume(audio)) if np.ptp(audio) > FLATTEST else audio[:0]
    if not len(speech):
        raise RecordingError("recording is silent, expected speech")
    check_shortest(speech, sample_rate, limits, " without the silence at its ends")
    return speech


def decode(data: bytes, limits: RecordingLimits, sample_rate: int) -> Audio:
    """A file's bytes to samples float64 [N], the mean of its channels, at ``sample_rate`` hertz.

    Raises:
        RecordingError: The file is not read, or beyond a limit.
    """
    container = starts_as(data)
    if container is None:
        raise RecordingError(f"recording in an unknown format, {ACCEPTED}")
    clean = CLEAN.get(container)
    data = clean(data) if clean else data
    try:
        with soundfile.SoundFile(BytesIO(data)) as file:
            check_header(file, container, limits)
            blocks = resampled(mono_blocks(file, limits), file.samplerate, sample_rate)
            return np.concatenate([np.zeros(0), *blocks])
    except soundfile.LibsndfileError as error:
        reason = " ".join(error.error_string.split()).rstrip(".")
        raise RecordingError(f"recording is no readable {container} ({reason}), {ACCEPTED}") from None


def starts_as(data: bytes) -> str | None:
    """The container that a file's first bytes announce."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "WAV"
    if data[:4] in (b"fLaC", b"OggS"):
        return "FLAC" if data[:1] == b"f" else "OGG"
    sync_of_layer_3 = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2
    return "MP3" if sync_of_layer_3 or data[:3] == b"ID3" else None


def check_header(file: soundfile.SoundFile, container: str, limits: RecordingLimits) -> None:
    """Refuse a header that is not of an accepted encoding or not within the limits.

    Raises:
        RecordingError: It is refused.
    """
    found = "WAV" if file.format == EXTENSIBLE else file.format
    if found != container or file.subtype not in SUBTYPES[container]:
        raise RecordingError(f"recording is {file.format} with {file.subtype}, {ACCEPTED}")
    if not 1 <= file.channels <= limits.max_channels:
        raise RecordingError(f"recording of {file.channels} channels, expected 1 to {limits.max_channels}")
    if not MIN_RATE <= file.samplerate <= limits.max_rate:
        raise RecordingError(f"recording at {file.samplerate} Hz, expected {MIN_RATE} to {limits.max_rate} Hz")
    if file.frames == UNKNOWN_FRAMES:
        raise RecordingError("recording of unknown length, expected a file whose header tells its length")
    check_longest(file.frames, file.samplerate, limits)


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


def mono_blocks(file: soundfile.SoundFile, limits: RecordingLimits) -> Iterator[Audio]:
    """The mean of the channels, block by block, float64 [n].

    Raises:
        RecordingError: The file goes on beyond the limits, or has samples that are no audio.
    """
    frames = 0
    while len(block := file.read(BLOCK_FRAMES, always_2d=True)):
        frames += len(block)
        check_longest(frames, file.samplerate, limits)
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
