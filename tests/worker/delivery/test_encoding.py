"""Audio files: what was encoded can be decoded, in the right length, and sounds the same."""

import io
import itertools
import threading
import tracemalloc
from collections.abc import Iterable

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from rwkv_tts.schema import FORMATS, RATES, AudioFormat
from worker.delivery.encoding import AudioEncoder, complete

RATE = 16_000
STEP = 1 / 32767
MAGIC = {"wav": b"RIFF", "flac": b"fLaC", "ogg": b"OggS", "opus": b"OggS"}
MOST_SAMPLES = 2048 * 320
"""The longest utterance: 40.96 s."""

Wave = npt.NDArray[np.float32]


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0, peak: float = 0.5) -> Wave:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def decode(data: bytes, audio_format: AudioFormat, rate: int = RATE) -> Wave:
    if audio_format == "pcm":
        return (np.frombuffer(data, dtype="<i2") / 32768).astype(np.float32)
    if audio_format == "aac":
        return decode_aac(data, rate)
    samples, found = soundfile.read(io.BytesIO(data), dtype="float32")
    assert found == rate
    assert samples.ndim == 1
    return np.asarray(samples, dtype=np.float32)


def decode_aac(data: bytes, rate: int) -> Wave:
    """Without the frame that every AAC encoder begins with."""
    with av.open(io.BytesIO(data), "r") as file:
        frames = list(file.decode(audio=0))
    assert file.format.name == "aac"
    assert {(frame.sample_rate, frame.layout.name) for frame in frames} == {(rate, "mono")}
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])[1024:]


def encode_audio(
    waves: Iterable[Wave], sample_rate: int, audio_format: AudioFormat, file_rate: int | None = None
) -> bytes:
    """A whole file."""
    encoder, content = AudioEncoder(sample_rate, audio_format, file_rate), io.BytesIO()
    for wave in waves:
        content.write(encoder.encode(wave))
    content.write(encoder.close())
    return complete(content, encoder)


def test_every_format_is_tested() -> None:
    assert FORMATS == ("wav", "flac", "ogg", "opus", "mp3", "aac", "pcm")


@pytest.mark.parametrize("audio_format", ["wav", "flac", "pcm"])
def test_lossless_formats_keep_16_bits(audio_format: AudioFormat) -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    decoded = decode(encode_audio([wave], RATE, audio_format), audio_format)
    assert len(decoded) == len(wave)
    assert np.abs(decoded - wave).max() <= 1.5 * STEP


def test_pcm_is_the_body_of_the_wav_and_of_the_flac() -> None:
    wave = np.random.default_rng(1).uniform(-1.2, 1.2, 5000).astype(np.float32)
    pcm = np.frombuffer(encode_audio([wave], RATE, "pcm"), dtype="<i2")
    for audio_format in ("wav", "flac"):
        samples, _ = soundfile.read(io.BytesIO(encode_audio([wave], RATE, audio_format)), dtype="int16")
        np.testing.assert_array_equal(samples, pcm)


@pytest.mark.parametrize("audio_format", ["wav", "flac", "pcm"])
def test_what_is_too_loud_is_clipped_and_does_not_wrap(audio_format: AudioFormat) -> None:
    wave = np.array([0, 1, 1.0001, 5, 1e30, np.inf, -1, -1.0001, -5, -np.inf], dtype=np.float32)
    decoded = decode(encode_audio([wave], RATE, audio_format), audio_format)
    assert decoded[0] == 0
    np.testing.assert_allclose(decoded[1:6], 1, atol=2 * STEP)
    np.testing.assert_allclose(decoded[6:], -1, atol=2 * STEP)


def test_input_is_left_as_it_was() -> None:
    wave = np.array([2.0, -2.0, 0.5] * 100, dtype=np.float32)
    before = wave.copy()
    for audio_format in FORMATS:
        encode_audio([wave], RATE, audio_format)
    np.testing.assert_array_equal(wave, before)


@pytest.mark.parametrize("audio_format", MAGIC)
def test_file_has_the_signature_of_its_format(audio_format: AudioFormat) -> None:
    data = encode_audio([tone(0.2)], RATE, audio_format)
    assert data.startswith(MAGIC[audio_format])
    assert (b"OpusHead" in data[:64]) == (audio_format == "opus")
    assert (b"vorbis" in data[:64]) == (audio_format == "ogg")


def test_mp3_starts_with_a_frame_or_a_tag() -> None:
    data = encode_audio([tone(0.2)], RATE, "mp3")
    assert data[:3] == b"ID3" or (data[0] == 0xFF and data[1] & 0xE0 == 0xE0)


@pytest.mark.parametrize(
    ("audio_format", "rate"), list(itertools.product(["ogg", "opus", "mp3", "aac"], [16_000, 24_000]))
)
def test_lossy_formats_keep_rate_duration_pitch_and_level(audio_format: AudioFormat, rate: int) -> None:
    wave = tone(1.5, rate)
    decoded = decode(encode_audio([wave], rate, audio_format), audio_format, rate)
    assert 0 <= len(decoded) - len(wave) <= 0.1 * rate
    middle = decoded[rate // 4 : rate // 4 + rate]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    near = spectrum[430:451]
    assert np.sum(near**2) > 0.99 * np.sum(spectrum**2)


@pytest.mark.parametrize("audio_format", FORMATS)
@pytest.mark.parametrize("samples", [320, 640])
def test_shortest_utterances_can_be_decoded(audio_format: AudioFormat, samples: int) -> None:
    decoded = decode(encode_audio([tone(1)[:samples]], RATE, audio_format), audio_format)
    assert samples <= len(decoded) <= samples + 0.2 * RATE


@pytest.mark.parametrize("audio_format", FORMATS)
def test_longest_utterance_is_encoded_in_a_thread(audio_format: AudioFormat) -> None:
    """libsndfile's Vorbis once overran the stack on long writes; a worker encodes in a thread."""
    wave = tone(MOST_SAMPLES / RATE)
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(encode_audio([wave], RATE, audio_format)))
    thread.start()
    thread.join()
    decoded = decode(found[0], audio_format)
    assert 0 <= len(decoded) - MOST_SAMPLES <= 0.1 * RATE


@pytest.mark.parametrize("audio_format", FORMATS)
def test_same_wave_gives_the_same_bytes_in_whatever_pieces_it_comes(audio_format: AudioFormat) -> None:
    wave = tone(3.1)
    whole = encode_audio([wave], RATE, audio_format)
    for size in (317, 1000, 16_000):
        assert encode_audio([wave[i : i + size] for i in range(0, len(wave), size)], RATE, audio_format) == whole


@pytest.mark.parametrize("audio_format", FORMATS)
def test_what_is_encoded_leaves_soon_and_is_the_file_but_for_its_head(audio_format: AudioFormat) -> None:
    wave = np.random.default_rng(2).normal(0, 0.1, 4 * RATE).astype(np.float32)  # every second takes as many bytes
    encoder, given = AudioEncoder(RATE, audio_format), io.BytesIO()
    whole = encode_audio([wave], RATE, audio_format)
    behind = []
    for end in range(1600, len(wave) + 1, 1600):
        given.write(encoder.encode(wave[end - 1600 : end]))
        behind.append((end / len(wave) - given.tell() / len(whole)) * 4.0)
    given.write(encoder.close())
    assert (
        max(behind)
        <= {"pcm": 0, "wav": 0, "flac": 0.6, "mp3": 0.3, "aac": 0.3, "opus": 0.3, "ogg": 1.0}[audio_format]
    )
    assert complete(given, encoder) == whole


def test_a_whole_file_is_not_a_copy_of_its_bytes() -> None:
    encoder, content = AudioEncoder(RATE, "wav"), io.BytesIO()
    tracemalloc.start()
    for _ in range(100):
        content.write(encoder.encode(np.zeros(RATE, np.float32)))
    content.write(encoder.close())
    whole = complete(content, encoder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * len(whole)


RATED = [(one, rate) for one in FORMATS for rate in RATES.get(one, (8_000, 11_025, 44_100, 47_999))]


@pytest.mark.parametrize(("audio_format", "rate"), RATED)
def test_another_rate_keeps_duration_pitch_and_level(audio_format: AudioFormat, rate: int) -> None:
    wave = tone(2.0)
    decoded = decode(encode_audio([wave], RATE, audio_format, rate), audio_format, rate)
    assert len(decoded) == pytest.approx(2 * rate, abs=1 if audio_format in ("wav", "flac", "pcm") else 0.1 * rate)
    middle = decoded[rate // 2 : rate // 2 + rate]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert np.sum(spectrum[430:451] ** 2) > 0.99 * np.sum(spectrum**2)


@pytest.mark.parametrize("audio_format", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_another_rate_is_the_same_bytes_in_whatever_pieces_it_comes(audio_format: AudioFormat, rate: int) -> None:
    wave = tone(1.3)
    whole = encode_audio([wave], RATE, audio_format, rate)
    for size in (61, 1000, 16_000):
        pieces = [wave[i : i + size] for i in range(0, len(wave), size)]
        assert encode_audio(pieces, RATE, audio_format, rate) == whole


@pytest.mark.parametrize("samples", [0, 1, 320])
def test_little_at_another_rate_is_a_file_with_the_right_sizes(samples: int) -> None:
    decoded = decode(encode_audio([tone(1)[:samples]], RATE, "wav", 44_100), "wav", 44_100)
    assert len(decoded) == pytest.approx(samples * 44_100 / RATE, abs=1)


def test_a_streamed_wav_says_that_its_length_is_not_known() -> None:
    encoder = AudioEncoder(RATE, "wav")
    head = encoder.encode(tone(0.1))[:44]
    assert head[4:8] == head[40:44] == b"\xff" * 4
