"""Voices of a batch: each as if it were alone, with either front end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec.bicodec import BiCodec
from codec.clip import voice_clip
from codec.features import SemanticFeatures
from codec.recording import read_recording
from codec.voice_encoder import VoiceEncoder, batches
from hostile_audio import encode, speech
from wav2vec2 import random_wav2vec2

RATE = 16000
SECONDS = (3.0, 0.1, 7.3, 1.0, 0.5, 6.0, 2.2, 0.9)

Wave = NDArray[np.float64]


def draw_waves() -> list[Wave]:
    rng = np.random.default_rng(0)
    times = [np.arange(round(seconds * RATE)) / RATE for seconds in SECONDS]
    tones = [0.3 * np.sin(2 * np.pi * 150 * 1.6**row * time) for row, time in enumerate(times)]
    return [tone + 0.02 * rng.standard_normal(len(tone)) for tone in tones]


@pytest.fixture(scope="module")
def wav2vec2(codec: BiCodec) -> SemanticFeatures:
    """A small random model whose features are as wide as the codec's encoder expects."""
    return SemanticFeatures(random_wav2vec2(codec.config.encoder.input_channels))


@pytest.fixture(params=["mel", "wav2vec2"])
def encoder(request: pytest.FixtureRequest, codec: BiCodec) -> VoiceEncoder:
    features = codec.mel_features if request.param == "mel" else request.getfixturevalue("wav2vec2")
    return VoiceEncoder(codec, features)


def test_batch_equals_the_codec_of_each(encoder: VoiceEncoder) -> None:
    codec, waves = encoder.codec, draw_waves()
    voices = encoder(waves)
    assert len(voices) == len(waves)
    for wave, voice, seconds in zip(waves, voices, SECONDS, strict=True):
        clip = torch.from_numpy(voice_clip(wave, RATE, codec.hop)).float()
        features = encoder.features([torch.from_numpy(wave).float()])
        assert voice.globals_ == codec.encode_globals(clip[None])[0].tolist()
        assert voice.semantic == codec.encode_semantic(features)[0].tolist()
        assert voice.seconds == pytest.approx(seconds)


def test_voices_differ(encoder: VoiceEncoder) -> None:
    voices = encoder(draw_waves())
    assert len({tuple(voice.globals_) for voice in voices}) == len(voices)
    assert len({tuple(voice.semantic) for voice in voices}) == len(voices)


def test_fifty_tokens_a_second(encoder: VoiceEncoder) -> None:
    for seconds, voice in zip(SECONDS, encoder(draw_waves()), strict=True):
        assert len(voice.semantic) in (round(seconds * 50), round(seconds * 50) - 1)
        assert len(voice.globals_) == 32


def test_only_the_first_six_seconds_make_the_voice(codec: BiCodec) -> None:
    wave = draw_waves()[2]
    encoder = VoiceEncoder(codec, codec.mel_features)
    whole, cut = encoder([wave, wave[: 6 * RATE]])
    assert whole.globals_ == cut.globals_
    assert len(whole.semantic) > len(cut.semantic)


def test_voice_of_a_file(encoder: VoiceEncoder) -> None:
    [voice] = encoder([read_recording(encode(speech(1.0, 44100), 44100, "OGG", "VORBIS"))])
    assert voice.seconds == pytest.approx(1.0, abs=0.01)
    assert max(voice.semantic) < encoder.codec.semantic_size


def test_long_recordings_do_not_share_a_pass(codec: BiCodec) -> None:
    passes: list[list[int]] = []

    def features(waves: Any) -> list[Tensor]:
        passes.append([len(wave) // RATE for wave in waves])
        return codec.mel_features(waves)

    rng = np.random.default_rng(0)
    waves = [rng.uniform(-0.5, 0.5, seconds * RATE) for seconds in (35, 2, 40, 1, 20)]
    voices = VoiceEncoder(codec, features)(waves)
    assert passes == [[1, 2, 20], [35], [40]]
    assert [voice.seconds for voice in voices] == [35, 2, 40, 1, 20]
    assert [len(voice.semantic) for voice in voices] == [1750, 100, 2000, 50, 1000]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([], []), ([9], [[0]]), ([99, 1], [[1], [0]]), ([3, 5, 2], [[2, 0], [1]]), ([5, 5], [[0, 1]])],
)
def test_batches(lengths: list[int], expected: list[list[int]]) -> None:
    assert list(batches(lengths, budget=10)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda wave: wave[:300], r"got shape \[300\], expected \[N\] with N at least"),
        (lambda wave: wave[:0], r"got shape \[0\], expected \[N\] with N at least"),
        (lambda wave: wave * np.nan, "not a number"),
    ],
)
def test_bad_waves(codec: BiCodec, change: Callable[[Wave], Wave], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VoiceEncoder(codec, codec.mel_features)([draw_waves()[0], change(draw_waves()[1])])


def test_no_waves(codec: BiCodec) -> None:
    with pytest.raises(ValueError, match="waves: got no rows"):
        VoiceEncoder(codec, codec.mel_features)([])


def test_codec_without_encoder(model_directory: Path) -> None:
    codec = BiCodec.load(model_directory)
    with pytest.raises(RuntimeError):
        VoiceEncoder(codec, codec.mel_features)(draw_waves()[:1])
