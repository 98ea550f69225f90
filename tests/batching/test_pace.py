"""How many rows a step has room for, from what steps took."""

import random

import pytest

from batching.pace import Pace


def measured(fixed: float, each: float) -> Pace:
    pace, chance = Pace(), random.Random(0)  # noqa: S311
    for _ in range(500):
        rows = chance.randint(1, 16)
        pace.count(rows, (fixed + each * rows) * chance.uniform(0.9, 1.1))
    return pace


@pytest.mark.parametrize(
    ("fixed", "each", "beside", "room"),
    [(1.5, 0.2, 1, 2), (1.5, 0.2, 8, 3), (0.0, 1.0, 1, 1), (4.0, 0.1, 1, 10)],
)
def test_a_step_takes_a_quarter_longer_at_most(fixed: float, each: float, beside: int, room: int) -> None:
    found = measured(fixed, each).room(beside)
    assert found is not None
    assert abs(found - room) <= 1


def test_rows_that_cost_nothing_have_room() -> None:
    found = measured(fixed=3.0, each=1e-5).room(1)
    assert found is None or found > 100


def test_what_is_not_known_yet_limits_nothing() -> None:
    pace = Pace()
    assert pace.room(1) is None
    for _ in range(9):
        pace.count(4, 0.002)
    assert pace.room(1) is None


def test_it_follows_a_machine_that_becomes_busy() -> None:
    pace = measured(4.0, 0.1)
    before = pace.room(1)
    for n in range(2_000):
        pace.count(1 + n % 16, 4.0 + 1.0 * (1 + n % 16))
    after = pace.room(1)
    assert before is not None
    assert after is not None
    assert after < before / 5
