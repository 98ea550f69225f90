"""WAV files whose sizes are wrong: what is read are their samples, all of them and nothing else."""

import struct

import numpy as np
import pytest

from codec.recording import RecordingError, read_recording
from codec.wav import only_audio
from hostile_audio import RATE, chunk, encode, good, pcm, speech, wav, wav_format

INTACT = good("wav_16", 1.0)
UNKNOWN = 0xFFFFFFFF
TAGS = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 4) + b"abcd") + chunk(b"id3 ", b"ID3" + bytes(21))


def samples(data: bytes) -> bytes:
    """Of the file that is left, which is one that any program reads."""
    clean = only_audio(data)
    assert int.from_bytes(clean[4:8], "little") == len(clean) - 8
    assert int.from_bytes(clean[40:44], "little") == len(clean) - 44
    return clean[44:]


def of_sizes(riff: int, data: int, after: bytes = b"", riff_id: bytes = b"RIFF", extra: bytes = b"") -> bytes:
    return wav(extra, wav_format(), chunk(b"data", pcm(speech(1.0)), data), after, riff=riff_id, size=riff)


@pytest.mark.parametrize("size", [0, UNKNOWN, 0x7FFFFFFF, 1, 2, 320, 31_000, 32_002, 64_000])
@pytest.mark.parametrize("riff", [0, 36, UNKNOWN])
def test_sizes_that_lie_are_read_to_the_end(riff: int, size: int) -> None:
    assert samples(of_sizes(riff, size)) == pcm(speech(1.0))


@pytest.mark.parametrize("after", [TAGS, TAGS + bytes(3)])
def test_what_comes_after_the_samples_is_no_audio(after: bytes) -> None:
    assert samples(of_sizes(0, 32_000, after)) == pcm(speech(1.0))


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
@pytest.mark.parametrize("after", [b"", TAGS])
def test_the_size_of_a_large_file_is_elsewhere(name: bytes, after: bytes) -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, 32_000, 16_000, 0))
    assert samples(of_sizes(UNKNOWN, UNKNOWN, after, name, sizes)) == pcm(speech(1.0))


@pytest.mark.parametrize("encoding", ["PCM_U8", "PCM_24", "FLOAT", "ALAW"])
def test_an_intact_file_keeps_its_samples(encoding: str) -> None:
    data = encode(speech(1.0), RATE, "WAV", encoding)
    piped = data[:4] + b"\xff" * 4 + data[8:]
    at = piped.index(b"data") + 4
    piped = piped[:at] + b"\xff" * 4 + piped[at + 4 :]
    np.testing.assert_array_equal(read_recording(piped), read_recording(data))


@pytest.mark.parametrize(
    "data", [wav(), wav(wav_format()), wav(chunk(b"data", b"abcd")), wav(chunk(b"x", b"", 2**31))]
)
def test_a_file_without_format_or_samples_is_none(data: bytes) -> None:
    assert only_audio(data) == b""
    with pytest.raises(RecordingError, match="recording is no readable WAV"):
        read_recording(data)
