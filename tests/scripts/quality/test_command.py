"""The evaluation: its measures on signals whose answer is known, and its verdict on a model that cannot speak."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from quality import command as quality
from quality.distance import DECIBELS, Array, Centroids, distortion, normalized_cepstra, timbre, warped_distances
from quality.recording import SAMPLE_RATE, Audio, as_audio, measure, median_pitch
from quality.report import Findings, Mark
from quality.speech import Line, Rendering, Take, speak, teach, with_voices
from quality.study import QUICK, Plan, Study, attribute_lines, ending_lines, level_lines
from quality.words import Score, score, transcribe, words_of
from worker.speech.loading import open_model

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is missing: apt-get install flite")

SENTENCES = (
    "The old bridge was closed for repairs last winter.",
    "Please bring a warm coat and a pair of good shoes.",
    "Nobody knows why the lights went out last night.",
    "She put the letter in a drawer and forgot about it.",
)
VOWELS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "u": (300, 870, 2240), "o": (570, 840, 2410)}
"""Formants in Hz (Peterson and Barney 1952)."""


def vowel(name: str, seconds: float, hertz: float = 120.0) -> Audio:
    """Harmonics of a pitch under the formants of a vowel, with a formant stronger than the fundamental."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = np.arange(1, int(4000 / hertz)) * hertz
    gains = sum(1 / (1 + ((harmonics - formant) / 80) ** 2) for formant in VOWELS[name]) + 0.02
    return np.asarray(0.05 * gains @ np.sin(2 * np.pi * np.outer(harmonics, time)))


def say(vowels: str, seconds: float = 0.15, hertz: float = 120.0) -> Audio:
    return np.concatenate([vowel(name, seconds, hertz) for name in vowels])


def warped_by_definition(query: Array, reference: Array) -> float:
    costs = np.sqrt(((query[:, None] - reference) ** 2).sum(-1))
    sums = np.full((len(query) + 1, len(reference) + 1), np.inf)
    sums[0, 0] = 0
    for i, j in np.ndindex(*costs.shape):
        straight = min(sums[i, j + 1], sums[i + 1, j]) + costs[i, j]
        sums[i + 1, j + 1] = min(straight, sums[i, j] + 2 * costs[i, j])
    return float(sums[-1, -1] / sum(costs.shape) * DECIBELS)


def test_warped_distances_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    query, *references = (rng.normal(size=(length, 13)) for length in (20, 31, 7, 31, 1))
    expected = [warped_by_definition(query, reference) for reference in references]
    assert warped_distances(query, references) == pytest.approx(expected, rel=1e-5)


def test_distortion_hears_the_words_and_not_tempo_pitch_or_gain() -> None:
    spoken = say("aiuo")
    assert distortion(spoken, spoken) == pytest.approx(0, abs=1e-4)
    assert distortion(spoken, 0.1 * spoken) < 0.01
    near = max(distortion(spoken, say("aiuo", seconds=0.2)), distortion(spoken, say("aiuo", hertz=135)))
    far = min(distortion(spoken, say("oaiu")), distortion(spoken, say("iaou")))
    assert 1.5 * near < far


@pytest.mark.parametrize("hertz", [75.0, 100.0, 137.0, 180.0, 242.0, 330.0])
def test_pitch_of_pulses_tones_and_vowels(hertz: float) -> None:
    phases = 2 * np.pi * hertz * np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    pulses = 0.01 * np.cos(np.outer(np.arange(1, 7000 // hertz), phases)).sum(axis=0)
    for signal in (pulses, 0.3 * np.sin(phases), say("ai", 0.25, hertz)):
        assert median_pitch(signal) == pytest.approx(hertz, rel=0.02)


def test_noise_and_silence_have_no_pitch() -> None:
    assert median_pitch(np.random.default_rng(0).normal(scale=0.1, size=SAMPLE_RATE)) == 0
    assert median_pitch(np.zeros(SAMPLE_RATE)) == 0
    assert median_pitch(np.zeros(0)) == 0


def test_measure() -> None:
    silence, speech = np.zeros(SAMPLE_RATE // 2), say("aiuo", 0.25)
    found = measure(np.concatenate([silence, speech, silence, silence]))
    assert found.seconds == pytest.approx(2.5)
    assert found.leading == pytest.approx(0.5, abs=0.02)
    assert found.trailing == pytest.approx(1.0, abs=0.02)
    assert found.silent == pytest.approx(0.6, abs=0.02)
    assert found.clipped == 0
    assert measure(np.clip(100 * speech, -1, 1)).clipped > 0.5
    assert measure(silence).trailing == 0.5


def test_score_counts_errors_and_finds_the_ends() -> None:
    assert words_of("It's TWENTY-five, isn’t it?") == ["it's", "twenty", "five", "isn't", "it"]
    assert score("one two three", "One, two three!") == Score(words=3, errors=0, texts=1, first=1, last=1)
    assert score("one two three", "two tree") == Score(words=3, errors=2, texts=1, first=0, last=0)
    assert score("one two", "one new two words") == Score(words=2, errors=2, texts=1, first=1, last=1)
    assert score("one two", "") == Score(words=2, errors=2, texts=1)
    total = score("a b c d", "a b c d") + score("a b", "")
    assert total.accuracy == pytest.approx(4 / 6)
    assert total.texts == 2


def test_centroids_tell_speakers_apart() -> None:
    voices = {"low": 95.0, "high": 210.0}
    examples = {name: [timbre(say(text, hertz=h), h) for text in ("aiuo", "uiao")] for name, h in voices.items()}
    centroids = Centroids.of(examples)
    assert [centroids.nearest(timbre(say("oiau", hertz=h), h)) for h in voices.values()] == list(voices)


@pytest.mark.parametrize(("value", "most", "ok"), [(1.0, False, True), (0.9, False, False), (1.0, True, True)])
def test_mark(value: float, most: bool, ok: bool) -> None:
    assert Mark("m", value, 1.0, most).ok is ok
    assert not Mark("m", float("nan"), 1.0, most).ok


def test_the_worst_part_is_named() -> None:
    found = Findings()
    found.worst("parts", {"a": 0.9, "b": 0.7, "c": 1.0}, 0.8)
    assert (found.marks[0].of, found.marks[0].value, found.marks[0].ok) == ("b", 0.7, False)


def test_plans_say_what_they_promise() -> None:
    plan = Plan()
    assert len(set(attribute_lines(plan))) == 4 * plan.seeds * plan.sentences >= 2 * 2 * 100
    assert len(set(ending_lines(plan))) == plan.runs == 200
    assert len(set(level_lines(plan))) == 4 * 8 * 40
    seeds = {line.seed for line in attribute_lines(plan) if line.reference.speaker == "slt"}
    assert len(seeds) == plan.seeds * plan.sentences


def test_speak_goes_through_the_product(random_model: Path) -> None:
    speech = open_model(random_model)
    stored = {voice.id: voice.global_tokens for voice in speech.voices}
    clone = with_voices(speech, {"clone": stored["second"]})
    lines = [Line("Hello.", Rendering("Hello.", "slt"), voice, 3) for voice in ("second", "clone", None, "nobody")]
    takes = speak(clone, lines, rows=2)
    assert takes[lines[0]].tokens == takes[lines[1]].tokens != takes[lines[2]].tokens
    assert list(takes[lines[0]].tokens[0]) == stored["second"]
    assert takes[lines[3]].finish.startswith("refused: voice: unknown voice 'nobody'")
    assert [len(take.samples) > 0 for take in (takes[line] for line in lines)] == [True, True, True, False]
    assert all(takes[line].finish in ("eos", "length", "repetition") for line in lines[:3])


def test_a_model_that_cannot_speak_fails_the_check(
    random_model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Only the section that needs neither teacher nor recogniser."""
    options = [
        "--model",
        str(random_model),
        "--quick",
        "--only",
        "endings",
        "--json",
        str(tmp_path / "found.json"),
    ]
    assert quality.main([*options, "--check"]) == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert (tmp_path / "found.json").read_text() == last + "\n"
    found = json.loads(last)
    assert found["ok"] is False
    assert found["marks"]["endings: by EOS"]["ok"] is False
    assert found["sections"]["endings"]["runs"] == QUICK.runs
    assert quality.main(options) == 0


def test_what_is_missing_is_said(
    random_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert quality.main(["--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err
    monkeypatch.setenv("FLITE", "no-such-flite")
    assert quality.main(["--model", str(random_model), "--only", "retrieval"]) == 2
    assert "no-such-flite is missing" in capsys.readouterr().err


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as threads:  # one, as a recogniser belongs to one thread
        yield threads


@pytest.mark.flite
@needs_flite
def test_teacher_is_nearest_to_itself(pool: Executor) -> None:
    """The same sentence at another speed and pitch is nearer than any other at the same."""
    plain, other = (
        teach(pool, [Rendering(text, "slt", *how) for text in SENTENCES])
        for how in (("medium_pitch", "medium"), ("high_pitch", "slow"))
    )
    references = [normalized_cepstra(as_audio(samples)) for samples in plain.values()]
    table = [warped_distances(normalized_cepstra(as_audio(samples)), references) for samples in other.values()]
    assert np.argmin(table, axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.flite
@needs_flite
@pytest.mark.slow
def test_teacher_is_heard(pool: Executor) -> None:
    pytest.importorskip("pocketsphinx")
    recordings = [teach(pool, [Rendering(text, "rms")])[Rendering(text, "rms")] for text in SENTENCES]
    heard = transcribe(recordings)
    total = sum((score(text, words) for text, words in zip(SENTENCES, heard, strict=True)), Score())
    assert total.accuracy > 0.7
    assert transcribe(recordings[::-1])[::-1] == heard  # what was heard before does not matter
    assert transcribe([np.zeros(0, np.int16)]) == [""]


@pytest.mark.flite
@needs_flite
def test_study_compares_with_the_teacher(pool: Executor) -> None:
    pytest.importorskip("pocketsphinx")
    line = Line(SENTENCES[0], Rendering(SENTENCES[0], "rms"))
    study = Study(QUICK, teacher=teach(pool, [line.reference]))
    study.takes[line] = Take(np.zeros(SAMPLE_RATE, np.int16), "eos")
    study.listen(pool, [line])
    ours, theirs = study.score([line])
    assert ours.accuracy <= 0 < theirs.accuracy
