"""Volume normalisation and clips of voices."""

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.clip import normalize_volume, trim_silence, voice_clip


def noise(peak: float, samples: int = 16000) -> NDArray[np.float64]:
    values = np.random.default_rng(0).uniform(-1, 1, samples)
    loudest: float = np.abs(values).max()
    return values * (peak / loudest)


def loud_level(audio: NDArray[np.float64]) -> float:
    levels = np.sort(np.abs(audio))
    levels = levels[levels > 0.01]
    return float(levels[int(0.9 * len(levels)) : int(0.99 * len(levels))].mean())


def test_loud_level_becomes_the_target() -> None:
    audio = noise(peak=0.5)
    gain = normalize_volume(audio)[0] / audio[0]
    assert gain == pytest.approx(0.2 / loud_level(audio), rel=1e-12)


def test_gain_is_limited_below() -> None:
    np.testing.assert_allclose(normalize_volume(noise(peak=50.0)), noise(peak=1.0), rtol=1e-12)


def test_quiet_audio_is_raised_before_its_gain_follows_from_the_original() -> None:
    audio = noise(peak=0.05)
    expected = noise(peak=0.1) * min(10.0, 0.2 / loud_level(audio))
    np.testing.assert_allclose(normalize_volume(audio), expected, rtol=1e-12)


def test_audio_too_quiet_for_speech_only_has_its_peak_raised() -> None:
    np.testing.assert_allclose(normalize_volume(noise(peak=0.005)), noise(peak=0.1), rtol=1e-12)


def test_near_silence_is_not_raised_to_the_peak() -> None:
    assert np.abs(normalize_volume(noise(peak=1e-5))).max() == pytest.approx(1e-3)


def test_nothing_exceeds_full_scale() -> None:
    audio = noise(peak=0.15)
    audio[100] = 0.9
    assert np.abs(normalize_volume(audio)).max() == 1.0


def test_input_is_left_alone() -> None:
    audio = noise(peak=0.5)
    normalize_volume(audio)
    np.testing.assert_array_equal(audio, noise(peak=0.5))


def test_silence_is_trimmed_at_both_ends_only() -> None:
    audio = np.array([0.0, -0.01, 0.02, 0.0, 0.005, -0.5, 0.01, 0.0])
    np.testing.assert_array_equal(trim_silence(audio), audio[2:6])
    np.testing.assert_array_equal(trim_silence(audio[2:6]), audio[2:6])


def test_nothing_is_left_of_silence() -> None:
    assert trim_silence(np.full(5, 0.01)).shape == (0,)


@pytest.mark.parametrize("samples", [1, 1000, 96000, 100000])
def test_clip_repeats_and_cuts(samples: int) -> None:
    audio = np.arange(samples, dtype=np.float64)
    clip = voice_clip(audio, sample_rate=16000, hop=320)
    np.testing.assert_array_equal(clip, np.arange(96000) % samples)


def test_clip_is_whole_tokens() -> None:
    assert len(voice_clip(noise(0.5), sample_rate=22050, hop=320)) == 6 * 22050 // 320 * 320


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0), r"got shape \[0\], expected \[N\]"),
        (np.zeros((2, 5)), r"got shape \[2, 5\]"),
        (np.array([0.0, np.nan]), "infinite or not a number"),
    ],
)
def test_bad_audio(audio: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalize_volume(audio)
    with pytest.raises(ValueError, match=message):
        trim_silence(audio)
    with pytest.raises(ValueError, match=message):
        voice_clip(audio, 16000, 320)
