"""The scheduler's policy, without a model: what every step shares out, and how rows come and go."""

import random
import subprocess
import sys

import pytest

from batching.row import Row
from batching.scheduler import Scheduler
from sampler.decoding import Decoding, FinishReason, Phase
from sampler.layout import TokenLayout

LAYOUT = TokenLayout()
VOICE = tuple(range(32))


def row(key: str, prompt: int = 10, limit: int = 5) -> Row:
    return Row(key, Decoding(LAYOUT, [1] * prompt, VOICE, limit=limit))


def step(scheduler: Scheduler) -> tuple[dict[str, int], list[str]]:
    """One step without a model: tokens by row, and the rows that finished."""
    list(scheduler.admit())
    shares = scheduler.plan()
    for share in shares:
        share.row.decoding.take(share.tokens)
        if share.row.decoding.remaining == 0:
            share.row.decoding.accept(len(share.row.decoding.semantic))
    return {share.row.key: share.tokens for share in shares}, [row.key for row in scheduler.release()]


def test_it_needs_no_torch() -> None:
    code = "import sys, batching.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_lone_row_starts_at_once() -> None:
    scheduler = Scheduler(4, 256)
    scheduler.add(row("a", prompt=10, limit=2))
    assert step(scheduler) == ({"a": 10}, [])
    assert step(scheduler) == ({"a": 1}, ["a"])
    assert len(scheduler) == 0
    assert step(scheduler) == ({}, [])


def test_the_chunk_goes_to_prompts_in_order() -> None:
    scheduler = Scheduler(4, 16)
    for key, prompt in (("a", 10), ("b", 10), ("c", 30)):
        scheduler.add(row(key, prompt))
    assert step(scheduler)[0] == {"a": 10, "b": 6}
    assert step(scheduler)[0] == {"a": 1, "b": 4, "c": 12}
    assert step(scheduler)[0] == {"a": 1, "b": 1, "c": 16}
    assert step(scheduler)[0] == {"a": 1, "b": 1, "c": 2}
    assert step(scheduler)[0] == {"a": 1, "b": 1, "c": 1}


def test_rows_that_yield_may_miss_steps_the_latest_first() -> None:
    scheduler = Scheduler(4, 16)
    for key in "abcd":
        scheduler.add(row(key, prompt=1))
    list(scheduler.admit())
    for yielding in scheduler.running[:3]:
        yielding.yields = True
    for most, running in ((None, "abcd"), (2, "abd"), (1, "ad"), (0, "d")):
        assert "".join(share.row.key for share in scheduler.plan(most)) == running


@pytest.mark.parametrize("chunk", [1, 7, 64, 256])
def test_the_chunk_is_honoured_exactly(chunk: int) -> None:
    scheduler, choices = Scheduler(8, chunk), random.Random(chunk)  # noqa: S311
    for number in range(40):
        scheduler.add(row(str(number), prompt=choices.randint(1, 90), limit=choices.randint(1, 20)))
    while len(scheduler):
        list(scheduler.admit())
        prefilling = {r.key for r in scheduler.running if r.decoding.phase is Phase.PREFILL}
        decoding = {r.key for r in scheduler.running} - prefilling
        outstanding = sum(r.decoding.remaining for r in scheduler.running if r.key in prefilling)
        fed, _ = step(scheduler)
        assert sum(fed.get(key, 0) for key in prefilling) == min(chunk, outstanding)
        assert {key: fed.get(key) for key in decoding} == dict.fromkeys(decoding, 1)


def test_changes_take_effect_on_the_next_step() -> None:
    scheduler = Scheduler(4, 4)
    for key in "abcd":
        scheduler.add(row(key, prompt=20, limit=3))
    assert step(scheduler)[0] == {"a": 4}
    scheduler.token_chunk_size = 30
    assert step(scheduler)[0] == {"a": 16, "b": 14}
    scheduler.max_rows = 2
    assert step(scheduler)[0] == {"a": 1, "b": 6, "c": 20, "d": 4}, "rows that run are not interrupted"
    scheduler.add(row("e", prompt=2))
    assert step(scheduler)[1] == ["a"]
    assert step(scheduler)[1] == ["b", "c"]
    assert "e" not in {r.key for r in scheduler.running}
    assert step(scheduler)[0] == {"d": 1, "e": 2}
    scheduler.max_rows = 4
    scheduler.add(row("f", prompt=2))
    scheduler.add(row("g", prompt=2))
    assert step(scheduler)[0].keys() >= {"e", "f", "g"}


def test_slots_are_unique_and_reused() -> None:
    scheduler, choices, seen = Scheduler(3, 64), random.Random(1), set()  # noqa: S311
    for number in range(20):
        scheduler.add(row(str(number), limit=choices.randint(1, 6)))
    while len(scheduler):
        list(scheduler.admit())
        slots = [r.slot for r in scheduler.running]
        assert len(set(slots)) == len(slots) <= 3
        seen |= set(slots)
        step(scheduler)
    assert seen == {0, 1, 2}


def test_a_waiting_row_is_cancelled_at_once() -> None:
    scheduler = Scheduler(1, 64)
    first, second = row("first"), row("second")
    scheduler.add(first)
    scheduler.add(second)
    step(scheduler)
    assert scheduler.cancel("second") is second
    assert second.finished is FinishReason.CANCELLED
    assert len(scheduler) == 1


def test_a_running_row_is_cancelled_by_the_next_step() -> None:
    scheduler = Scheduler(1, 64)
    scheduler.add(row("first"))
    scheduler.add(row("second"))
    step(scheduler)
    assert scheduler.cancel("first") is None
    assert step(scheduler) == ({}, ["first"])
    assert step(scheduler)[0] == {"second": 10}


def test_a_cancelled_prompt_takes_no_part_of_the_chunk() -> None:
    scheduler = Scheduler(2, 8)
    scheduler.add(row("first", prompt=30))
    scheduler.add(row("second", prompt=30))
    assert step(scheduler)[0] == {"first": 8}
    scheduler.cancel("first")
    assert step(scheduler) == ({"second": 8}, ["first"])


def test_an_unknown_key_cancels_nothing() -> None:
    scheduler = Scheduler(1, 64)
    scheduler.add(row("first"))
    assert scheduler.cancel("absent") is None
    assert step(scheduler)[0] == {"first": 10}


def test_restarted_rows_keep_their_order_ahead_of_those_that_wait() -> None:
    scheduler = Scheduler(3, 64)
    rows = {key: row(key, limit=limit) for key, limit in (("a", 9), ("b", 9), ("c", 2), ("d", 9))}
    for one in rows.values():
        scheduler.add(one)
    step(scheduler)
    scheduler.cancel("b")
    scheduler.restart()
    assert [r.key for r in scheduler.running] == ["b"]
    assert [r.key for r in scheduler.release()] == ["b"]
    assert [(r.key, r.slot) for r in scheduler.admit()] == [("a", 0), ("c", 1), ("d", 2)]
    assert step(scheduler)[0] == {"a": 10, "c": 10, "d": 10}
    assert step(scheduler)[1] == ["c"], "its tokens of before the restart are gone"


def test_the_newest_row_may_restart_first() -> None:
    scheduler = Scheduler(4, 64)
    for key, steps in (("a", 5), ("b", 3), ("c", 1), ("d", 3)):
        scheduler.add(row(key))
        next(scheduler.admit()).steps = steps
    scheduler.restart(newest_first=True)
    assert [r.key for r in scheduler.admit()] == ["c", "b", "d", "a"]


def test_a_restarted_row_keeps_what_the_caller_gave_only() -> None:
    one = row("a", prompt=3, limit=7)
    one.followed = one.yields = True
    fresh = vars(Row("a", one.decoding.restarted(), followed=True, yields=True, added_at=one.added_at))
    one.decoding.take(3)
    one.fail("why")
    one.slot = one.steps = one.batch_total = 3
    one.steady = True
    one.started_at = one.prefilled_at = one.finished_at = 4.0
    kept = {name for name, value in vars(one).items() if value == fresh[name]}
    assert kept == {"key", "followed", "yields", "added_at"}
    one.restart()
    assert vars(one) == fresh


@pytest.mark.parametrize(("slots", "chunk"), [(0, 1), (1, 0), (-1, 5)])
def test_sizes(slots: int, chunk: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Scheduler(slots, chunk)
