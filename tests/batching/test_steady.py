"""Steady rows are what their decodings would be, draw by draw, whoever joins and leaves meanwhile."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

import batching.engine
from batching.engine import Engine
from batching.executor import Launched
from batching.row import Row
from batching.scheduler import Share
from batching.steady import NOBODY, SteadyRows
from model.rwkv7 import RWKV7
from sampler.decoding import Decoding, FinishReason, Phase
from sampler.draws import DRAW_FIELDS, draw_fields
from sampler.layout import TokenLayout
from traces import Trace, run, trace

LAYOUT = TokenLayout(semantic_size=30, global_size=4, globals_per_voice=3, text_size=10, control_size=8)


class Dealer:
    """Stands in for a model: what a row draws depends on its seed and its counter, as with one.

    Args:
        steady: Gets rows, if there is one.
        ahead: Steps launched before the results of an earlier one are taken.
    """

    def __init__(self, steady: SteadyRows | None, ahead: int) -> None:
        self.ahead = ahead
        self._steady = steady
        self.shared = 0
        self.fault: str | None = None

    def launch(self, shares: Sequence[Share]) -> Launched:
        self.shared += len(shares)
        fed = self._steady.feed(len(shares)) if self._steady else NOBODY
        for share in shares:
            share.row.decoding.take(share.tokens)
        rows = [share.row for share in shares if share.row.decoding.remaining == 0]
        decodings = [row.decoding for row in rows]
        speaking = [] if self._steady is None else self._steady.rows  # the fault shows once the row speaks
        faulty = any(row.key == self.fault and len(row.decoding.semantic) > 3 for row in speaking)
        ids = np.array([*map(deal, fed.draws.T), *map(deal, draw_fields(decodings).T)], np.int32)
        for row in rows:
            if self.ahead:
                row.decoding.expect()
            if self._steady:
                self._steady.join(row)
        return Launched(len(fed) + len(shares), fed, rows, decodings, partial(self._result, ids, faulty=faulty))

    @staticmethod
    def _result(ids: NDArray[np.int32], *, faulty: bool) -> NDArray[np.int32]:
        if faulty:
            raise ValueError("as asked")
        return ids


def deal(draw: NDArray[np.int32]) -> int:
    """A draw's id from all that the sampler is told: often the one before, sometimes EOS, rarely a failure."""
    allowed, top_k, phase, step, low, high, *sampling = draw.tolist()
    choices = random.Random(f"{phase} {step // 3} {low} {high} {sampling}")  # noqa: S311
    if choices.random() < 0.02:
        return -1
    return choices.randrange(min(allowed, LAYOUT.head_size if top_k >= allowed else allowed))


def requests(count: int) -> Iterator[Row]:
    for number in range(count):
        choices = random.Random(number)  # noqa: S311
        voice = [1, 2, 3] if number % 2 else []
        spoken = [choices.randrange(LAYOUT.eos) for _ in range(choices.randrange(4))] if voice else []
        decoding = Decoding(
            LAYOUT,
            [0] * choices.randrange(1, 9),
            voice,
            seed=choices.getrandbits(64),
            limit=choices.choice([len(spoken) + 1, 7, 30, 60]),
            streak=choices.choice([3, 6, 50]),
            first_eos=choices.choice([0, 5, 40]),
            spoken=spoken,
        )
        yield Row(str(number), decoding, followed=number % 5 == 0)


def engine_of(slots: int, ahead: int, *, steady: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Engine, Dealer]:
    dealers: list[Dealer] = []

    def make(*options: object) -> Dealer:
        rows = options[-1]
        assert isinstance(rows, SteadyRows)
        dealers.append(Dealer(rows if steady else None, ahead))
        return dealers[0]

    monkeypatch.setattr(batching.engine, "make_executor", make)
    model: RWKV7 = object.__new__(RWKV7)
    return Engine(model, LAYOUT, slots, 5), dealers[0]


@pytest.fixture
def expected(monkeypatch: pytest.MonkeyPatch) -> dict[str, Trace]:
    engine, _ = engine_of(1, 0, steady=False, monkeypatch=monkeypatch)
    return run(engine, requests(80))


def test_rows_end_in_every_way(expected: dict[str, Trace]) -> None:
    ways = {finish for *_, finish in expected.values()}
    assert ways == set(FinishReason) - {FinishReason.CANCELLED}


@pytest.mark.parametrize("slots", [1, 3, 16, 80])
def test_traces_are_the_decodings_own(
    expected: dict[str, Trace], slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, dealer = engine_of(slots, 1, steady=True, monkeypatch=monkeypatch)
    assert run(engine, requests(80)) == expected
    assert dealer.shared < engine.stats.row_steps / 2  # most rows had no share


def test_counts_of_steps_are_those_of_rows_with_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    def counts(*, steady: bool) -> dict[str, tuple[int, float]]:
        engine, _ = engine_of(7, 1, steady=steady, monkeypatch=monkeypatch)
        rows = list(requests(40))
        run(engine, rows)
        assert engine.stats.tokens[Phase.SEMANTIC] + engine.stats.tokens[Phase.GLOBAL] > 0
        return {row.key: (row.steps, row.mean_batch) for row in rows} | {"all": (engine.stats.drawn, 0.0)}

    assert counts(steady=True) == counts(steady=False)


def test_who_follows_a_row_sees_its_tokens_grow_one_by_one(
    expected: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engine_of(4, 1, steady=True, monkeypatch=monkeypatch)
    row = next(row for row in requests(80) if row.followed and len(expected[row.key][1]) > 20)
    engine.add(row)
    for other in requests(4):
        engine.add(other)
    seen, times = len(row.decoding.semantic), 0
    while not row.finished:
        engine.step()
        more = len(row.decoding.semantic) - seen
        assert more <= 1 or row.finished
        seen, times = seen + more, times + (row.steady and more)
    assert times > 10
    assert trace(row) == expected[row.key]


def test_cancelled_rows_keep_what_they_have_said_and_slots_are_used_again(
    expected: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engine_of(5, 1, steady=True, monkeypatch=monkeypatch)
    rows = list(requests(80))
    waiting, cancelled = deque(rows), set[str]()
    for row in rows:
        engine.add(row)
    choices = random.Random(3)  # noqa: S311
    while len(engine.scheduler):
        engine.step()
        running = [row for row in engine.scheduler.running if row.steady]
        if running and choices.random() < 0.1:
            row = choices.choice(running)
            engine.scheduler.cancel(row.key)
            cancelled.add(row.key)
    assert len(cancelled) > 10
    for row in waiting:
        said = expected[row.key][1]
        if row.key in cancelled:
            assert row.finished is FinishReason.CANCELLED
            assert said[: len(row.decoding.semantic)] == row.decoding.semantic or len(row.decoding.semantic) > len(
                said
            )
        else:
            assert trace(row) == expected[row.key]


def test_a_steady_row_at_fault_fails_alone_and_the_others_draw_the_same_again(
    expected: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, dealer = engine_of(8, 1, steady=True, monkeypatch=monkeypatch)
    dealer.fault = next(row.key for row in requests(80) if row.followed and len(expected[row.key][1]) > 20)
    rows = list(requests(80))
    found = run(engine, rows)
    (bad,) = (row for row in rows if row.key == dealer.fault)
    assert bad.error == "ValueError: as asked"
    assert {key for key in found if found[key] != expected[key]} == {bad.key}
    assert engine.scheduler.max_rows == 8


def test_what_the_sampler_is_told() -> None:
    decoding = Decoding(LAYOUT, [1], [1, 2, 3], seed=(5 << 32) | 0xFFFFFFFF, first_eos=1)
    decoding.take(1)
    fields = draw_fields([decoding])
    assert fields.shape == (DRAW_FIELDS, 1)
    assert fields[:6, 0].tolist() == [LAYOUT.eos, 80, Phase.SEMANTIC, 0, -1, 5]
    assert fields[6:, 0].view(np.float32).tolist() == pytest.approx([1.0, 0.95])
