"""The engine over the fast model draws what it draws over the reference, whatever comes and goes."""

import random

import pytest
import torch

from batching.engine import Engine
from batching.row import Row
from fast_model import DEVICE, LAYOUT, needs_cuda, needs_triton, small_checkpoint
from model.rwkv7 import RWKV7
from sampler.decoding import Decoding, FinishReason, PhaseSampling
from traces import Trace, run

pytestmark = [needs_triton, pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = [PhaseSampling(1.0, 0.95, 80), PhaseSampling(0.0, 1.0, 0), PhaseSampling(0.6, 0.8, 5)]


def fast_engine(rows: int, chunk: int, dtype: torch.dtype = torch.float32) -> Engine:
    from model.fast.forward import FastRWKV7

    return Engine(FastRWKV7(small_checkpoint(), DEVICE, LAYOUT.head_size, dtype), LAYOUT, rows, chunk)


def request(number: int, limit: int = 6) -> Row:
    choices = random.Random(number)  # noqa: S311
    prompt = [choices.randrange(LAYOUT.vocabulary_size) for _ in range(1 + number * 5 % 13)]
    voice = [1, 2, 3] if number % 3 == 0 else []
    sampling = SETTINGS[number % len(SETTINGS)]
    return Row(
        str(number),
        Decoding(
            LAYOUT, prompt, voice, seed=number << 40 | number, limit=limit, semantic_sampling=sampling, first_eos=2
        ),
    )


@pytest.fixture(scope="module")
def expected() -> dict[str, Trace]:
    model = RWKV7(small_checkpoint(), DEVICE, LAYOUT.head_size)
    return run(Engine(model, LAYOUT, 1, 100), map(request, range(8)))


def test_requests_end_in_both_ways(expected: dict[str, Trace]) -> None:
    assert {finish for *_, finish in expected.values()} == {FinishReason.EOS, FinishReason.LENGTH}


@pytest.mark.parametrize(("rows", "chunk", "requests"), [(1, 100, range(3)), (5, 7, range(8))])
def test_traces_are_the_reference_s(expected: dict[str, Trace], rows: int, chunk: int, requests: range) -> None:
    found = run(fast_engine(rows, chunk), map(request, requests))
    assert found == {str(number): expected[str(number)] for number in requests}


def test_a_row_that_ends_or_is_cancelled_leaves_its_slot_clean(expected: dict[str, Trace]) -> None:
    """Rows end one step before the host knows; newcomers take their slots at once."""
    engine, rows = fast_engine(2, 100), [request(number) for number in range(6)]
    for row in rows:
        engine.add(row)
    engine.step()
    engine.step()
    engine.scheduler.cancel(rows[1].key)
    found = run(engine, [])
    assert rows[1].finished is FinishReason.CANCELLED
    assert {key: found[key] for key in "02345"} == {key: expected[key] for key in "02345"}


def test_a_row_at_fault_fails_alone_and_the_others_restart(expected: dict[str, Trace]) -> None:
    engine, good = fast_engine(4, 100), [request(number, limit=6) for number in (1, 2, 4)]
    bad = Row("bad", Decoding(LAYOUT, [1, LAYOUT.vocabulary_size], limit=6))
    engine.add(good[0])
    engine.step()
    found = run(engine, [good[1], bad, good[2]])
    assert found.pop("bad") == ([], [], FinishReason.ERROR)
    assert bad.error is not None
    assert "out of bounds" in bad.error
    assert found == {key: expected[key] for key in "124"}
    assert engine.scheduler.max_rows == 4


@pytest.mark.parametrize("slots", [1, 3, 16, 64, 65, 512, 1000])
def test_every_batch_has_a_shape_that_holds_it(slots: int) -> None:
    from batching.steps import batch_shape

    for rows in {1, 2, slots // 2 + 1, slots}:
        for lengths in ([1] * rows, [1] * (rows - 1) + [300], [2] * rows):
            shape = batch_shape(lengths, slots)
            assert shape.tokens >= sum(lengths)
            assert shape.rows >= rows
            assert not shape.single or shape.tokens == shape.rows


def decode_allocations(engine: Engine, steps: int) -> int:
    def made() -> int:
        return int(torch.cuda.memory_stats()["allocation.all.allocated"])

    before = made()
    for _ in range(steps):
        engine.step()
    return made() - before


@needs_cuda
def test_a_decode_step_allocates_nothing_on_the_device() -> None:
    engine = fast_engine(8, 100, torch.float16)
    for number in range(1, 6):
        engine.add(endless(number))
    for _ in range(20):
        engine.step()
    assert decode_allocations(engine, 30) == 0


def endless(number: int) -> Row:
    row = request(number, limit=200)
    row.decoding.first_eos = row.decoding.streak = 1000
    return row


@needs_cuda
def test_graphs_draw_what_the_same_kernels_draw_without_them() -> None:
    def traces(graphs: bool) -> dict[str, Trace]:
        engine = fast_engine(8, 20, torch.float16)
        if not graphs:
            engine._executor._steps._graphs.clear()  # type: ignore[attr-defined]
        return run(engine, map(endless, range(8)))

    assert traces(graphs=True) == traces(graphs=False)
