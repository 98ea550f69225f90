"""The engine: a row's tokens are its own, whoever shares its batch, and a step does no more than it says."""

import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import batching.engine
from batching.engine import Engine
from batching.row import Row
from batching.scheduler import Share
from model.checkpoint import Checkpoint, load_checkpoint
from model.rwkv7 import RWKV7
from sampler.attributes import Attributes
from sampler.decoding import Decoding, FinishReason, Phase, PhaseSampling
from sampler.prompt import attribute_prompt, voice_prompt
from worker.directory import SpeechModel, checkpoint_path, open_model

WideResults = Callable[[Tensor, int], AbstractContextManager[list[str]]]
Trace = tuple[list[int], list[int], FinishReason | None]
SETTINGS = [
    PhaseSampling(1.0, 0.95, 80),
    PhaseSampling(0.0, 1.0, 0),
    PhaseSampling(0.6, 0.8, 5),
    PhaseSampling(1.8, 1.0, 0),
]
LIMIT = 24


@pytest.fixture(scope="module")
def speech(random_model: Path) -> SpeechModel:
    return open_model(random_model)


def request(speech: SpeechModel, number: int) -> Row:
    """One of many requests: both modes, texts of 1 to 150 bytes, every kind of setting."""
    text = speech.encode_text("It is easy. " * (number % 7 * 2) + chr(97 + number))
    sampling = SETTINGS[number % len(SETTINGS)]
    voice = speech.voices.get("first").global_tokens if number % 3 == 0 else ()
    if voice:
        prompt = voice_prompt(speech.layout, text, voice)
    else:
        prompt = attribute_prompt(speech.layout, text, Attributes())
    decoding = Decoding(
        speech.layout, prompt, voice, seed=number, limit=LIMIT - number % 5, semantic_sampling=sampling
    )
    return Row(str(number), decoding)


def requests(speech: SpeechModel, count: int = 16) -> list[Row]:
    return [request(speech, number) for number in range(count)]


def trace(row: Row) -> Trace:
    return row.decoding.globals_, row.decoding.semantic, row.finished


def engine_of(speech: SpeechModel, rows: int = 16, chunk: int = 256, model: RWKV7 | None = None) -> Engine:
    return Engine(model or speech.model, speech.layout, max_rows=rows, token_chunk_size=chunk)


def run(engine: Engine, rows: Iterable[Row]) -> dict[str, Trace]:
    """Add all rows, then step until none is left."""
    for row in rows:
        engine.add(row)
    finished = []
    while len(engine.scheduler):
        finished += engine.step()
    return {row.key: trace(row) for row in finished}


@pytest.fixture(scope="module")
def alone(speech: SpeechModel) -> dict[str, Trace]:
    """Every request's trace by itself, in an engine of one row."""
    engine = engine_of(speech, rows=1)
    return {key: found for row in requests(speech) for key, found in run(engine, [row]).items()}


def test_requests_are_unlike(alone: dict[str, Trace]) -> None:
    assert len({str(found) for found in alone.values()}) == 16
    assert {reason for _, _, reason in alone.values()} <= {FinishReason.EOS, FinishReason.LENGTH}
    assert all(len(globals_) == 32 for globals_, _, _ in alone.values())


@pytest.mark.parametrize("size", [2, 8, 16])
def test_a_batch_gives_what_each_row_gives_alone(speech: SpeechModel, alone: dict[str, Trace], size: int) -> None:
    assert run(engine_of(speech, rows=size), requests(speech)) == alone


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_any_chunk_size_gives_the_same(speech: SpeechModel, alone: dict[str, Trace], chunk: int) -> None:
    assert run(engine_of(speech, chunk=chunk), requests(speech)) == alone


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_and_any_joins_give_the_same(speech: SpeechModel, alone: dict[str, Trace], seed: int) -> None:
    engine, choices = engine_of(speech, rows=6, chunk=50), random.Random(seed)  # noqa: S311
    waiting, finished = requests(speech), []
    choices.shuffle(waiting)
    while waiting or len(engine.scheduler):
        for _ in range(choices.choice([0, 0, 0, 1, 3])):
            if waiting:
                engine.add(waiting.pop())
        engine.scheduler.token_chunk_size = choices.choice([1, 9, 50, 256])
        engine.scheduler.max_rows = choices.choice([1, 3, 6])
        finished += engine.step()
    assert {row.key: trace(row) for row in finished} == alone


def watch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, bool, int]]]:
    """Record each step's shares: row, whether it prefills, tokens."""
    plan, seen = engine.scheduler.plan, []

    def recording() -> list[Share]:
        shares = plan()
        seen.append([(s.row.key, s.row.decoding.phase is Phase.PREFILL, s.tokens) for s in shares])
        return shares

    monkeypatch.setattr(engine.scheduler, "plan", recording)
    return seen


@pytest.mark.parametrize("chunk", [1, 7, 64, 256])
def test_every_step_keeps_to_the_chunk(speech: SpeechModel, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    rows = requests(speech, 6)
    outstanding = sum(row.decoding.remaining for row in rows)
    engine = engine_of(speech, rows=6, chunk=chunk)
    steps = watch(engine, monkeypatch)
    run(engine, rows)
    for shares in steps:
        prefilled = sum(tokens for _, prefill, tokens in shares if prefill)
        assert prefilled == min(chunk, outstanding)
        assert all(tokens == 1 for _, prefill, tokens in shares if not prefill)
        outstanding -= prefilled
    assert outstanding == 0


def test_a_lone_request_starts_at_once(speech: SpeechModel) -> None:
    engine, row = engine_of(speech), request(speech, 0)
    engine.add(row)
    engine.step()
    assert len(row.decoding.semantic) == 1
    assert (row.steps, row.mean_batch) == (1, 1.0)
    assert row.added_at <= row.started_at <= row.prefilled_at


def test_cancelled_rows_leave_and_the_others_do_not_notice(speech: SpeechModel, alone: dict[str, Trace]) -> None:
    engine, rows = engine_of(speech, rows=2), requests(speech, 5)
    for row in rows:
        engine.add(row)
    for _ in range(4):
        engine.step()
    running, waiting = rows[1], rows[3]
    assert engine.scheduler.cancel(waiting.key) is waiting
    assert engine.scheduler.cancel(running.key) is None
    tokens = len(running.decoding.globals_)
    assert engine.step() == [running]
    assert (running.finished, running.slot, len(running.decoding.globals_)) == (
        FinishReason.CANCELLED,
        -1,
        tokens,
    )
    engine.step()
    assert rows[2] in engine.scheduler.running
    found = run(engine, [])
    assert found == {key: alone[key] for key in ("0", "2", "4")}


def poisoned(random_model: Path, token: int) -> RWKV7:
    """The model, but one id's embedding is not a number."""
    checkpoint = load_checkpoint(checkpoint_path(random_model))
    embedding = checkpoint.tensors["emb.weight"].clone()
    embedding[token] = torch.nan
    tensors = {**checkpoint.tensors, "emb.weight": embedding}
    return RWKV7(Checkpoint(tensors, checkpoint.sizes), head_rows=8193)


def test_a_row_that_is_not_finite_fails_alone(
    speech: SpeechModel, random_model: Path, alone: dict[str, Trace]
) -> None:
    text = speech.layout.text_offset + speech.encode_text("b")[0]
    engine = engine_of(speech, rows=4, chunk=20, model=poisoned(random_model, text))
    rows = [row for row in requests(speech) if row.key == "1" or text not in row.decoding.prompt]
    assert len(rows) > 10
    found = run(engine, rows)
    assert found.pop("1") == ([], [], FinishReason.ERROR)
    assert found == {key: alone[key] for key in found}


def spy(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, seen: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        seen(*args, **kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)


def test_a_decode_step_copies_no_logits(
    speech: SpeechModel, monkeypatch: pytest.MonkeyPatch, wide_results: WideResults
) -> None:
    buffers: list[Tensor] = []
    sampled: list[Tensor] = []
    spy(monkeypatch, speech.model, "logits", lambda _, out: buffers.append(out))
    spy(monkeypatch, batching.engine, "sample_", lambda logits, _: sampled.append(logits))
    engine = engine_of(speech, rows=4)
    for number in (1, 4, 7, 10):
        row = request(speech, number)
        row.decoding.semantic_sampling = SETTINGS[0]
        engine.add(row)
    for _ in range(3):
        engine.step()
    with wide_results(buffers[0], 4096) as found:
        for _ in range(40):
            engine.step()
    assert len(sampled) > 40
    assert {out.data_ptr() for out in buffers} == {logits.data_ptr() for logits in sampled}
    assert len({out.data_ptr() for out in buffers}) == 1
    assert found == []


def test_more_threads_change_nothing_between_alone_and_together(random_model: Path) -> None:
    """Two threads split a product in another way, and may round it in another."""
    before = torch.get_num_threads()
    try:
        speech = open_model(random_model, threads=2)
        together = run(engine_of(speech), requests(speech, 6))
        single = engine_of(speech, rows=1)
        apart = {key: found for row in requests(speech, 6) for key, found in run(single, [row]).items()}
        assert together == apart
    finally:
        torch.set_num_threads(before)
