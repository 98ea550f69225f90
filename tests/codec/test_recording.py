"""Files to speech: every good format, every limit, and hundreds of hostile ones."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

import codec
import hostile_audio
from codec.clip import normalize_volume, trim_silence
from codec.recording import RecordingError, RecordingLimits, read_recording
from hostile_audio import GOOD_ENCODINGS, encode, good, hostile_recordings, speech

RATE = 16000
HERTZ = 440.0
MAX_SECONDS = 4.0
MAX_MEGABYTES = 100.0


def tone(rate: int, seconds: float = 2.0) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * HERTZ * np.arange(round(rate * seconds)) / rate)


def pitch(audio: NDArray[np.float64]) -> float:
    """Of the strongest frequency, in hertz."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 18))
    return float(spectrum.argmax()) * RATE / (1 << 18)


def prepared(audio: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """What a recording should become, as the fact sheet tells it."""
    return trim_silence(normalize_volume(soxr.resample(audio, rate, RATE, quality="VHQ")))


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("name", GOOD_ENCODINGS)
def test_good_files(name: str, rate: int) -> None:
    audio = read_recording(encode(tone(rate), rate, *GOOD_ENCODINGS[name]))
    assert audio.dtype == np.float64
    assert pitch(audio) == pytest.approx(HERTZ, abs=0.5)
    assert len(audio) / RATE == pytest.approx(2.0, abs=0.01)
    assert np.percentile(np.abs(audio), 95) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("name", ["wav_16", "flac_24", "vorbis", "mp3"])
@pytest.mark.parametrize("rate", [11025, 22050, 44100])
def test_rates_of_music(name: str, rate: int) -> None:
    audio = read_recording(encode(tone(rate), rate, *GOOD_ENCODINGS[name]))
    assert pitch(audio) == pytest.approx(HERTZ, abs=0.5)
    assert len(audio) / RATE == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000, 192000])
def test_equals_soxr_of_the_whole(rate: int) -> None:
    audio = speech(3.3, rate)
    read = read_recording(encode(audio, rate, "WAV", "DOUBLE"))
    np.testing.assert_array_equal(read, prepared(audio, rate))


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_mean_of_channels(channels: int) -> None:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, channels))
    read = read_recording(encode(audio, RATE, "WAV", "DOUBLE"))
    np.testing.assert_array_equal(read, prepared(audio.mean(axis=1), RATE))


@pytest.mark.parametrize("name", ["vorbis", "opus", "mp3"])
def test_stereo_of_lossy_formats(name: str) -> None:
    audio = np.stack([tone(48000), np.zeros(96000)], axis=1)
    assert pitch(read_recording(encode(audio, 48000, *GOOD_ENCODINGS[name]))) == pytest.approx(HERTZ, abs=0.5)


def test_silence_at_the_ends_is_cut() -> None:
    audio = np.concatenate([np.zeros(5000), tone(RATE, 1.0), np.zeros(7000)])
    read = read_recording(encode(audio, RATE, "WAV", "PCM_16"))
    assert len(read) == pytest.approx(RATE, abs=20)
    assert np.abs(read[[0, -1]]).min() > 0.01


def of_unknown_length(flac: bytes) -> bytes:
    """A FLAC file as it is written to a pipe."""
    return flac[:18] + (int.from_bytes(flac[18:26]) & ~((1 << 36) - 1)).to_bytes(8) + flac[26:]


def test_a_flac_file_of_unknown_length_is_read_to_its_end() -> None:
    data = encode(speech(5.0), RATE, "FLAC", "PCM_16")
    np.testing.assert_array_equal(read_recording(of_unknown_length(data)), read_recording(data))


def test_a_flac_file_of_unknown_length_may_last_no_longer_than_others() -> None:
    with pytest.raises(RecordingError, match="expected at most 1 s"):
        read_recording(of_unknown_length(good("flac_16", 1.1)), RecordingLimits(max_seconds=1.0))


@pytest.mark.parametrize("name", ["rf64", "aiff", "wavex"])
def test_the_same_samples_are_the_same_recording(name: str) -> None:
    np.testing.assert_array_equal(read_recording(good(name)), read_recording(good("wav_16")))


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("encoding", ["IMA_ADPCM", "MS_ADPCM"])
def test_adpcm_is_read(encoding: str, rate: int) -> None:
    """Its last block may be filled up."""
    audio = read_recording(encode(tone(rate), rate, "WAV", encoding))
    assert pitch(audio) == pytest.approx(HERTZ, abs=0.5)
    assert len(audio) / RATE == pytest.approx(2.0, abs=0.15)


def test_tags_around_an_mp3() -> None:
    data = good("mp3")
    tag = b"ID3\x04\x00\x00\x00\x00\x20\x00" + bytes(4096)
    tagged = tag + data + b"TAG" + bytes(125)
    np.testing.assert_array_equal(read_recording(tagged), read_recording(data))


@pytest.mark.parametrize("name", ["opus", "vorbis"])
def test_an_ogg_file_with_a_damaged_place(name: str) -> None:
    data = encode(tone(RATE, 9.0), RATE, *GOOD_ENCODINGS[name])
    page = data.index(b"OggS", len(data) // 2)
    damaged = data[:page] + b"OggS" * 100 + data[page:]
    np.testing.assert_array_equal(read_recording(damaged), read_recording(data))


def test_an_mp3_with_a_damaged_place() -> None:
    audio = encode(tone(RATE), RATE, "MP3", "MPEG_LAYER_III")
    damaged = audio[:4000] + b"\xff\xfb" * 500 + audio[4000:]
    read = read_recording(damaged)
    assert len(read) / RATE == pytest.approx(2.0, abs=0.15)
    assert pitch(read) == pytest.approx(HERTZ, abs=0.5)


LIMITS = RecordingLimits(max_bytes=40_000, max_seconds=1.0, min_seconds=0.4, max_channels=2, max_rate=48000)


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "message"),
    [
        (0.5, 44100, 1, "recording of 44144 bytes, expected at most 40000"),
        (1.1, 16000, 1, "recording of at least 1.1 s, expected at most 1 s"),
        (0.3, 16000, 1, "recording of 0.30 s, expected at least 0.4 s"),
        (0.2, 16000, 3, "recording of 3 channels, expected 1 to 2"),
        (0.1, 96000, 1, "recording at 96000 Hz, expected 8000 to 48000 Hz"),
        (0.5, 4000, 1, "recording at 4000 Hz, expected 8000 to 48000 Hz"),
    ],
)
def test_limits(seconds: float, rate: int, channels: int, message: str) -> None:
    audio = np.tile(speech(seconds, rate)[:, None], channels)
    with pytest.raises(RecordingError) as refused:
        read_recording(encode(audio, rate, "WAV", "PCM_16"), LIMITS)
    assert str(refused.value) == message


def test_limits_are_inclusive() -> None:
    audio = np.stack([speech(1.0)] * 2, axis=1)
    limits = RecordingLimits(len(encode(audio, RATE, "WAV", "PCM_U8")), 1.0, 0.99, 2, RATE)
    assert len(read_recording(encode(audio, RATE, "WAV", "PCM_U8"), limits)) <= RATE


def test_a_rate_that_rounds_up_may_last_the_longest() -> None:
    audio = speech(60.0, 44100)
    assert len(read_recording(encode(audio, 44100, "FLAC", "PCM_16"))) <= 60 * RATE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "recording in an unknown format, expected WAV"),
        (encode(speech(), 8000, "WAV", "GSM610"), "recording is WAV with GSM610, expected WAV"),
        (encode(speech(), RATE, "AU", "PCM_16"), "recording in an unknown format, expected WAV"),
        (b"OggS" + bytes(100), r"recording is no readable OGG \(.+\), expected WAV"),
        (encode(np.zeros(RATE), RATE, "WAV", "PCM_16"), "recording is silent, expected speech"),
        (encode(speech() * np.nan, RATE, "WAV", "FLOAT"), "recording has samples beyond 1e.06 or not numbers"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read_recording(data)


# Hostile files, in a process of their own: what they cost is measured there


def large_recordings() -> dict[str, bytes]:
    """As many bytes as are read at most."""
    size = RecordingLimits().max_bytes
    pages = good("opus")[: good("opus").index(b"OggS", 4)]
    flac = good("flac_16")
    return {
        "8 MB of ones": b"\xff" * size,
        "false mp3 headers": b"\xff\xfb\x90\x00" * (size // 4),
        "free mp3 headers": b"\xff\xfb\x00\x00" * (size // 4),
        "mp3 tags": b"ID3\x04\x00\x00\x00\x00\x00\x00" * (size // 10),
        "empty mp3 frames": (b"\xff\xe3\x18\xc4" + bytes(68)) * (size // 72),
        "ogg pages": pages * (size // len(pages)),
        "ogg streams": good("vorbis") * (size // len(good("vorbis"))),
        "opus streams": good("opus") * (size // len(good("opus"))),
        "ogg of zeros": good("opus")[:200] + bytes(size - 200),
        "ogg magics": good("opus")[:47] + b"OggS" * (size // 4 - 12),
        "ogg page starts": good("opus")[:47] + (b"OggS" + bytes(22) + b"\xff" * 256) * (size // 282 - 1),
        "flac blocks": flac[:4] + b"\x01\x00\x00\x00" * (size // 4 - 1),
        "flac of syncs": flac[:200] + b"\xff\xf8" * (size // 2 - 100),
        "flac of zeros": flac[:200] + bytes(size - 200),
        "wav chunks": hostile_audio.wav(hostile_audio.chunk(b"junk", b"") * (size // 8 - 2)),
        "aiff chunks": good("aiff")[:12] + b"junk\0\0\0\0" * (size // 8 - 2),
        "wav of formats": hostile_audio.wav(hostile_audio.wav_format() * (size // 24 - 1)),
    }


def cost_of_each() -> list[dict[str, Any]]:
    import resource
    import time

    read_recording(good("wav_24"))
    report = []
    for name, data in [*hostile_recordings(), *large_recordings().items()]:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            audio = read_recording(data)
            ended = "read" if np.isfinite(audio).all() and 1600 <= len(audio) <= 60 * RATE else "bad audio"
        except RecordingError as refusal:
            ended = f"refused: {refusal}"
        seconds = time.process_time() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        report.append({"name": name, "ended": ended, "seconds": seconds, "megabytes": grown})
    return report


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], str]:
    """What each hostile file cost, and what the decoders wrote to standard error."""
    root, here = Path(codec.__file__).parents[1], Path(__file__)
    paths = [str(root), str(Path(hostile_audio.__file__).parent), str(here.parent)]
    program = (
        f"import sys, json; sys.path[:0] = {paths!r}; import {here.stem} as t; print(json.dumps(t.cost_of_each()))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout), finished.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hostile_files_are_many_and_various(hostile: tuple[list[dict[str, Any]], str]) -> None:
    report, _ = hostile
    assert len({case["name"] for case in report}) == len(report) >= 400
    assert sum(case["ended"].startswith("refused") for case in report) >= 300


@pytest.mark.timeout(300)
def test_hostile_files_end_well(hostile: tuple[list[dict[str, Any]], str]) -> None:
    for case in hostile[0]:
        assert case["ended"] == "read" or case["ended"].startswith("refused: recording "), case
        assert "\n" not in case["ended"], case
        assert len(case["ended"]) < 250, case


@pytest.mark.timeout(300)
def test_hostile_files_take_bounded_time_and_memory(hostile: tuple[list[dict[str, Any]], str]) -> None:
    for case in hostile[0]:
        assert case["seconds"] < MAX_SECONDS, case
        assert case["megabytes"] < MAX_MEGABYTES, case


@pytest.mark.timeout(300)
def test_hostile_files_write_little_to_the_log(hostile: tuple[list[dict[str, Any]], str]) -> None:
    assert len(hostile[1]) < 100_000
    assert "Traceback" not in hostile[1]
