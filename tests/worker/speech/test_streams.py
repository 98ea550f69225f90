"""Long texts and streams on a small random model: what is heard is the file, also when another worker goes on."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest

from batching.engine import Engine
from batching.row import Row
from codec.streaming import reach
from codec.vocoder import Vocoder
from rwkv_tts.progress import SpeechProgress
from rwkv_tts.schema import FORMATS, AudioFormat, parse_request
from sampler.decoding import FinishReason
from waiting import until
from worker.delivery.encoding import AudioEncoder
from worker.speech.admission import heard_at_once
from worker.speech.assembly import Assembly
from worker.speech.kept import KeptPart
from worker.speech.loading import open_model
from worker.speech.model import SpeechModel
from worker.speech.pipeline import Pipeline
from worker.speech.preparation import make_utterance
from worker.speech.schedule import FIRST_TOKENS, MOST_TOKENS, marks, piece_size
from worker.speech.summary import make_result, progress_of
from worker.speech.utterance import Step, Utterance, derived_seed

RATE = 16_000
PATIENCE = 60
SENTENCE = "Some words."
BOOK = "\n\n".join(f"Part {number} ends." for number in range(4))
FLAT = {"temperature": 5, "top_p": 1, "top_k": 0}
"""So that EOS comes late."""


@pytest.fixture(scope="module")
def speech(random_model: Path) -> SpeechModel:
    """With parts of at most 40 characters, rows that end by themselves, and a look-ahead that is exact."""
    model = open_model(random_model)
    text = model.config.text.model_copy(update={"longest": 40})
    config = model.config.model_copy(update={"text": text, "lookahead": reach(model.codec.config)})
    return replace(model, config=config)


@contextmanager
def pipeline(
    speech: SpeechModel, **options: Any
) -> Iterator[tuple[Pipeline, "queue.SimpleQueue[Utterance]", list[Step]]]:
    ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
    steps: list[Step] = []
    one = Pipeline(speech, **{"max_rows": 4, "token_chunk_size": 64, **options}, done=ended.put, made=steps.append)
    try:
        yield one, ended, steps
    finally:
        one.close()


def speak(
    speech: SpeechModel, before: Sequence[bytes] = (), company: int = 0, **fields: Any
) -> tuple[Utterance, list[Step]]:
    """Speak a request, among others."""
    with pipeline(speech) as (one, ended, steps):
        for number in range(company):
            other = parse_request({"text": SENTENCE, "max_seconds": 1})
            one.submit(make_utterance(speech, f"other{number}", other))
        request = parse_request({"text": BOOK, "seed": 3, "format": "pcm", **FLAT, **fields})
        one.submit(make_utterance(speech, "book", request, 0.0, before))
        found = {one.id: one for one in (ended.get(timeout=PATIENCE) for _ in range(company + 1))}
    assert found["book"].refusal is None
    return found["book"], [step for step in steps if step.utterance.id == "book"]


def samples(content: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(content, "<i2").astype(np.float64)


def decibels(signal: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The ratio of a signal to its difference from another; 150 where they are equal."""
    power, difference = (signal**2).mean(), ((signal - other) ** 2).mean()
    return float(10 * np.log10(power / max(difference, 1e-15 * power)))


@pytest.fixture(scope="module")
def whole(speech: SpeechModel) -> Utterance:
    return speak(speech)[0]


def test_a_long_text_is_spoken_part_by_part_in_one_voice(whole: Utterance) -> None:
    account = whole.account
    assert account is not None
    assert len(account.parts) == 4
    text = whole.request.text
    assert "".join("".join(text[slice(*part.span)] for part in account.parts).split()) == "".join(text.split())
    times = [(part.begin, part.end) for part in account.parts]
    assert all(begin < end for begin, end in times)
    assert all(ended + 0.3 < begin for (_, ended), (begin, _) in pairwise(times))
    assert account.seconds == pytest.approx(len(whole.audio) / 2 / RATE)
    assert whole.speaker is not None
    assert list(whole.speaker.globals_) == whole.parts[0].row.decoding.globals_
    assert [part.seed for part in account.parts] == [derived_seed(3, number) for number in range(4)]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_cut_in_a_part_counts_as_far_as_it_is_heard(speech: SpeechModel, stream: bool) -> None:
    spoken, steps = speak(speech, text=f"[pause:0.35s] {SENTENCE}", max_seconds=0.75, stream=stream)
    assert spoken.account is not None
    (part,) = spoken.account.parts
    assert (part.begin, part.end, spoken.account.seconds) == (0.35, 0.75, 0.75)
    audio = b"".join(step.audio for step in steps) if stream else spoken.audio
    assert len(audio) == 0.75 * 2 * RATE


def test_company_and_rows_change_nothing_of_a_long_text(speech: SpeechModel, whole: Utterance) -> None:
    for company in (5,):
        other, _ = speak(speech, company=company)
        assert other.account is not None
        assert whole.account is not None
        assert other.account.trace == whole.account.trace
        assert decibels(samples(whole.audio), samples(other.audio)) > 70


@pytest.mark.parametrize(
    ("audio_format", "company", "rate"),
    [("pcm", 0, None), ("pcm", 0, 44_100), ("opus", 0, 24_000), *((one, 5, None) for one in FORMATS)],
)
def test_what_is_heard_is_the_file(
    speech: SpeechModel, audio_format: AudioFormat, company: int, rate: int | None
) -> None:
    text = BOOK[: BOOK.index("Part 2")]
    request: dict[str, Any] = {"text": text, "format": audio_format, "sample_rate": rate}
    whole, _ = speak(speech, **request)
    stream, steps = speak(speech, company=company, stream=True, **request)
    assert stream.account is not None
    assert whole.account is not None
    assert stream.account.trace == whole.account.trace
    assert stream.account.seconds == whole.account.seconds
    heard = b"".join(step.audio for step in steps)
    if audio_format == "pcm":
        assert decibels(samples(whole.audio), samples(heard)) > 70
    assert len(heard) == pytest.approx(len(whole.audio), rel=0.001)
    assert stream.audio == b""
    assert sum(1 for step in steps if step.audio) > 3


def test_another_sample_rate_changes_nothing_but_the_samples(speech: SpeechModel, whole: Utterance) -> None:
    other, _ = speak(speech, sample_rate=24_000)
    assert other.account is not None
    assert whole.account is not None
    assert other.account.parts == whole.account.parts
    assert other.account.seconds == whole.account.seconds
    assert len(other.audio) / 2 == pytest.approx(other.account.seconds * 24_000, abs=1)
    assert make_result(other, RATE).sample_rate == 24_000
    assert make_result(whole, RATE).sample_rate == RATE


def test_the_first_piece_is_short_and_comes_before_the_part_is_complete(
    speech: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.step

    def unhurried(engine: Engine) -> list[Row]:
        time.sleep(0.002)  # or a fast machine completes the part before its first piece is vocoded
        return step(engine)

    monkeypatch.setattr(Engine, "step", unhurried)
    stream, steps = speak(speech, text=SENTENCE, stream=True)
    first = steps[0]
    assert first.entry.finish is None
    assert len(first.entry.tokens) < 2 * FIRST_TOKENS + MOST_TOKENS
    assert stream.listening.began_at < stream.parts[0].row.finished_at


@pytest.mark.parametrize(("stream", "rate"), [(True, None), (True, 22_050), (False, None)])
def test_another_worker_goes_on_where_one_has_stopped(speech: SpeechModel, stream: bool, rate: int | None) -> None:
    whole, steps = speak(speech, stream=stream, seed=None, sample_rate=rate)
    heard = b"".join(step.audio for step in steps)
    for stop in (2, len(steps) - 1):
        entries = [step.entry.model_dump_json().encode() for step in steps[:stop]]
        other, more = speak(speech, entries, stream=stream, seed=None, sample_rate=rate)
        assert other.account is not None
        assert whole.account is not None
        assert other.account.trace == whole.account.trace
        assert other.seed == whole.seed
        assert [step.entry.number for step in more] == list(range(stop + 1, stop + 1 + len(more)))
        audio = b"".join(step.audio for step in [*steps[:stop], *more]) if stream else other.audio
        assert decibels(samples(heard if stream else whole.audio), samples(audio)) > 70
        assert other.parts[0].row.steps < whole.parts[0].row.steps or not steps[0].entry.finish


def test_what_was_complete_is_not_drawn_again(speech: SpeechModel) -> None:
    whole, steps = speak(speech)
    assert whole.account is not None
    entries = [step.entry.model_dump_json().encode() for step in steps[:2]]
    drawn = sum(len(step.entry.tokens) for step in steps[:2])
    with pipeline(speech) as (one, ended, _):
        one.submit(make_utterance(speech, "book", whole.request, 0.0, entries))
        ended.get(timeout=PATIENCE)
        assert one.engine.stats.drawn <= whole.account.semantic - drawn + len(whole.account.parts) + 32


def test_a_text_that_fits_one_part_is_told_to_nobody_but_listeners(speech: SpeechModel) -> None:
    assert speak(speech, text=SENTENCE)[1] == []


def test_audio_ends_where_the_request_says(speech: SpeechModel, whole: Utterance) -> None:
    assert whole.account is not None
    second = whole.account.parts[1]
    most = second.begin + 0.1
    short, _ = speak(speech, max_seconds=most)
    assert short.account is not None
    assert short.account.seconds == pytest.approx(most, abs=1e-3)
    assert short.account.finish is FinishReason.LENGTH
    heard = samples(short.audio)
    end = round(second.begin * RATE)  # a part that is cut off has a loudness of its own
    assert np.abs(samples(whole.audio)[:end] - heard[:end]).max() <= 1
    assert abs(heard[-1]) < 0.01 * 32768
    assert "cut at" in make_result(short, RATE).warnings[-1]


def test_a_stream_begins_alone_and_stays_a_few_parts_ahead_of_what_is_heard(speech: SpeechModel) -> None:
    """So that a book of many parts does not keep its own listener, or others, waiting."""
    seen: list[tuple[int, int]] = []

    def note(step: Step) -> None:
        book = step.utterance
        begun = sum(part.row.started_at > 0 for part in book.parts)
        seen.append((begun, book.joined + heard_at_once(book.listening.waits, begun=len(seen) > 0)))

    ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
    one = Pipeline(speech, max_rows=16, token_chunk_size=64, done=ended.put, made=note)
    request = parse_request({"text": BOOK * 2, "stream": True, "seed": 3, **FLAT})
    one.submit(make_utterance(speech, "book", request))
    book = ended.get(timeout=PATIENCE)
    one.close()
    assert book.refusal is None
    assert seen[0] == (1, 1)
    assert all(begun <= most for begun, most in seen)
    assert seen[-1][0] == len(book.parts) > 4


@pytest.mark.parametrize("stream", [True, False])
def test_a_long_text_goes_on_when_its_audio_has_caught_up(
    speech: SpeechModel, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else wakes the engine when all parts that might start have ended, and their audio comes late."""
    vocode = Vocoder.__call__

    def vocode_slowly(*args: Any) -> Any:
        time.sleep(0.2)
        return vocode(*args)

    monkeypatch.setattr(Vocoder, "__call__", vocode_slowly)
    with pipeline(speech, max_rows=1) as (one, ended, _):
        request = parse_request({"text": BOOK * 2, "seed": 3, "stream": stream, "max_seconds": 20})
        one.submit(make_utterance(speech, "book", request))
        assert ended.get(timeout=PATIENCE).refusal is None


def test_a_short_job_does_not_wait_until_all_parts_of_a_book_are_encoded(
    speech: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, held, take = list[Any](), threading.Event(), Assembly.take

    def noted(assembly: Assembly, item: Any) -> None:
        encoded.append(item)
        take(assembly, item)
        held.wait(PATIENCE)

    monkeypatch.setattr(Assembly, "take", noted)
    with pipeline(speech, max_rows=8) as (one, ended, _):
        one.submit(make_utterance(speech, "book", parse_request({"text": BOOK, "seed": 3, **FLAT})))
        until(lambda: len(encoded) == 1 and one._encoder.inbox.qsize() > 2, PATIENCE)  # its other parts
        one.submit(make_utterance(speech, "short", parse_request({"text": "Short.", "seed": 3, **FLAT})))
        until(lambda: one._encoder.inbox.qsize() > 5, PATIENCE)
        held.set()
        assert [ended.get(timeout=PATIENCE).id for _ in range(2)] == ["short", "book"]
    assert [item.utterance.id for item in encoded].index("short") == 1


def test_a_short_job_does_not_wait_until_a_part_of_a_book_is_encoded(
    speech: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders, held, encode = list[AudioEncoder](), threading.Event(), AudioEncoder.encode

    def noted(encoder: AudioEncoder, wave: npt.NDArray[np.float32]) -> bytes:
        encoders.append(encoder)
        if encoders == [encoder]:
            held.wait(PATIENCE)
        return encode(encoder, wave)

    monkeypatch.setattr(AudioEncoder, "encode", noted)
    words = f"{'Some words go on. ' * 9}\n\nAnd more."
    with pipeline(speech, max_rows=8) as (one, ended, _):
        one.submit(make_utterance(speech, "book", parse_request({"text": words, "seed": 3, **FLAT})))
        until(lambda: bool(encoders), PATIENCE)  # the first second of its first part
        one.submit(make_utterance(speech, "short", parse_request({"text": "Short.", "seed": 3, **FLAT})))
        until(lambda: not (one._engine.jobs or one._vocoder._works) and one._vocoder.inbox.empty(), PATIENCE)
        held.set()
        assert [ended.get(timeout=PATIENCE).id for _ in range(2)] == ["short", "book"]
    assert encoders[1] is not encoders[0], "a second of the book, then the short job"
    assert encoders.count(encoders[0]) > 2


def test_how_far_a_text_has_come_is_told_step_by_step(speech: SpeechModel) -> None:
    shown: list[SpeechProgress] = []
    ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
    one = Pipeline(
        speech,
        max_rows=4,
        token_chunk_size=64,
        done=ended.put,
        made=lambda step: shown.append(progress_of(step.utterance, step.seconds)),
    )
    one.submit(make_utterance(speech, "book", parse_request({"text": BOOK, "stream": True, "seed": 3, **FLAT})))
    account = ended.get(timeout=PATIENCE).account
    one.close()
    assert account is not None
    assert (shown[0].parts, shown[0].share) == (0, 0)
    assert shown[-1] == SpeechProgress(
        parts=4, of=4, share=1, seconds=round(account.seconds, 2), rtf=shown[-1].rtf
    )
    assert all(before.share <= after.share for before, after in pairwise(shown))
    assert all(before.seconds <= after.seconds for before, after in pairwise(shown))


def test_pieces_grow_and_all_tokens_have_one() -> None:
    ahead = marks(lookahead=10)
    found = [next(ahead) for _ in range(20)]
    sizes = np.diff([10, *found])
    assert sizes[0] == FIRST_TOKENS == piece_size(0)
    assert all(np.diff(sizes) >= 0)
    assert sizes[-1] == MOST_TOKENS


def test_a_cancel_ends_a_long_text_and_frees_its_rows(speech: SpeechModel) -> None:
    with pipeline(speech) as (one, ended, _):
        one.submit(make_utterance(speech, "book", parse_request({"text": BOOK * 20, "stream": True, **FLAT})))
        one.cancel("book")
        assert str(ended.get(timeout=PATIENCE).refusal) == "cancelled on request"
        assert one.free_rows() == 4
        assert one.progress() is None


@pytest.mark.parametrize("stage", ["_vocoder", "_encoder"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_fault_in_one_part_ends_the_whole_text(
    speech: SpeechModel, monkeypatch: pytest.MonkeyPatch, stage: str, stream: bool
) -> None:
    """Its further parts would be of no use, and wait for audio that never comes."""
    if stage == "_encoder":
        monkeypatch.setattr(Assembly, "_join", Mock(side_effect=OSError("broken")))
    with pipeline(speech, max_rows=2) as (one, ended, _):
        if stage == "_vocoder":
            one._vocoder._vocoder = Mock(side_effect=OSError("broken"))
        request = parse_request({"text": BOOK * 20, "seed": 3, "stream": stream, **FLAT})
        one.submit(make_utterance(speech, "book", request))
        assert "broken" in str(ended.get(timeout=PATIENCE).refusal)
        assert one.free_rows() == 2


def test_what_was_not_spoken_is_told(speech: SpeechModel) -> None:
    """Of a long text that is otherwise fine, by its place."""
    with pipeline(speech) as (one, ended, _):
        book = make_utterance(speech, "book", parse_request({"text": BOOK, "seed": 3, **FLAT}))
        assert book.reading is not None
        second = next(book.reading)
        second.kept = KeptPart(attempt=0, finish=FinishReason.EOS)
        book.parts.append(second)
        one.submit(book)
        spoken = ended.get(timeout=PATIENCE)
    assert spoken.refusal is None
    begin, end = second.span
    told = [line for line in make_result(spoken, RATE).warnings if "not spoken" in line]
    assert told == [f"text: characters {begin} to {end}: not spoken: speech ended before its first token"]
