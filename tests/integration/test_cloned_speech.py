"""Recordings as people make them, of the demo voice's four speakers: what is cloned is who speaks in them."""

import base64
import io
from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from codec.voice_encoder import EncodedVoice, VoiceEncoder
from quality.recording import median_pitch
from rwkv_tts.client import TTSClient
from worker.cli.local import local_worker
from worker.settings import DEFAULT_MODEL, Settings
from worker.speech.cloning import Cloner, Recording
from worker.speech.loading import open_model

pytestmark = pytest.mark.slow

RATE = 16_000
VOICES = ("rms", "awb", "slt", "clara")
WORDS = "My sister bought a green umbrella yesterday, because it had rained for three days in a row."
SAY = "She had your dark suit in greasy wash water all year."

Audio = NDArray[np.float64]


@pytest.fixture(scope="module")
def client(redis_url: str) -> Iterator[TTSClient]:
    with local_worker(Settings(queue=("cloned-speech",)), redis_url):
        yield TTSClient(redis_url, "cloned-speech")


@pytest.fixture(scope="module")
def spoken(client: TTSClient) -> dict[str, Audio]:
    """Each voice, some seconds of it."""
    jobs = {voice: client.submit(WORDS, voice=voice, seed=3, format="pcm") for voice in VOICES}
    return {voice: samples(client.result(job, timeout=90).audio) for voice, job in jobs.items()}


@pytest.fixture(scope="module")
def encoder() -> VoiceEncoder:
    encoder = open_model(DEFAULT_MODEL).voice_encoder
    assert encoder is not None
    return encoder


def samples(audio: bytes) -> Audio:
    return np.frombuffer(audio, "<i2").astype(np.float64) / 32768


def wav(audio: Audio) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def noise(seconds: float) -> Audio:
    """Of a quiet room."""
    return np.random.default_rng(1).normal(0, 3e-4, round(seconds * RATE))


def click() -> Audio:
    burst: Audio = np.random.default_rng(2).choice([-0.9, 0.9], 40)
    return np.concatenate((burst, np.zeros(280)))


def chord(hertz: tuple[float, ...], seconds: float, decay: float) -> Audio:
    """Tones with overtones, as of a piano or, without a decay, of an organ."""
    time = np.arange(round(seconds * RATE)) / RATE
    tones = np.sum([np.sin(2 * np.pi * pitch * n * time + n) / n for pitch in hertz for n in range(1, 9)], axis=0)
    faded: Audio = 0.1 * tones * np.exp(-decay * time) * np.minimum(1, (seconds - time) / 0.01)
    return faded


def played(length: float, decay: float) -> Audio:
    """Five seconds of chords, each so long."""
    chords = [(262.0, 330.0, 392.0), (294.0, 349.0, 440.0), (196.0, 247.0, 294.0), (220.0, 262.0, 330.0)]
    return np.concatenate([chord(one, length, decay) for one in islice(cycle(chords), round(5 / length))])


BEFORE = {
    **{f"click {seconds}": np.concatenate((click(), noise(seconds))) for seconds in (1, 2, 5)},
    "three clicks": np.concatenate([part for seconds in (0.4, 0.7, 1) for part in (click(), noise(seconds))]),
    "organ": np.concatenate((played(2.0, 0.0), noise(0.5))),
    "piano": np.concatenate((played(0.5, 4.0), noise(0.5))),
    "fast music": np.concatenate((played(0.25, 4.0), noise(0.5))),
    "hum": np.concatenate((0.2 * np.sin(2 * np.pi * 100 * np.arange(5 * RATE) / RATE), noise(0.5))),
}


def clone(encoder: VoiceEncoder, audio: Audio, *, transcript: bool = False) -> EncodedVoice:
    (voice,) = Cloner(encoder)([Recording(wav(audio), transcript)])
    assert isinstance(voice, EncodedVoice)
    return voice


@pytest.mark.parametrize("name", BEFORE)
def test_what_comes_before_the_speech_is_no_part_of_the_voice(
    name: str, encoder: VoiceEncoder, spoken: dict[str, Audio]
) -> None:
    for audio in spoken.values():
        intact, found = clone(encoder, audio), clone(encoder, np.concatenate((BEFORE[name], audio)))
        same = sum(a == b for a, b in zip(found.globals_, intact.globals_, strict=True))
        assert same >= 30
        assert found.seconds == pytest.approx(intact.seconds, abs=0.7)


def test_a_long_silence_inside_is_left_out(encoder: VoiceEncoder, spoken: dict[str, Audio]) -> None:
    audio = spoken["rms"]
    paused = np.concatenate((audio[: 2 * RATE], noise(6), audio[2 * RATE :]))
    intact, found = clone(encoder, audio, transcript=True), clone(encoder, paused, transcript=True)
    assert found.globals_ == intact.globals_
    assert found.seconds == pytest.approx(intact.seconds, abs=0.5)
    assert len(found.semantic) == pytest.approx(50 * found.seconds, abs=2)


def test_a_man_stays_a_man(client: TTSClient, spoken: dict[str, Audio]) -> None:
    """With a click and a pause of 1 to 5 s before he speaks."""
    jobs = {}
    for voice, audio in spoken.items():
        for seconds in (0, 1, 3, 5):
            before = np.concatenate((click(), noise(seconds))) if seconds else noise(0)
            reference = base64.b64encode(wav(np.concatenate((before, audio)))).decode()
            jobs[voice, seconds] = client.submit(SAY, seed=7, format="pcm", reference=reference)
    pitches = {key: median_pitch(samples(client.result(job, timeout=90).audio)) for key, job in jobs.items()}
    for voice, seconds in jobs:
        assert pitches[voice, seconds] == pytest.approx(pitches[voice, 0], rel=0.05), (voice, seconds)
    assert pitches["rms", 5] < 140 < pitches["slt", 5]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda audio: audio, None),
        (lambda audio: np.concatenate((click(), noise(3), audio)), None),
        (lambda audio: audio[: RATE // 2], "of speech"),
        (lambda audio: np.clip(6 * audio / np.abs(audio).max(), -1, 1), "it is clipped"),
        (lambda audio: 0.6 * np.clip(4 * audio / np.abs(audio).max(), -1, 1), "it is clipped"),
        (lambda audio: np.concatenate((audio, 0.1 * audio)), "its loudness changes by"),
    ],
)
def test_what_is_wrong_with_a_recording_is_told(
    change: "object", fault: str | None, encoder: VoiceEncoder, spoken: dict[str, Audio]
) -> None:
    assert callable(change)
    for audio in spoken.values():
        faults = clone(encoder, change(audio)).faults
        assert len(faults) == (fault is not None), faults
        assert all(fault in line for line in faults if fault)


def test_a_transcript_that_does_not_fit_is_told(client: TTSClient, spoken: dict[str, Audio]) -> None:
    audio = spoken["rms"]
    given = {
        "fits": (audio, WORDS, []),
        "is of more": (audio[: RATE * 2], WORDS * 3, ["more words", "within a word"]),
        "is of less": (np.concatenate((audio, audio, audio)), "Umbrella.", ["less words"]),
    }
    jobs = {
        name: client.submit(
            "Hello.", seed=1, max_seconds=0.5, reference=base64.b64encode(wav(one)).decode(), reference_text=words
        )
        for name, (one, words, _) in given.items()
    }
    for name, job in jobs.items():
        told = [line for line in client.result(job, timeout=90).result.warnings if line.startswith("reference: ")]
        for expected in given[name][2]:
            assert any(expected in line for line in told), (name, told)
        assert bool(told) == bool(given[name][2]), (name, told)
