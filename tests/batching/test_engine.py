"""The engine: a row's tokens are its own, whoever shares its batch, and a step does no more than it says."""

import random
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loguru import logger
from torch import Tensor

import batching.plain
from batching.engine import Engine
from batching.row import Row
from batching.scheduler import Share
from make_random_model import RandomModel, write_random_model
from model.checkpoint import Checkpoint, load_checkpoint
from model.native.forward import NativeRWKV7
from model.rwkv7 import RWKV7
from rwkv_tts.attributes import Attributes
from sampler.decoding import Decoding, FinishReason, Phase, PhaseSampling
from sampler.prompt import attribute_prompt, voice_prompt
from traces import Trace, run, trace
from worker.speech.config import checkpoint_path
from worker.speech.loading import open_model
from worker.speech.model import LocalModel

CpuModel = RWKV7 | NativeRWKV7
WideResults = Callable[[Tensor, int], AbstractContextManager[list[str]]]
SETTINGS = [
    PhaseSampling(1.0, 0.95, 80),
    PhaseSampling(0.0, 1.0, 0),
    PhaseSampling(0.6, 0.8, 5),
    PhaseSampling(1.8, 1.0, 0),
]
LIMIT = 24


@pytest.fixture(scope="module")
def speech(random_model: Path) -> LocalModel:
    return open_model(random_model)


def request(speech: LocalModel, number: int) -> Row:
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


def requests(speech: LocalModel, count: int = 16) -> list[Row]:
    return [request(speech, number) for number in range(count)]


def engine_of(speech: LocalModel, rows: int = 16, chunk: int = 256, model: CpuModel | None = None) -> Engine:
    return Engine(model or speech.model, speech.layout, max_rows=rows, token_chunk_size=chunk)


@pytest.fixture(scope="module")
def alone(speech: LocalModel) -> dict[str, Trace]:
    """Every request's trace by itself, in an engine of one row."""
    engine = engine_of(speech, rows=1)
    return {key: found for row in requests(speech) for key, found in run(engine, [row]).items()}


def test_requests_are_unlike(alone: dict[str, Trace]) -> None:
    assert len({str(found) for found in alone.values()}) == 16
    assert {reason for _, _, reason in alone.values()} <= {FinishReason.EOS, FinishReason.LENGTH}
    assert all(len(globals_) == 32 for globals_, _, _ in alone.values())


@pytest.mark.parametrize("size", [2, 8, 16])
def test_a_batch_gives_what_each_row_gives_alone(speech: LocalModel, alone: dict[str, Trace], size: int) -> None:
    assert run(engine_of(speech, rows=size), requests(speech)) == alone


def test_weights_of_32_bits_give_no_row_another_trace_either(tmp_path: Path) -> None:
    """They are multiplied by BLAS, on padded rows."""
    write_random_model(tmp_path, RandomModel(layers=2, tokenizer="bytes", seed=1, dtype="fp32"))
    speech = open_model(tmp_path)
    single = engine_of(speech, rows=1)
    alone = {key: found for row in requests(speech, 8) for key, found in run(single, [row]).items()}
    assert run(engine_of(speech, rows=8, chunk=7), requests(speech, 8)) == alone


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_any_chunk_size_gives_the_same(speech: LocalModel, alone: dict[str, Trace], chunk: int) -> None:
    assert run(engine_of(speech, chunk=chunk), requests(speech)) == alone


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_and_any_joins_give_the_same(speech: LocalModel, alone: dict[str, Trace], seed: int) -> None:
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

    def recording(yielding: int | None = None) -> list[Share]:
        shares = plan(yielding)
        seen.append([(s.row.key, s.row.decoding.phase is Phase.PREFILL, s.tokens) for s in shares])
        return shares

    monkeypatch.setattr(engine.scheduler, "plan", recording)
    return seen


@pytest.mark.parametrize("chunk", [1, 7, 64, 256])
def test_every_step_keeps_to_the_chunk(speech: LocalModel, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
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


def test_a_lone_request_starts_at_once(speech: LocalModel) -> None:
    engine, row = engine_of(speech), request(speech, 0)
    engine.add(row)
    engine.step()
    assert len(row.decoding.semantic) == 1
    assert (row.steps, row.mean_batch) == (1, 1.0)
    assert row.added_at <= row.started_at <= row.prefilled_at


def test_cancelled_rows_leave_and_the_others_do_not_notice(speech: LocalModel, alone: dict[str, Trace]) -> None:
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


def poisoned(random_model: Path, speech: LocalModel, token: int) -> CpuModel:
    """The model, but one id's embedding is not a number."""
    checkpoint = load_checkpoint(checkpoint_path(random_model))
    embedding = checkpoint.tensors["emb.weight"].clone()
    embedding[token] = torch.nan
    tensors = {**checkpoint.tensors, "emb.weight": embedding}
    assert isinstance(speech.model, RWKV7 | NativeRWKV7)
    return type(speech.model)(Checkpoint(tensors, checkpoint.sizes), head_rows=8193)


def test_a_row_that_is_not_finite_fails_alone(
    speech: LocalModel, random_model: Path, alone: dict[str, Trace]
) -> None:
    text = speech.layout.text_offset + speech.encode_text("b")[0]
    engine = engine_of(speech, rows=4, chunk=20, model=poisoned(random_model, speech, text))
    rows = [row for row in requests(speech) if row.key == "1" or text not in row.decoding.prompt]
    assert len(rows) > 10
    found = run(engine, rows)
    assert found.pop("1") == ([], [], FinishReason.ERROR)
    assert found == {key: alone[key] for key in found}


Feeds = Callable[[Sequence[Row]], Exception | None]


def break_steps(engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Feeds) -> list[list[str]]:
    """Raise in steps for whose rows ``error`` gives one, after their states have advanced; lists their keys."""
    failed: list[list[str]] = []
    forward, plan = engine._model.forward, engine.scheduler.plan
    shares: list[Share] = []

    def recording(yielding: int | None = None) -> list[Share]:
        shares[:] = plan(yielding)
        return shares[:]

    def breaking(*args: Any) -> Tensor:
        residual = forward(*args)
        rows = [share.row for share in shares]
        raised = error(rows)
        if raised is None:
            return residual
        failed.append([row.key for row in rows])
        raise raised

    monkeypatch.setattr(engine.scheduler, "plan", recording)
    monkeypatch.setattr(engine._model, "forward", breaking)
    return failed


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged as a warning or worse."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


def costs(rows: Iterable[Row]) -> dict[str, tuple[int, float]]:
    return {row.key: (row.steps, row.mean_batch) for row in rows}


@pytest.mark.parametrize(
    ("kind", "most", "ceilings"),
    [
        (torch.OutOfMemoryError, 7, [4]),
        (MemoryError, 4, [4]),
        (torch.OutOfMemoryError, 3, [4, 2]),
        (torch.OutOfMemoryError, 1, [4, 2, 1]),
    ],
)
def test_out_of_memory_halves_the_rows_and_fails_none(
    speech: LocalModel,
    alone: dict[str, Trace],
    monkeypatch: pytest.MonkeyPatch,
    warnings: list[str],
    kind: type[Exception],
    most: int,
    ceilings: list[int],
) -> None:
    engine, rows = engine_of(speech, rows=8, chunk=10_000), requests(speech, 10)
    failed = break_steps(engine, monkeypatch, lambda rows: kind("no memory") if len(rows) > most else None)
    assert run(engine, rows) == {row.key: alone[row.key] for row in rows}
    assert engine.scheduler.max_rows == ceilings[-1]
    assert [len(keys) for keys in failed] == [8, 4, 2][: len(ceilings)]
    assert warnings == [f"engine: out of memory with {2 * n} rows; from now on {n} at most" for n in ceilings]
    assert all(row.started_at <= row.prefilled_at <= row.finished_at for row in rows)
    calm = requests(speech, 10)
    run(engine, calm)
    assert costs(rows) == costs(calm), "what was lost is not counted"


def test_out_of_memory_in_the_midst_restarts_in_order(
    speech: LocalModel, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are at different places, one has left, one has just come."""
    engine, rows = engine_of(speech, rows=8, chunk=60), requests(speech, 12)
    errors: list[Exception] = []
    failed = break_steps(engine, monkeypatch, lambda _: errors.pop() if errors else None)
    finished: list[Row] = []
    for row in rows:
        engine.add(row)
    while not finished:
        finished += engine.step()
    assert len({row.steps for row in engine.scheduler.running}) > 1
    errors.append(torch.OutOfMemoryError("no memory"))
    finished += engine.step()
    assert len(failed[0]) == 8
    assert engine.scheduler.max_rows == 4
    assert {(row.steps, row.slot, row.started_at) for row in rows if not row.finished} == {(0, -1, 0.0)}
    finished += engine.step()
    assert [row.key for row in engine.scheduler.running] == failed[0][:4]
    assert {row.key: trace(row) for row in finished} | run(engine, []) == {row.key: alone[row.key] for row in rows}


def test_a_single_row_that_needs_too_much_memory_fails_alone(
    speech: LocalModel, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    engine, rows = engine_of(speech, rows=8), requests(speech, 4)
    break_steps(engine, monkeypatch, lambda rows: MemoryError() if any(row.key == "2" for row in rows) else None)
    found = run(engine, rows)
    assert found.pop("2") == ([], [], FinishReason.ERROR)
    assert found == {key: alone[key] for key in "013"}
    reason = "out of memory with a single row; a shorter text or a device with more memory may help"
    assert [row.error for row in rows] == [None, None, reason, None]
    assert warnings[-1] == f"row 2: engine: {reason}"
    assert engine.scheduler.max_rows == 1


def test_a_lone_row_out_of_memory_lowers_no_ceiling(
    speech: LocalModel, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(speech, rows=8)
    break_steps(engine, monkeypatch, lambda rows: MemoryError() if rows[0].key == "1" else None)
    run(engine, [request(speech, 1)])
    assert engine.scheduler.max_rows == 8
    assert run(engine, [request(speech, 2)]) == {"2": alone["2"]}


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_a_failed_step_holds_no_memory_when_its_rows_restart(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    engine = engine_of(speech, rows=2)
    forward, held = engine._model.forward, list[weakref.ref[Tensor]]()
    alive: list[bool] = []

    def failing(*args: Any) -> Tensor:
        residual = forward(*args)
        held.append(weakref.ref(residual))
        raise kind("no memory")

    monkeypatch.setattr(engine._model, "forward", failing)
    spy(monkeypatch, engine, "_recover", lambda *_: alive.append(held[-1]() is not None))
    run(engine, requests(speech, 2))
    assert not alive[0]


def bad(speech: LocalModel, key: str = "bad") -> Row:
    """A row with a token that the embedding does not have."""
    row = request(speech, 1)
    return Row(key, replace(row.decoding, prompt=[*row.decoding.prompt, 1_000_000]))


@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("chunk", [20, 10_000])
@pytest.mark.parametrize("before", [0, 12])
def test_a_row_whose_step_fails_is_found_and_fails_alone(
    speech: LocalModel,
    alone: dict[str, Trace],
    monkeypatch: pytest.MonkeyPatch,
    place: int,
    chunk: int,
    before: int,
) -> None:
    engine, good = engine_of(speech, rows=8, chunk=chunk), requests(speech, 12)
    failed: list[int] = []
    spy(monkeypatch, engine, "_recover", lambda _, rows: failed.append(len(rows)))
    for row in good[:place]:
        engine.add(row)
    found = {row.key: trace(row) for _ in range(before) for row in engine.step()}
    faulty = bad(speech)
    found |= run(engine, [faulty, *good[place:]])
    assert found.pop("bad") == ([], [], FinishReason.ERROR)
    assert faulty.error is not None
    assert faulty.error.startswith("IndexError: index 1000000 is out of bounds")
    assert found == {row.key: alone[row.key] for row in good}
    assert engine.scheduler.max_rows == 8
    assert failed[-1] == 1
    assert len(failed) <= 4


def test_a_newcomer_at_fault_is_found_first(speech: LocalModel) -> None:
    engine, good, faulty = engine_of(speech, rows=8, chunk=10_000), requests(speech, 7), bad(speech)
    for row in good:
        engine.add(row)
    engine.step()
    engine.add(faulty)
    assert [engine.step() for _ in range(4)] == [[], [], [], [faulty]]
    assert engine.scheduler.max_rows == 8


def test_two_rows_at_fault_fail_and_no_others(speech: LocalModel, alone: dict[str, Trace]) -> None:
    engine, good = engine_of(speech, rows=8), requests(speech, 9)
    found = run(engine, [*good[:2], bad(speech, "x"), *good[2:6], bad(speech, "y"), *good[6:]])
    assert found.pop("x") == found.pop("y") == ([], [], FinishReason.ERROR)
    assert found == {row.key: alone[row.key] for row in good}
    assert engine.scheduler.max_rows == 8


def test_a_row_that_fails_while_it_speaks_is_found(
    speech: LocalModel, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(rows: Sequence[Row]) -> Exception | None:
        return ValueError("row 5") if any(r.key == "5" and len(r.decoding.semantic) > 4 for r in rows) else None

    engine, rows = engine_of(speech, rows=8), requests(speech, 12)
    failed = break_steps(engine, monkeypatch, late)
    found = run(engine, rows)
    assert found.pop("5")[2] is FinishReason.ERROR
    assert rows[5].error == "ValueError: row 5"
    assert found == {key: alone[key] for key in found}
    assert [len(keys) for keys in failed] == [8, 4, 2, 1]
    assert engine.scheduler.max_rows == 8


def test_rows_that_all_fail_end_with_their_own_reasons(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, rows = engine_of(speech, rows=8), requests(speech, 8)
    failed = break_steps(engine, monkeypatch, lambda rows: RuntimeError(",".join(row.key for row in rows)))
    run(engine, rows)
    assert [row.error for row in rows] == [f"RuntimeError: {row.key}" for row in rows]
    assert len(failed) <= 8 * 4
    assert engine.scheduler.max_rows == 8


@pytest.mark.parametrize("cancel", [False, True])
def test_an_error_that_does_not_come_again_fails_none(
    speech: LocalModel, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch, cancel: bool
) -> None:
    engine, rows = engine_of(speech, rows=8, chunk=10_000), requests(speech, 8)
    errors: list[Exception] = [RuntimeError("device lost")]
    break_steps(engine, monkeypatch, lambda _: errors.pop() if errors else None)
    for row in rows:
        engine.add(row)
    assert engine.step() == []
    assert engine.scheduler.max_rows == 4
    if cancel:
        for row in rows:
            engine.scheduler.cancel(row.key)
        engine.step()
        rows = requests(speech, 8)
        assert run(engine, rows) == {row.key: alone[row.key] for row in rows}
    else:
        assert run(engine, []) == {row.key: alone[row.key] for row in rows}
    assert engine.scheduler.max_rows == 8


def test_the_ceiling_of_out_of_memory_outlives_the_search_for_a_fault(
    speech: LocalModel, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, good = engine_of(speech, rows=8, chunk=10_000), requests(speech, 12)
    failed = break_steps(engine, monkeypatch, lambda rows: MemoryError() if len(rows) > 4 else None)
    found = run(engine, [*good[:8], bad(speech), *good[8:]])
    assert found.pop("bad")[2] is FinishReason.ERROR
    assert len(failed) == 1
    assert found == {row.key: alone[row.key] for row in good}
    assert engine.scheduler.max_rows == 4


def test_a_limit_lets_running_rows_finish_and_can_be_taken_back(
    speech: LocalModel, alone: dict[str, Trace]
) -> None:
    engine, rows = engine_of(speech, rows=6), requests(speech, 14)
    for row in rows:
        engine.add(row)
    finished = engine.step()
    first = list(engine.scheduler.running)
    engine.limit(2, token_chunk_size=5)
    assert engine.scheduler.token_chunk_size == 5
    while not all(row.finished for row in first):
        finished += engine.step()
        newcomers = [row for row in engine.scheduler.running if row not in first]
        assert len(newcomers) <= 2
        assert not newcomers or len(engine.scheduler.running) <= 2
    engine.limit(6, token_chunk_size=256)
    engine.step()
    assert len(engine.scheduler.running) > 2
    found = {row.key: trace(row) for row in finished} | run(engine, [])
    assert {key: found[key] for key in found} == {key: alone[key] for key in found}
    assert all(row.finished for row in rows)


@pytest.mark.parametrize(("limit", "after"), [(8, 4), (3, 3)])
def test_no_limit_brings_back_rows_for_which_there_was_no_memory(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch, limit: int, after: int
) -> None:
    engine = engine_of(speech, rows=8, chunk=10_000)
    break_steps(engine, monkeypatch, lambda rows: MemoryError() if len(rows) > 4 else None)
    run(engine, requests(speech, 8))
    assert engine.scheduler.max_rows == 4
    engine.limit(limit, token_chunk_size=10_000)
    assert engine.scheduler.max_rows == after
    engine.limit(8, token_chunk_size=10_000)
    assert engine.scheduler.max_rows == 4


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError])
def test_halving_stays_below_the_limit(
    speech: LocalModel, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Eight rows still run when the limit is two already."""
    engine, rows = engine_of(speech, rows=8, chunk=10_000), requests(speech, 8)
    errors: list[Exception] = []
    break_steps(engine, monkeypatch, lambda _: errors.pop() if errors else None)
    for row in rows:
        engine.add(row)
    engine.step()
    engine.limit(2, token_chunk_size=10_000)
    errors.append(kind("late"))
    engine.step()
    assert engine.scheduler.max_rows == 2
    assert run(engine, []) == {row.key: alone[row.key] for row in rows}
    assert engine.scheduler.max_rows == 2


@pytest.mark.parametrize(("limit", "meanwhile"), [(1, 1), (6, 4)])
def test_a_limit_does_not_end_the_search_for_a_fault(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch, limit: int, meanwhile: int
) -> None:
    engine = engine_of(speech, rows=8, chunk=10_000)
    errors: list[Exception] = [RuntimeError("once")]
    break_steps(engine, monkeypatch, lambda _: errors.pop() if errors else None)
    for row in requests(speech, 8):
        engine.add(row)
    engine.step()
    engine.limit(limit, token_chunk_size=10_000)
    assert engine.scheduler.max_rows == meanwhile
    run(engine, [])
    assert engine.scheduler.max_rows == limit


def test_it_counts_what_it_does(speech: LocalModel) -> None:
    engine, rows = engine_of(speech, rows=4), requests(speech, 8)
    run(engine, rows)
    assert engine.stats.row_steps == sum(row.steps for row in rows)
    # EOS is drawn too, and is no token of the speech; given voices are not drawn.
    drawn = [
        len(row.decoding.semantic)
        + (0 if row.decoding.voice else len(row.decoding.globals_))
        + (row.finished is FinishReason.EOS)
        for row in rows
    ]
    assert engine.stats.drawn == sum(drawn)
    assert max(row.steps for row in rows) <= engine.stats.steps < engine.stats.row_steps


def spy(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, seen: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        seen(*args, **kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)


def test_a_decode_step_copies_no_logits(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch, wide_results: WideResults
) -> None:
    buffers: list[Tensor] = []
    sampled: list[Tensor] = []
    spy(monkeypatch, speech.model, "logits", lambda _, out: buffers.append(out))
    spy(monkeypatch, batching.plain, "sample_", lambda logits, *_: sampled.append(logits))
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, whose memory it limits")
def test_a_device_that_is_really_out_of_memory_ends_no_row(random_model: Path) -> None:
    """The allocator's own limit, below what a prefill of all rows at once needs."""
    speech = open_model(random_model, "cuda", engine="reference")
    rows = 32
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    undisturbed = run(engine_of(speech, rows, chunk=100_000), long_requests(speech, rows))
    needed = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    engine = engine_of(speech, rows, chunk=100_000)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 0.6 * needed) / total)
    try:
        survived = run(engine, long_requests(speech, rows))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert {finish for *_, finish in survived.values()} <= {FinishReason.EOS, FinishReason.LENGTH}
    assert engine.scheduler.max_rows < rows
    assert {key: len(semantic) for key, (_, semantic, _) in survived.items()}.keys() == undisturbed.keys()


def long_requests(speech: LocalModel, count: int) -> list[Row]:
    """Prompts of about 1500 tokens, 4 tokens of speech."""
    text = speech.encode_text("It is easy. " * 125)
    prompt = attribute_prompt(speech.layout, text, Attributes())
    return [Row(str(i), Decoding(speech.layout, prompt, (), seed=i, limit=4)) for i in range(count)]
