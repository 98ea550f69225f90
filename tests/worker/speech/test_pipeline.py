"""The pipeline on a real random model: every utterance comes back once, whatever happens to the others."""

import io
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from loguru import logger
from torch import Tensor

from batching.row import Row
from codec.vocoder import Vocoder
from codec.voice_encoder import EncodedVoice
from model.native.forward import NativeRWKV7
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from model.state import State
from recordings import recording, reference
from rwkv_tts.attributes import Attributes
from rwkv_tts.refusal import Refusal, RequestError
from rwkv_tts.schema import FORMATS, SynthesisRequest, SynthesisResult, parse_request
from sampler.decoding import Decoding, FinishReason
from sampler.prompt import voice_prompt
from utterances import reason, row, told, wave
from waiting import until
from worker.compute.local import LocalEngine
from worker.speech.assembly import Assembly
from worker.speech.cloning import Cloner, Recording
from worker.speech.loading import open_model
from worker.speech.model import LocalModel
from worker.speech.pipeline import Pipeline, StageBrokenError
from worker.speech.preparation import make_utterance
from worker.speech.summary import make_result
from worker.speech.utterance import Part, Piece, Utterance

HOP = 320
RATE = 16_000
PATIENCE = 30
"""Seconds after which something is taken to hang."""
LONG = {"text": "A text that is long enough. " * 8, "temperature": 5, "top_p": 1, "top_k": 0, "seed": 1}
"""No row of it ends before hundreds of steps: with a flat distribution EOS is one of 8193."""


@pytest.fixture(scope="module")
def speech(random_model: Path) -> LocalModel:
    return open_model(random_model)


class Desk:
    """Submits to a pipeline and collects what comes back."""

    def __init__(self, speech: LocalModel, **options: Any) -> None:
        self.speech = speech
        self.ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
        options = {"max_rows": 4, "token_chunk_size": 64, **options}
        self.pipeline = Pipeline(speech, done=self.ended.put, **options)

    def submit(self, key: str, **fields: Any) -> Utterance:
        utterance = make_utterance(
            self.speech, key, parse_request({"text": "Hello.", "max_seconds": 0.6, **fields})
        )
        self.pipeline.submit(utterance)
        return utterance

    def collect(self, count: int) -> dict[str, Utterance]:
        """The next ``count`` utterances that end, by key."""
        found = [self.ended.get(timeout=PATIENCE) for _ in range(count)]
        assert len({utterance.id for utterance in found}) == count
        return {utterance.id: utterance for utterance in found}


@contextmanager
def desk(speech: LocalModel, **options: Any) -> Iterator[Desk]:
    """A desk that is closed at the end and then has nothing left over."""
    one = Desk(speech, **options)
    try:
        yield one
    finally:
        one.pipeline.close()
    assert one.ended.empty()


def requests() -> dict[str, dict[str, Any]]:
    """Six that differ in mode, length, settings and format."""
    return {
        "default": {"seed": 1},
        "voice": {"seed": 2, "voice": "first", "format": "flac", "text": "Another voice. " * 6},
        "greedy": {"seed": 3, "temperature": 0, "format": "ogg", "max_seconds": 0.3},
        "happy": {"seed": 4, "emotion": "HAPPY", "format": "opus", "text": "世界。"},
        "second": {"seed": 5, "voice": "second", "format": "mp3", "top_k": 5, "max_seconds": 1},
        "one": {"seed": 6, "format": "pcm", "max_seconds": 0.02},
    }


def result(utterance: Utterance) -> SynthesisResult:
    assert utterance.refusal is None
    return make_result(utterance, RATE)


def decoded(utterance: Utterance) -> tuple[np.ndarray[Any, Any], int]:
    if utterance.request.format == "pcm":
        return np.frombuffer(utterance.audio, "<i2"), RATE
    samples, rate = soundfile.read(io.BytesIO(utterance.audio), dtype="int16")
    return samples, rate


def trace(utterance: Utterance) -> tuple[list[int], list[int], str]:
    return (
        row(utterance).decoding.globals_,
        row(utterance).decoding.semantic,
        result(utterance).trace_sha256,
    )


@pytest.fixture(scope="module")
def alone(speech: LocalModel) -> dict[str, Utterance]:
    """Each of the six by itself in the smallest pipeline."""
    found: dict[str, Utterance] = {}
    with desk(speech, max_rows=1, token_chunk_size=1000) as lone:
        for key, fields in requests().items():
            lone.submit(key, **fields)
            found |= lone.collect(1)
    return found


def test_every_utterance_comes_back_once_with_its_audio(alone: dict[str, Utterance]) -> None:
    assert alone.keys() == requests().keys()
    formats = {utterance.request.format for utterance in alone.values()}
    assert formats == set(FORMATS) - {"aac"}  # whose bytes soundfile cannot read
    for utterance in alone.values():
        tokens = len(row(utterance).decoding.semantic)
        samples, rate = decoded(utterance)
        assert rate == RATE
        if utterance.request.format in ("wav", "flac", "pcm"):
            assert len(samples) == tokens * HOP
        else:
            assert 0 <= len(samples) - tokens * HOP <= 0.1 * RATE
        assert np.abs(samples).max() > 0
        assert result(utterance).seconds == pytest.approx(tokens / 50)


@pytest.mark.parametrize(
    "options", [{"max_rows": 6, "vocoder_batch": 4}, {"token_chunk_size": 3}, {"max_rows": 2}]
)
def test_company_changes_neither_tokens_nor_audio(
    speech: LocalModel, alone: dict[str, Utterance], options: dict[str, int]
) -> None:
    with desk(speech, **options) as shared:
        for key, fields in reversed(requests().items()):
            shared.submit(key, **fields)
        found = shared.collect(len(alone))
    assert max(row(utterance).mean_batch for utterance in found.values()) > 1
    for key, utterance in found.items():
        assert trace(utterance) == trace(alone[key])
        assert np.allclose(wave(utterance), wave(alone[key]), rtol=0, atol=1e-5)


def test_traces_of_different_seeds_differ_and_an_absent_seed_is_echoed(speech: LocalModel) -> None:
    with desk(speech) as one:
        for key, fields in {"a": {"seed": 1}, "b": {"seed": 2}, "c": {}, "d": {}}.items():
            one.submit(key, **fields)
        first = one.collect(4)
        digests = {utterance_trace[2] for utterance_trace in map(trace, first.values())}
        assert len(digests) == 4
        one.submit("again", seed=result(first["c"]).seed)
        assert trace(one.collect(1)["again"]) == trace(first["c"])


def test_times_and_sums_fit_together(alone: dict[str, Utterance]) -> None:
    for utterance in alone.values():
        summary = result(utterance)
        times = summary.timings
        parts = times.prefill + times.decode + times.vocode + times.encode
        assert min(times.prefill, times.decode, times.vocode, times.encode) >= 0
        assert parts <= times.total + 1e-6
        assert summary.rtf == pytest.approx(times.total / summary.seconds)
        assert summary.tokens.globals == 32
        assert summary.mean_batch == 1
        cut = summary.finish_reason == "length"
        assert bool(summary.warnings) == cut
    assert result(alone["one"]).finish_reason == "length"
    assert result(alone["one"]).seconds == 0.02


def by_hand(key: str, request: SynthesisRequest, *decodings: Decoding) -> Utterance:
    """An utterance of rows that no request leads to."""
    rows = [Row(key, decoding) for decoding in decodings]
    return Utterance(key, request, [Part(row, number=number) for number, row in enumerate(rows)])


def broken_voice(speech: LocalModel, key: str, voice: Sequence[int]) -> Utterance:
    """An utterance whose global tokens the model can read but the codec must refuse."""
    request = parse_request({"text": "Hello.", "max_seconds": 0.2})
    prompt = voice_prompt(
        speech.layout, speech.encode_text(request.text), speech.voices.get("first").global_tokens
    )
    return by_hand(key, request, Decoding(speech.layout, prompt, list(voice), seed=1, limit=10))


@pytest.mark.parametrize("voice", [[4096] * 32, [-1] * 32, [1] * 31, [1] * 33])
def test_voice_that_the_codec_refuses_fails_alone(speech: LocalModel, voice: list[int]) -> None:
    with desk(speech, vocoder_batch=4) as shared:
        held = threading.Event()
        batches = hold_vocoder(shared.pipeline, held)
        flat = {"temperature": 5, "top_p": 1, "top_k": 0, "max_seconds": 0.2}
        shared.submit("first", seed=9, **flat)
        wait_until(lambda: batches == [1])
        for number in range(3):
            shared.submit(f"good{number}", seed=number, **flat)
        shared.pipeline.submit(broken_voice(speech, "bad", voice))
        wait_until(lambda: shared.pipeline._vocoder.inbox.qsize() == 4)
        held.set()
        found = shared.collect(5)
        assert batches == [1, 4, 1, 1, 1, 1]
        error = reason(found.pop("bad"))
        assert error is not None
        assert error.startswith("vocoder: ValueError")
        assert all(len(decoded(utterance)[0]) == 10 * HOP for utterance in found.values())


def hold_vocoder(pipeline: Pipeline, held: threading.Event) -> list[int]:
    """Make the vocoder wait before it decodes, so that what follows forms a batch; lists its batches' sizes."""
    stage, vocoder = pipeline._vocoder, pipeline._vocoder._vocoder
    batches: list[int] = []

    def late(semantic: Any, *options: Any) -> Any:
        batches.append(len(semantic))
        held.wait(PATIENCE)
        return vocoder(semantic, *options)

    stage._vocoder = late  # type: ignore[assignment]
    return batches


def test_the_vocoder_is_alone_while_nothing_decodes(speech: LocalModel) -> None:
    with desk(speech) as one:
        stage, vocoder, alone = one.pipeline._vocoder, one.pipeline._vocoder._vocoder, []

        def noting(*options: Any) -> Any:
            alone.append(options[-1])
            return vocoder(*options)

        stage._vocoder = noting  # type: ignore[assignment]
        one.submit("lone")
        one.collect(1)
        one.submit("long", **LONG, max_seconds=30)
        wait_until(lambda: one.pipeline.engine.phases().total() > 0)
        one.submit("short")
        one.collect(1)
        one.pipeline.cancel("long")
        one.collect(1)
        assert alone[:2] == [True, False]


def wait_until(condition: Callable[[], bool]) -> None:
    clock = threading.Event()
    for _ in range(PATIENCE * 100):
        if condition():
            return
        clock.wait(0.01)
    raise AssertionError("it did not happen")


def test_running_utterance_is_cancelled(speech: LocalModel) -> None:
    with desk(speech) as one:
        long = one.submit("long", **{**LONG, "max_seconds": 40})
        short = one.submit("short", seed=1)
        wait_until(lambda: len(row(long).decoding.semantic) > 3)
        one.pipeline.cancel("long")
        one.pipeline.cancel("nobody")
        found = one.collect(2)
    assert reason(found["long"]) == "cancelled on request"
    assert row(long).finished is FinishReason.CANCELLED
    assert long.audio == b""
    assert found["short"] is short
    assert reason(short) is None


def test_waiting_utterance_is_cancelled_without_being_run(speech: LocalModel) -> None:
    with desk(speech, max_rows=1) as one:
        first = one.submit("first", **{**LONG, "max_seconds": 40})
        waiting = one.submit("waiting")
        wait_until(lambda: len(row(first).decoding.semantic) > 0)
        one.pipeline.cancel("waiting")
        assert reason(one.collect(1)["waiting"]) == "cancelled on request"
        assert row(waiting).steps == 0
        assert row(first).finished is None
        one.pipeline.cancel("first")
        one.collect(1)
        one.submit("next", seed=1, **FLAT)
        assert reason(one.collect(1)["next"]) is None


def test_cancel_of_what_has_ended_changes_nothing(speech: LocalModel) -> None:
    with desk(speech) as one:
        one.submit("a", seed=1)
        first = one.collect(1)["a"]
        one.pipeline.cancel("a")
        one.submit("b", seed=1)
        assert trace(one.collect(1)["b"]) == trace(first)


FLAT = {"temperature": 5, "top_p": 1, "top_k": 0, "max_seconds": 0.2}
"""Ten tokens, and hardly ever fewer."""


@pytest.mark.parametrize("size", [1, 3])
def test_utterance_is_cancelled_while_it_waits_for_the_vocoder(speech: LocalModel, size: int) -> None:
    with desk(speech, vocoder_batch=size) as one:
        held = threading.Event()
        batches = hold_vocoder(one.pipeline, held)
        one.submit("first", seed=1, **FLAT)
        wait_until(lambda: batches == [1])
        for key in ("late", "other"):
            one.submit(key, seed=2, **FLAT)
        wait_until(lambda: one.pipeline._vocoder.inbox.qsize() == 2)
        one.pipeline.cancel("late", told("timeout: 3 s"))
        one.pipeline.cancel("late", told("the first reason counts"))
        held.set()
        found = one.collect(3)
        assert batches == [1, 1], "what is cancelled is not vocoded"
    assert {key: reason(utterance) for key, utterance in found.items()} == {
        "first": None,
        "late": "timeout: 3 s",
        "other": None,
    }
    assert found["late"].parts[0].wave is None
    assert row(found["late"]).finished is FinishReason.LENGTH


def test_utterance_is_cancelled_while_it_is_vocoded(speech: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, take = [], Assembly.take

    def noted(assembly: Assembly, item: Any) -> None:
        taken.append(item)
        take(assembly, item)

    monkeypatch.setattr(Assembly, "take", noted)
    with desk(speech) as one:
        held = threading.Event()
        batches = hold_vocoder(one.pipeline, held)
        one.submit("first", seed=1, **FLAT)
        wait_until(lambda: batches == [1])
        one.pipeline.cancel("first", told("timeout: 3 s"))
        held.set()
        assert reason(one.collect(1)["first"]) == "timeout: 3 s"
    assert not any(isinstance(item, Piece) for item in taken)


def hold_encoder(monkeypatch: pytest.MonkeyPatch, held: threading.Event) -> threading.Semaphore:
    """Make the encoder wait before it completes a file; what is returned is released whenever it begins to."""
    encoding, file = threading.Semaphore(0), Assembly.file

    def late(assembly: Assembly) -> bytes:
        encoding.release()
        held.wait(PATIENCE)
        return file(assembly)

    monkeypatch.setattr(Assembly, "file", late)
    return encoding


def test_utterance_is_cancelled_while_it_is_encoded_or_waits_for_that(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    encoding = hold_encoder(monkeypatch, held)
    with desk(speech) as one:
        one.submit("encoded", seed=1, **FLAT)
        assert encoding.acquire(timeout=PATIENCE)
        for key in ("waiting", "kept"):
            one.submit(key, seed=2, **FLAT)
        wait_until(lambda: one.pipeline._encoder.inbox.qsize() == 4)
        for key in ("encoded", "waiting"):
            one.pipeline.cancel(key, told("timeout: 3 s"))
        held.set()
        found = one.collect(3)
    assert {key: (reason(utterance), utterance.audio == b"") for key, utterance in found.items()} == {
        "encoded": ("timeout: 3 s", True),
        "waiting": ("timeout: 3 s", True),
        "kept": (None, False),
    }


def test_reason_of_a_cancel_is_the_error_in_the_engine_too(speech: LocalModel) -> None:
    with desk(speech, max_rows=1) as one:
        running = one.submit("running", **{**LONG, "max_seconds": 40})
        one.submit("waiting", seed=1)
        wait_until(lambda: row(running).steps > 3)
        for key in ("waiting", "running"):
            one.pipeline.cancel(key, told(f"{key} too long"))
        found = one.collect(2)
    assert {reason(utterance) for utterance in found.values()} == {"running too long", "waiting too long"}


def test_running_utterance_is_cancelled_while_the_pipeline_closes(speech: LocalModel) -> None:
    one = Desk(speech)
    running = one.submit("long", **{**LONG, "max_seconds": 40})
    wait_until(lambda: row(running).steps > 3)
    closing = threading.Thread(target=one.pipeline.close)
    closing.start()
    wait_until(lambda: one.pipeline._closed and one.pipeline._engine.inbox.empty())
    one.pipeline.cancel("long", told("shutdown"))
    closing.join(PATIENCE)
    assert reason(one.collect(1)["long"]) == "shutdown"
    assert row(running).finished is FinishReason.CANCELLED


def test_cancels_from_many_threads_return_each_utterance_once(speech: LocalModel) -> None:
    keys = [str(number) for number in range(12)]
    with desk(speech, vocoder_batch=3) as one:
        for key in keys:
            one.submit(key, seed=int(key), **FLAT)

        def cancel(mine: Sequence[str]) -> None:
            for key in mine:
                one.pipeline.cancel(key, told("stop"))

        parts = (keys[::2], keys[::3], keys[::-4])
        threads = [threading.Thread(target=cancel, args=(part * 20,)) for part in parts]
        for thread in threads:
            thread.start()
        found = one.collect(12)
        for thread in threads:
            thread.join()
    assert {reason(utterance) for utterance in found.values()} <= {None, "stop"}
    assert not one.pipeline._inside


def test_callbacks_that_raise_end_no_thread(speech: LocalModel) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="ERROR")

    def freed() -> None:
        raise OSError("freed")

    with desk(speech, freed=freed) as one:
        done = one.pipeline._encoder._done

        def faulty(utterance: Utterance) -> None:
            done(utterance)
            raise OSError("done")

        one.pipeline._encoder._done = faulty
        for key in ("a", "b"):
            one.submit(key, seed=1, **FLAT)
            assert reason(one.collect(1)[key]) is None
        assert all(stage._thread.is_alive() for stage in one.pipeline._stages)
    logger.remove(sink)
    assert sorted(lines) == ["the callback 'done' failed"] * 2 + ["the callback 'freed' failed"] * 2


def test_submit_after_close_is_refused(speech: LocalModel) -> None:
    with desk(speech) as one:
        pass
    with pytest.raises(RuntimeError, match="the pipeline is closed"):
        one.submit("late")
    assert one.pipeline.progress() is None


def test_progress_follows_every_stage(speech: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = threading.Event()
    hold_encoder(monkeypatch, encoding)
    with desk(speech) as one:
        assert one.pipeline.progress() is None
        vocoding = threading.Event()
        batches = hold_vocoder(one.pipeline, vocoding)
        long = one.submit("long", **{**LONG, "max_seconds": 40})
        wait_until(lambda: row(long).steps > 0)
        for _ in range(3):
            steps, before = row(long).steps, one.pipeline.progress()
            wait_until(lambda: row(long).steps > steps + 1)  # noqa: B023
            assert before is not None
            assert (one.pipeline.progress() or 0) > before
        one.pipeline.cancel("long")
        assert one.collect(1)["long"] is long
        assert one.pipeline.progress() is None
        for key in ("first", "second"):
            one.submit(key, seed=1, **FLAT)
        wait_until(lambda: batches == [1] and one.pipeline.free_rows() == 4)
        wait_until(lambda: one.pipeline._encoder.inbox.empty())
        stuck = [one.pipeline.progress() for _ in range(20) if not threading.Event().wait(0.005)]
        assert len(set(stuck)) == 1, "nothing moves while the vocoder stands"
        vocoding.set()
        wait_until(lambda: (one.pipeline.progress() or 0) >= (stuck[0] or 0) + 2)
        encoding.set()
        one.collect(2)
        wait_until(lambda: one.pipeline.progress() is None)


def test_close_finishes_what_is_inside(speech: LocalModel) -> None:
    one = Desk(speech, max_rows=2)
    for number in range(5):
        one.submit(str(number), seed=number, max_seconds=0.2)
    one.pipeline.close()
    assert all(reason(utterance) is None for utterance in one.collect(5).values())
    assert one.ended.empty()
    assert not [stage for stage in one.pipeline._stages if stage._thread.is_alive()]


def test_free_rows_come_back_and_are_announced(speech: LocalModel) -> None:
    freed = threading.Semaphore(0)
    with desk(speech, max_rows=3, freed=freed.release) as one:
        assert one.pipeline.free_rows() == 3
        running = one.submit("long", **{**LONG, "max_seconds": 40})
        wait_until(lambda: row(running).steps > 0)
        assert one.pipeline.free_rows() == 2
        one.pipeline.cancel("long")
        assert freed.acquire(timeout=PATIENCE)
        assert one.pipeline.free_rows() == 3
        one.collect(1)


class FailingForward:
    """The model's forward pass, which raises at the one call that is asked for, when the states have advanced.

    Attributes:
        armed: The next call with enough rows raises.
        rows: How many are enough.
    """

    def __init__(self, speech: LocalModel, error: Exception) -> None:
        self.armed, self.rows = threading.Event(), 1
        self._forward, self._error = speech.model.forward, error

    def __call__(self, *args: Any) -> Tensor:
        residual, rows = self._forward(*args), args[1]
        if self.armed.is_set() and len(rows.last) >= self.rows:
            self.armed.clear()
            raise self._error
        return residual


@pytest.mark.parametrize("error", [RuntimeError("device lost"), torch.OutOfMemoryError("no memory")])
def test_failed_step_fails_a_lone_row_and_restarts_several(
    speech: LocalModel, alone: dict[str, Utterance], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    forward = FailingForward(speech, error)
    monkeypatch.setattr(speech.model, "forward", forward)
    with desk(speech, max_rows=6) as one:
        lone = one.submit("lone", **{**LONG, "max_seconds": 40})
        wait_until(lambda: len(row(lone).decoding.semantic) > 3)
        forward.armed.set()
        told_of = reason(one.collect(1)["lone"])
        assert told_of is not None
        assert told_of.startswith("engine: ")
        assert one.pipeline.free_rows() == 6
        forward.rows = 3  # some have begun by then, and none has ended
        forward.armed.set()
        for key, fields in requests().items():
            one.submit(key, **fields)
        for key, utterance in one.collect(6).items():
            assert trace(utterance) == trace(alone[key])
            summary = result(utterance)
            assert min(summary.timings.prefill, summary.timings.decode) >= 0
        assert not forward.armed.is_set()
        lowered = isinstance(error, torch.OutOfMemoryError)
        assert (one.pipeline.free_rows() < 6) == lowered


def test_free_rows_follow_the_ceiling_that_out_of_memory_leaves(
    speech: LocalModel, alone: dict[str, Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(speech.model, RWKV7 | NativeRWKV7)
    forward = speech.model.forward

    def limited(tokens: Tensor, rows: Ragged, state: State) -> Tensor:
        residual = forward(tokens, rows, state)
        if len(rows.last) > 1:
            raise torch.OutOfMemoryError("no memory")
        return residual

    monkeypatch.setattr(speech.model, "forward", limited)
    with desk(speech, max_rows=4) as one:
        first = one.submit("first", **{**LONG, "max_seconds": 40})
        wait_until(lambda: row(first).steps > 3)
        for key, fields in requests().items():
            one.submit(key, **fields)
        wait_until(lambda: one.pipeline.free_rows() == 1 - 7)
        one.pipeline.cancel("first")
        found = one.collect(7)
        assert reason(found.pop("first")) == "cancelled on request"
        assert {key: trace(utterance) for key, utterance in found.items()} == {
            key: trace(utterance) for key, utterance in alone.items()
        }
        assert one.pipeline.free_rows() == 1


def test_row_with_a_bad_token_fails_alone(speech: LocalModel, alone: dict[str, Utterance]) -> None:
    request = parse_request({"text": "Hello."})
    bad = by_hand("bad", request, Decoding(speech.layout, [1, 2, 1_000_000]))
    with desk(speech, max_rows=7, token_chunk_size=1000) as one:
        for key, fields in requests().items():
            one.submit(key, **fields)
        one.pipeline.submit(bad)
        found = one.collect(7)
        assert one.pipeline.free_rows() == 7
    error = reason(found.pop("bad"))
    assert error is not None
    assert error.startswith("engine: IndexError: index 1000000")
    for key, utterance in found.items():
        assert trace(utterance) == trace(alone[key])


def test_model_that_ends_at_once_is_an_error_with_advice(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy decoding of a head whose EOS row wins everywhere after the voice."""
    assert isinstance(speech.model, RWKV7 | NativeRWKV7)
    logits = speech.model.logits

    def eos_wins(residual: Tensor, out: Tensor) -> Tensor:
        result = logits(residual, out=out)
        result[:, speech.layout.eos] = 1e9
        return result

    monkeypatch.setattr(speech.model, "logits", eos_wins)
    with desk(speech) as one:
        one.submit("silent", temperature=0)
        error = reason(one.collect(1)["silent"])
    assert error is not None
    assert "another seed or text" in error


def test_unknown_voice_is_refused_before_the_pipeline(speech: LocalModel) -> None:
    with pytest.raises(RequestError, match=r"^voice: unknown voice 'nobody'; accepted: first, second$"):
        make_utterance(speech, "key", parse_request({"text": "a", "voice": "nobody"}))


def test_attributes_reach_the_prompt(speech: LocalModel) -> None:
    layout = speech.layout
    utterance = make_utterance(speech, "key", parse_request({"text": "a", "gender": "Male", "age": "child"}))
    controls = [layout.control_offset + n for n in (0, 13, 47, 22, 7, 3)]
    assert list(row(utterance).decoding.prompt)[:6] == controls
    assert Attributes().control_numbers() != [0, 13, 47, 22, 7, 3]


@pytest.mark.parametrize("stage", ["cloner", "engine", "vocoder"])
def test_a_lost_device_is_told_by_progress(
    random_model: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """A sticky error of the device fails no row by row; whoever watches must end the process."""
    speech = open_model(random_model)

    def lost(*_: Any, **__: Any) -> Tensor:
        raise torch.AcceleratorError("device-side assert triggered")

    if stage == "engine":
        monkeypatch.setattr(speech.model, "forward", lost)
    elif stage == "cloner":
        monkeypatch.setattr(speech.codec, "encode_globals", lost)
    else:
        monkeypatch.setattr(Vocoder, "__call__", lost)
    one = Desk(speech)
    one.submit("a", seed=1, **({"reference": reference(1)} if stage == "cloner" else {}))
    with pytest.raises(StageBrokenError, match=f"{stage}: AcceleratorError: device-side assert"):
        until(lambda: one.pipeline.progress() is None)
    assert one.ended.empty()


# References.


def cloned_requests() -> dict[str, dict[str, Any]]:
    """Eight with a voice each; all else is equal, but that every other one has a transcript."""
    equal = {"seed": 7, "text": "Eight speak at once.", "max_seconds": 2}
    return {
        str(number): {
            **equal,
            "reference": reference(number, 0.5 + 0.8 * number),
            **({"reference_text": "Hm."} if number % 2 else {}),
        }
        for number in range(8)
    }


@pytest.fixture(scope="module")
def cloned_alone(speech: LocalModel) -> dict[str, Utterance]:
    """Each of the eight by itself, in a pipeline that has never seen another voice."""
    found: dict[str, Utterance] = {}
    for key, fields in cloned_requests().items():
        with desk(speech, max_rows=1) as lone:
            lone.submit(key, **fields)
            found |= lone.collect(1)
    return found


def heard(speech: LocalModel, number: int, *, transcript: bool = False) -> EncodedVoice:
    """What a recording is encoded to."""
    assert speech.voice_encoder is not None
    (voice,) = Cloner(speech.voice_encoder)([Recording(recording(number, 0.5 + 0.8 * number), transcript)])
    assert isinstance(voice, EncodedVoice)
    return voice


def test_cloned_voices_are_their_recordings(speech: LocalModel, cloned_alone: dict[str, Utterance]) -> None:
    for number, utterance in enumerate(cloned_alone.values()):
        voice, decoding = heard(speech, number, transcript=number % 2 == 1), row(utterance).decoding
        assert list(decoding.globals_) == voice.globals_
        assert bool(voice.semantic) == (number % 2 == 1)
        assert list(decoding.prompt)[-len(voice.semantic) :] == voice.semantic or not voice.semantic
        expected = Vocoder(speech.codec)([decoding.semantic], [voice.globals_])[0]
        assert np.array_equal(wave(utterance), expected)
        assert 0 < result(utterance).timings.clone <= result(utterance).timings.total
    assert len({trace(utterance)[2] for utterance in cloned_alone.values()}) == 8


@pytest.mark.parametrize("clone_batch", [1, 8])
def test_eight_voices_in_one_batch_each_keep_their_own(
    speech: LocalModel, alone: dict[str, Utterance], cloned_alone: dict[str, Utterance], clone_batch: int
) -> None:
    with desk(speech, max_rows=14, vocoder_batch=14, clone_batch=clone_batch) as shared:
        held = threading.Event()
        sizes = hold_cloner(shared.pipeline, held)
        for key, fields in cloned_requests().items():
            shared.submit(key, **fields)
        wait_until(lambda: len(sizes) == 1)
        held.set()
        for key, fields in requests().items():
            shared.submit(key, **fields)
        found = shared.collect(14)
    assert sum(sizes) == 8
    assert max(sizes) >= clone_batch / 2
    assert max(row(found[key]).mean_batch for key in cloned_alone) > 2
    for key, utterance in {**alone, **cloned_alone}.items():
        assert trace(found[key]) == trace(utterance), key
        assert np.allclose(wave(found[key]), wave(utterance), rtol=0, atol=1e-5)


def hold_cloner(pipeline: Pipeline, held: threading.Event) -> list[int]:
    """Make the cloner wait before it encodes, so that what follows forms a batch; lists its batches' sizes."""
    stage, cloner = pipeline._cloner, pipeline._cloner._cloner
    assert cloner is not None
    batches: list[int] = []

    def late(recordings: Sequence[Recording]) -> list[EncodedVoice | Refusal]:
        batches.append(len(recordings))
        held.wait(PATIENCE)
        return cloner(recordings)

    stage._cloner = late  # type: ignore[assignment]
    return batches


def test_requests_without_reference_do_not_wait_for_the_cloner(
    speech: LocalModel, alone: dict[str, Utterance]
) -> None:
    with desk(speech, max_rows=3) as one:
        held = threading.Event()
        batches = hold_cloner(one.pipeline, held)
        one.submit("cloned", seed=1, reference=reference(1))
        wait_until(lambda: batches == [1])
        for key, fields in requests().items():
            one.submit(key, **fields)
        found = one.collect(6)
        assert {key: trace(utterance) for key, utterance in found.items()} == {
            key: trace(utterance) for key, utterance in alone.items()
        }
        held.set()
        assert reason(one.collect(1)["cloned"]) is None


def test_a_bad_reference_fails_alone_and_frees_its_row(
    speech: LocalModel, cloned_alone: dict[str, Utterance]
) -> None:
    with desk(speech, max_rows=4, clone_batch=8) as one:
        held = threading.Event()
        batches = hold_cloner(one.pipeline, held)
        one.submit("bad", reference="QUJD")
        wait_until(lambda: batches == [1])
        assert one.pipeline.free_rows() == 3, "who waits for the cloner has a row"
        for key in ("0", "1"):
            one.submit(key, **cloned_requests()[key])
        one.submit("worse", reference=reference(1, 0.05))
        assert one.pipeline.free_rows() == 0
        held.set()
        found = one.collect(4)
        assert batches == [1, 3]
        wait_until(lambda: one.pipeline.free_rows() == 4)
    assert {key for key, utterance in found.items() if reason(utterance)} == {"bad", "worse"}
    assert (reason(found["bad"]) or "").startswith("reference: recording in an unknown format")
    assert (reason(found["worse"]) or "").startswith("reference: recording of 0.05 s")
    for key in ("0", "1"):
        assert trace(found[key]) == trace(cloned_alone[key])


def test_utterance_is_cancelled_while_it_is_cloned_or_waits_for_that(speech: LocalModel) -> None:
    with desk(speech, clone_batch=8) as one:
        held = threading.Event()
        batches = hold_cloner(one.pipeline, held)
        cloned = one.submit("cloned", reference=reference(1))
        wait_until(lambda: batches == [1])
        waiting = one.submit("waiting", reference=reference(2))
        one.submit("kept", seed=1, reference=reference(3))
        for key in ("cloned", "waiting"):
            one.pipeline.cancel(key, told("timeout: 3 s"))
        held.set()
        found = one.collect(3)
        assert batches == [1, 1], "what is cancelled is not encoded"
        wait_until(lambda: one.pipeline.free_rows() == 4)
    assert {key: reason(utterance) for key, utterance in found.items()} == {
        "cloned": "timeout: 3 s",
        "waiting": "timeout: 3 s",
        "kept": None,
    }
    assert row(cloned).steps == row(waiting).steps == 0


def test_limits_change_while_it_runs_and_are_told_when_they_hold(speech: LocalModel) -> None:
    done = threading.Semaphore(0)
    with desk(speech, max_rows=4) as one:
        for number in range(4):
            one.submit(str(number), **LONG | {"max_seconds": 30})
        until(lambda: one.pipeline.engine.phases().total() == 4)
        one.pipeline.limit(1, 7, done.release)
        assert done.acquire(timeout=PATIENCE)
        engine = one.pipeline.engine
        assert isinstance(engine, LocalEngine)
        assert (engine.max_rows, engine.scheduler.token_chunk_size) == (1, 7)
        assert one.pipeline.free_rows() == 1 - 4
        for number in range(4):
            one.pipeline.cancel(str(number))
        assert one.collect(4).keys() == {"0", "1", "2", "3"}
        waiting = [one.submit(f"next {number}") for number in range(3)]
        one.collect(3)
        assert {row(utterance).mean_batch for utterance in waiting} == {1.0}
        one.pipeline.limit(4, 64, done.release)
        assert done.acquire(timeout=PATIENCE)
        assert one.pipeline.free_rows() == 4


def test_figures_count_rows_tokens_and_audio(speech: LocalModel) -> None:
    with desk(speech, max_rows=4) as one:
        stats = one.pipeline.engine.stats
        assert (stats.steps, stats.row_steps, stats.drawn, one.pipeline.audio_seconds) == (0, 0, 0, 0.0)
        submitted = [one.submit(name, **fields) for name, fields in requests().items()]
        one.collect(len(submitted))
        assert stats.row_steps == sum(row(utterance).steps for utterance in submitted)
        assert stats.steps < stats.row_steps
        assert stats.drawn >= sum(len(row(utterance).decoding.semantic) for utterance in submitted)
        assert one.pipeline.audio_seconds == pytest.approx(
            sum(len(wave(utterance)) / RATE for utterance in submitted)
        )


@pytest.mark.parametrize(("asked", "written"), [(5, 5), (100_000, None)])
def test_a_profile_holds_as_many_steps_as_were_asked_for(
    speech: LocalModel, tmp_path: Path, asked: int, written: int | None
) -> None:
    """Or as many as there were until the end; the speech is the same."""
    path = tmp_path / "trace.json"
    with desk(speech) as one:
        plain = one.submit("plain", seed=1)
        one.collect(1)
        before = one.pipeline.engine.stats.steps
        one.pipeline.profile(asked, path)
        profiled = one.submit("profiled", seed=1)
        one.collect(1)
        seen = one.pipeline.engine.stats.steps - before + 1  # closing is a step without rows
    events = json.loads(path.read_text())["traceEvents"]
    assert sum(event.get("name") == "engine step" for event in events) == (written or seen - 4)
    assert any(str(event.get("name")).startswith("aten::") for event in events)
    assert trace(profiled) == trace(plain)


def test_a_profile_that_cannot_be_written_does_not_end_the_engine(speech: LocalModel, tmp_path: Path) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="ERROR")
    with desk(speech) as one:
        one.pipeline.profile(1, tmp_path / "no" / "trace.json")
        one.submit("one", seed=1, **FLAT)
        assert reason(one.collect(1)["one"]) is None
    logger.remove(sink)
    assert lines == [f"profile: {tmp_path / 'no' / 'trace.json'} cannot be written"]


def test_cloned_utterance_is_cancelled_in_the_engine(speech: LocalModel) -> None:
    with desk(speech) as one:
        long = one.submit("long", **{**LONG, "max_seconds": 40}, reference=reference(1))
        wait_until(lambda: row(long).steps > 3)
        one.pipeline.cancel("long", told("enough"))
        assert reason(one.collect(1)["long"]) == "enough"


def test_a_batch_of_nothing_but_cancelled_ones_is_no_batch(speech: LocalModel) -> None:
    with desk(speech, clone_batch=2) as one:
        held = threading.Event()
        batches = hold_cloner(one.pipeline, held)
        one.submit("first", seed=1, reference=reference(1))
        wait_until(lambda: batches == [1])
        for key in ("a", "b"):
            one.submit(key, reference=reference(2))
            one.pipeline.cancel(key)
        held.set()
        found = one.collect(3)
    assert batches == [1]
    assert [reason(found[key]) for key in ("first", "a", "b")] == [None] + ["cancelled on request"] * 2


def test_progress_stands_still_while_the_cloner_does(speech: LocalModel) -> None:
    with desk(speech) as one:
        held = threading.Event()
        batches = hold_cloner(one.pipeline, held)
        one.submit("cloned", reference=reference(1))
        wait_until(lambda: batches == [1])
        before = one.pipeline.progress()
        stuck = [one.pipeline.progress() for _ in range(20) if not threading.Event().wait(0.005)]
        assert before is not None
        assert set(stuck) == {before}
        held.set()
        wait_until(lambda: (one.pipeline.progress() or before + 1) > before)
        one.collect(1)
        wait_until(lambda: one.pipeline.progress() is None)


def test_the_cloner_is_a_stage_that_makes_progress(speech: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, held, stuck = speech.model.forward, threading.Event(), threading.Event()

    def late(*args: Any) -> Tensor:
        stuck.set()
        held.wait(2 * PATIENCE)
        return forward(*args)

    monkeypatch.setattr(speech.model, "forward", late)
    with desk(speech) as one:
        one.submit("stuck", seed=1, **FLAT)
        assert stuck.wait(PATIENCE)
        assert one.pipeline.progress() == 0
        one.submit("cloned", seed=1, reference=reference(1), **FLAT)
        wait_until(lambda: one.pipeline.progress() == 1)
        held.set()
        one.collect(2)


def test_the_row_of_a_bad_reference_is_announced_as_free(speech: LocalModel) -> None:
    freed = threading.Semaphore(0)
    with desk(speech, freed=freed.release) as one:
        one.submit("bad", reference="QUJD")
        assert freed.acquire(timeout=PATIENCE)
        assert one.pipeline.free_rows() == 4
        one.collect(1)


def test_close_finishes_what_waits_for_the_cloner(speech: LocalModel) -> None:
    one = Desk(speech, max_rows=2)
    held = threading.Event()
    batches = hold_cloner(one.pipeline, held)
    for number in range(4):
        one.submit(str(number), seed=1, reference=reference(number), max_seconds=0.2)
    wait_until(lambda: batches == [1])
    closing = threading.Thread(target=one.pipeline.close)
    closing.start()
    wait_until(lambda: one.pipeline._closed)
    held.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert all(reason(utterance) is None for utterance in one.collect(4).values())
    assert not [stage for stage in one.pipeline._stages if stage._thread.is_alive()]


def test_recordings_are_let_go_of(speech: LocalModel) -> None:
    with desk(speech) as one:
        for key, audio in {"good": reference(1), "bad": "QUJD"}.items():
            one.submit(key, reference=audio)
        found = one.collect(2)
    assert [utterance.recording for utterance in found.values()] == [None, None]


def test_equal_references_are_encoded_once(speech: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, rows = speech.codec.encode_globals, []

    def counting(clips: Tensor) -> Tensor:
        rows.append(len(clips))
        return encode(clips)

    monkeypatch.setattr(speech.codec, "encode_globals", counting)
    with desk(speech, clone_batch=8) as one:
        for number in range(6):
            one.submit(str(number), reference=reference(1), seed=1)
        found = one.collect(6)
        one.submit("again", reference=reference(1), seed=1)
        found |= one.collect(1)
    assert rows == [1]
    assert len({trace(utterance)[2] for utterance in found.values()}) == 1


def test_a_model_without_encoder_refuses_references_and_still_speaks(
    speech: LocalModel, random_model: Path, alone: dict[str, Utterance]
) -> None:
    with desk(open_model(random_model, clone=False)) as one:
        with pytest.raises(
            RequestError, match=r"^reference: this worker clones no voices, the setting clone is off"
        ):
            one.submit("cloned", reference=reference(1))
        cloned = make_utterance(speech, "cloned", parse_request({"text": "a", "reference": reference(1)}))
        with pytest.raises(ValueError, match="no voice encoder"):
            one.pipeline.submit(cloned)
        one.submit("default", **requests()["default"])
        assert trace(one.collect(1)["default"]) == trace(alone["default"])


# Several parts.


def parts_of(speech: LocalModel, key: str, *texts: str, **fields: Any) -> Utterance:
    """An utterance whose parts speak these texts, each with a seed of its own."""
    requests = [parse_request({"text": text, "seed": number, **fields}) for number, text in enumerate(texts)]
    alone = [row(make_utterance(speech, key, request)).decoding for request in requests]
    whole = requests[0].model_copy(update={"max_seconds": None, "timestamps": True})
    return by_hand(key, whole, *alone)


def test_parts_of_an_utterance_are_one_file_in_their_order(speech: LocalModel) -> None:
    texts = ("A first part that is long. " * 3, "Second.", "And a third.")
    with desk(speech, max_rows=2, vocoder_batch=2) as one:
        for number, text in enumerate(texts):
            one.submit(str(number), text=text, seed=number, temperature=5, format="pcm")
        alone = one.collect(3)
        one.pipeline.submit(parts_of(speech, "whole", *texts, max_seconds=0.6, temperature=5, format="pcm"))
        whole = one.collect(1)["whole"]
    waves = [wave(alone[str(number)]) for number in range(3)]
    summed = result(whole)
    lengths = [part.end - part.begin for part in summed.parts or []]
    assert lengths == [pytest.approx(len(one) / RATE, abs=0.1) for one in waves]
    assert summed.tokens.semantic == sum(len(row(one).decoding.semantic) for one in alone.values())
    assert summed.seconds == pytest.approx(sum(map(len, waves)) / RATE, abs=0.1)
    first = np.frombuffer(whole.audio, "<i2")[: len(waves[0]) - RATE // 50]
    assert np.abs(first / 32767 - waves[0][: len(first)]).max() < 1e-3


def test_a_part_that_fails_ends_its_utterance_and_frees_its_rows(speech: LocalModel) -> None:
    with desk(speech, max_rows=3) as one:
        flat = {"temperature": 5, "top_p": 1, "top_k": 0, "max_seconds": 40}
        bad = parts_of(speech, "bad", "x" * 40, "y" * 40, "z" * 40, **flat)
        bad.parts[1].row.decoding = Decoding(speech.layout, [1, 2, 1_000_000])
        one.pipeline.submit(bad)
        assert (reason(one.collect(1)["bad"]) or "").startswith("engine: IndexError")
        assert one.pipeline.free_rows() == 3
        one.submit("next", seed=1, **FLAT)
        assert reason(one.collect(1)["next"]) is None


def test_a_cancel_ends_all_parts(speech: LocalModel) -> None:
    with desk(speech, max_rows=3) as one:
        flat = {"temperature": 5, "top_p": 1, "top_k": 0, "max_seconds": 40}
        long = parts_of(speech, "long", "x" * 40, "y" * 40, "z" * 40, **flat)
        one.pipeline.submit(long)
        wait_until(lambda: all(part.row.steps > 3 for part in long.parts[:2]))
        one.pipeline.cancel("long", told("enough"))
        assert reason(one.collect(1)["long"]) == "enough"
        assert one.pipeline.free_rows() == 3
        assert long.parts[2].row.steps == 0
