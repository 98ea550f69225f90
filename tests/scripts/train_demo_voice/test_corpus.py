"""The demo voice's corpus: texts, the teacher's speech and its phone labels, shards."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rwkv_tts.attributes import AGE, GENDER, PITCH, SPEED
from train_demo_voice import corpus, teacher, texts
from train_demo_voice.corpus import HOP, SAMPLE_RATE, Order, Shard, Utterance, training_orders
from train_demo_voice.held_out import HELD_OUT, HELD_OUT_WRITTEN
from train_demo_voice.speakers import PHONES, PITCHES, SPEAKERS, SPEEDS, Speaker

pytestmark = pytest.mark.train

SENTENCES = ("The garden was quiet before the storm.", "Would you please close the window near the old piano?")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="the program flite is not installed")


def test_texts_follow_from_the_seed_and_the_shard() -> None:
    assert texts.training_texts(0, 3, 50) == texts.training_texts(0, 3, 50)
    assert texts.training_texts(0, 3, 50) != texts.training_texts(0, 4, 50)
    assert texts.training_texts(1, 3, 50) != texts.training_texts(0, 3, 50)


def test_texts_are_distinct_spoken_forms_of_ordinary_length() -> None:
    made = texts.training_texts(0, 0, 3000)
    assert len({texts.comparable(text) for text in made}) == len(made)
    assert not [text for text in made if not re.fullmatch(r"[A-Za-z .,?!';:-]+", text)]
    assert not [text for text in made if len(text) > texts.LONGEST_TEXT]
    assert 0.5 < np.mean([20 <= len(text) <= 110 for text in made]) < 1
    plain = np.mean([text == text.lower() and text[-1] not in ".?!" for text in made])
    assert plain == pytest.approx(texts.PLAIN_SHARE, abs=0.03)


def test_validation_and_held_out_texts_are_never_trained() -> None:
    held_out = {*HELD_OUT, *(text for pair in HELD_OUT_WRITTEN for text in pair)}
    kept = {texts.comparable(text) for text in (*held_out, *texts.validation_texts(0, 100))}
    trained = {texts.comparable(text) for shard in range(3) for text in texts.training_texts(0, shard, 1500)}
    assert not kept & trained


def test_a_held_out_sentence_that_the_grammar_makes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = iter((HELD_OUT[0].lower(), HELD_OUT_WRITTEN[0][1], "Something else."))
    monkeypatch.setattr(texts, "_sentence", lambda random: next(chance))
    assert texts.training_texts(0, 0, 1) == ["Something else."]


def test_held_out_sentences_are_many_and_of_ordinary_length() -> None:
    assert len(set(HELD_OUT)) == len(HELD_OUT) >= 120
    assert all(5 <= len(sentence.split()) <= 15 for sentence in HELD_OUT)
    assert len(HELD_OUT_WRITTEN) >= 20
    assert all(re.fullmatch(r"[A-Za-z .,?!'-]+", spoken) for _, spoken in HELD_OUT_WRITTEN)


@pytest.mark.parametrize(
    ("made", "spoken"),
    [
        (texts.cardinal(0), "zero"),
        (texts.cardinal(21), "twenty-one"),
        (texts.cardinal(340_018), "three hundred forty thousand eighteen"),
        (texts.ordinal(12), "twelfth"),
        (texts.ordinal(20), "twentieth"),
        (texts.ordinal(101), "one hundred first"),
        (texts.year(1987), "nineteen eighty-seven"),
        (texts.year(1905), "nineteen oh five"),
        (texts.year(1900), "nineteen hundred"),
        (texts.year(2003), "two thousand three"),
        (texts.year(2026), "twenty twenty-six"),
    ],
)
def test_numbers_are_read_as_people_read_them(made: str, spoken: str) -> None:
    assert made == spoken


def test_the_word_list_is_large_and_plain() -> None:
    assert len(texts.words()) > 15_000
    assert not [word for word in texts.words() if not re.fullmatch("[a-z']+", word)]


def test_speakers_and_levels_are_attributes_of_the_product() -> None:
    assert all(speaker.gender in GENDER and speaker.age in AGE for speaker in SPEAKERS)
    assert [name for name, _, _ in PITCHES] == list(PITCH)
    assert [name for name, _, _ in SPEEDS] == list(SPEED)
    for shares in ([speaker.weight for speaker in SPEAKERS], [p[2] for p in PITCHES], [s[2] for s in SPEEDS]):
        assert sum(shares) == pytest.approx(1)


def test_orders_follow_the_weights_and_the_seed() -> None:
    orders = [order for shard in range(3) for order in training_orders(0, shard)]
    assert orders[: len(training_orders(0, 0))] == training_orders(0, 0)
    assert 1.05 < len(orders) / (3 * corpus.SHARD_TEXTS) < 1.15
    for name, weights in (
        ("speaker", [speaker.weight for speaker in SPEAKERS]),
        ("pitch", [level[2] for level in PITCHES]),
        ("speed", [level[2] for level in SPEEDS]),
    ):
        shares = np.bincount([getattr(order, name) for order in orders]) / len(orders)
        assert shares == pytest.approx(weights, abs=0.04)


def test_a_shard_keeps_its_utterances(tmp_path: Path) -> None:
    def utterance(text: str, frames: int) -> Utterance:
        audio = np.full(frames * HOP, frames, np.int16)
        return Utterance(Order(text, 1, 2, 3), audio, np.full(frames, frames, np.uint8))

    path = tmp_path / "0000.npz"
    corpus.pack([utterance("One.", 4), utterance("It's two.", 7)]).save(path)
    shard = Shard.load(path)
    assert list(tmp_path.iterdir()) == [path]
    assert [len(shard), shard.text_of(0), shard.text_of(1)] == [2, "One.", "It's two."]
    assert [set(shard.audio_of(1)), len(shard.audio_of(1)), set(shard.phones_of(1))] == [{7}, 7 * HOP, {7}]
    types = {name: str(getattr(shard, name).dtype) for name in Shard.__dataclass_fields__}
    assert types == {
        **dict.fromkeys(("phones", "text", "speaker", "pitch", "speed"), "uint8"),
        "audio": "int16",
        "offsets": "int64",
        "text_offsets": "int64",
    }


def test_formants_return_and_the_pitch_stays() -> None:
    """A pulse train through one resonance: raised by a factor, then with its formant put back."""
    pulses = np.zeros(SAMPLE_RATE)
    pulses[::160] = 1.0
    ringing = np.exp(-np.arange(400) / 60) * np.sin(2 * np.pi * 1500 / SAMPLE_RATE * np.arange(400))
    raised = teacher.raise_frequencies(np.convolve(pulses, ringing)[:SAMPLE_RATE], 1.4)
    restored = teacher.restore_formants(raised, 1.4)
    assert _formant(raised) == pytest.approx(2100, abs=150)
    assert _formant(restored) == pytest.approx(1500, abs=150)
    assert _f0(restored) == pytest.approx(140, rel=0.02)


def test_a_missing_teacher_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLITE", "no-such-flite")
    with pytest.raises(teacher.TeacherError, match=r"no-such-flite.*install flite"):
        teacher.render("Hello.", SPEAKERS[0], 1.0, 1.0)


@pytest.mark.flite
@needs_flite
@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_pitch_and_duration_follow_the_levels(speaker: Speaker) -> None:
    for sentence in SENTENCES:
        pitches = [_f0(teacher.render(sentence, speaker, factor, 1.0)[0]) for _, factor, _ in PITCHES]
        lengths = [len(teacher.render(sentence, speaker, 1.0, factor)[0]) for _, factor, _ in SPEEDS]
        assert np.all(np.diff(pitches) > 0.08 * np.array(pitches[:-1])), pitches
        assert np.all(np.diff(lengths) < -0.05 * np.array(lengths[:-1])), lengths


@pytest.mark.flite
@needs_flite
def test_the_pitch_leaves_the_duration() -> None:
    for speaker in SPEAKERS:
        lengths = [len(teacher.render(SENTENCES[0], speaker, factor, 1.0)[0]) for _, factor, _ in PITCHES]
        assert np.ptp(lengths) <= 2 * HOP


@pytest.mark.flite
@needs_flite
def test_women_speak_higher_than_men_at_every_level() -> None:
    for _, factor, _ in PITCHES:
        pitch = {s.name: _f0(teacher.render(SENTENCES[0], s, factor, 1.0)[0]) for s in SPEAKERS}
        assert min(pitch["slt"], pitch["clara"]) > 1.1 * max(pitch["awb"], pitch["rms"]), pitch


@pytest.mark.flite
@needs_flite
@pytest.mark.parametrize("pitch", [0.8, 1.42])
@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_phones_lie_where_the_speech_is(speaker: Speaker, pitch: float) -> None:
    audio, phones = teacher.render("Yes; we saw a small, yellow moon.", speaker, pitch, 1.2)
    assert len(audio) == HOP * len(phones)
    assert np.abs(audio).max() <= 1
    levels = np.sqrt(np.mean(audio.reshape(-1, HOP) ** 2, axis=1))
    vowels = np.isin(phones, [PHONES.index(name) for name in ("eh", "iy", "ao", "aa", "ow", "uw")])
    assert levels[vowels].min() > 4 * levels[phones == 0].mean()
    assert 1 <= np.argmax(phones > 0) <= 4
    assert 3 <= np.argmax(phones[::-1] > 0) <= 6


@pytest.mark.flite
@needs_flite
def test_speech_is_the_same_each_time_and_nothing_to_say_is_left_out() -> None:
    orders = [Order("A red bell.", 3, 2, 4), Order("...", 0, 0, 0), Order("Stop!", 1, 0, 1)]
    with ThreadPoolExecutor(1) as executor:
        first, second = (corpus.speak(orders, executor) for _ in range(2))
    assert [first.text_of(i) for i in range(len(first))] == ["A red bell.", "Stop!"]
    assert np.array_equal(first.audio, second.audio)
    assert np.array_equal(first.phones, second.phones)


@pytest.mark.flite
@needs_flite
def test_generation_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "VALIDATION_TEXTS", 2)
    monkeypatch.setattr(corpus, "SHARD_TEXTS", 2)
    monkeypatch.setattr(corpus, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))
    corpus.generate(tmp_path, 3 / 3600, 1, seed=5)
    shards = corpus.training_shards(tmp_path)
    assert sum(map(corpus.hours_of, shards)) >= 3 / 3600 > sum(map(corpus.hours_of, shards[:-1]))
    bytes_of = [path.read_bytes() for path in shards]
    written = corpus.validation_shard(tmp_path).stat().st_mtime_ns
    shards[0].unlink()
    corpus.generate(tmp_path, 3 / 3600, 1, seed=5)
    assert [path.read_bytes() for path in corpus.training_shards(tmp_path)] == bytes_of
    assert corpus.validation_shard(tmp_path).stat().st_mtime_ns == written


def _formant(audio: NDArray[np.float64]) -> float:
    """The loudest frequency, in Hz."""
    return float(np.argmax(np.abs(np.fft.rfft(audio * np.hanning(len(audio))))) * SAMPLE_RATE / len(audio))


def _f0(audio: NDArray[np.float64]) -> float:
    """Median over loud frames of the first high peak of the normalised autocorrelation, in Hz."""
    size, low, high = 1024, 50, 260
    frames = np.lib.stride_tricks.sliding_window_view(audio, size)[::HOP]
    energy = (frames**2).sum(axis=1)
    window = np.hanning(size)
    frames = (frames - frames.mean(axis=1, keepdims=True))[energy > 0.1 * np.percentile(energy, 90)] * window
    power = np.abs(np.fft.rfft(np.stack([window, *frames]), 4 * size)) ** 2
    correlation = np.fft.irfft(power)[:, :high]
    correlation = correlation[1:] / correlation[1:, :1] / (correlation[0] / correlation[0, 0])
    lags = [_first_peak(row[low:]) + low for row in correlation if row[low:].max() > 0.5]
    return float(np.median(SAMPLE_RATE / np.array(lags)))


def _first_peak(row: NDArray[np.float64]) -> int:
    inner = (row[1:-1] >= row[:-2]) & (row[1:-1] >= row[2:]) & (row[1:-1] >= 0.9 * row.max())
    return int(np.argmax(inner)) + 1 if inner.any() else int(np.argmax(row))
