"""The estimate of a worker's pace, beside a simulated worker whose true pace is known."""

import random

import pytest

from worker.speech.capacity import Capacity

TOKENS_PER_SECOND, ROWS = 800.0, 16


class Shop:
    """A worker in simulated time: ``ROWS`` rows share its tokens; jobs are of random length."""

    def __init__(self, seed: int) -> None:
        self.choices = random.Random(seed)  # noqa: S311
        self.capacity, self.now, self.drawn = Capacity(), 0.0, 0.0
        self.waiting, self.rows = 0, list[list[float]]()
        self.started = 0

    def step(self, seconds: float = 0.05) -> None:
        while self.waiting and len(self.rows) < ROWS:
            length = self.choices.uniform(50, 350)
            self.rows.append([length, length])
            self.waiting -= 1
            self.started += 1
        # A lone row is faster than one of many: half the rows draw 0.7 of what all draw.
        pace = TOKENS_PER_SECOND * (len(self.rows) / ROWS) ** 0.5
        for row in self.rows:
            row[0] -= pace * seconds / len(self.rows)
        self.drawn += pace * seconds if self.rows else 0
        for _, length in [row for row in self.rows if row[0] <= 0]:
            self.capacity.ended(round(length))
        self.rows = [row for row in self.rows if row[0] > 0]
        self.now += seconds

    def look(self) -> None:
        self.capacity.look(self.now, round(self.drawn), full=len(self.rows) >= ROWS)

    def run(self, seconds: float, rate: float = 0.0) -> None:
        end, owed = self.now + seconds, 0.0
        while self.now < end:
            for _ in range(20):
                owed += rate * 0.05
                self.waiting += int(owed)
                owed -= int(owed)
                self.step()
            self.look()

    def error(self) -> float:
        """Of the estimated wait of the job that is last now, beside the time until it starts."""
        rate = self.capacity.jobs_per_second()
        assert rate is not None
        estimate, begun, last = self.waiting / rate, self.now, self.started + self.waiting
        while self.started < last:
            self.step()
        return abs(estimate / (self.now - begun) - 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("idle", [0, 50, 600])
def test_a_burst_after_light_work_and_a_pause(seed: int, idle: float) -> None:
    shop = Shop(seed)
    shop.run(60, rate=1.0)
    shop.run(idle)
    shop.waiting += 300
    shop.run(3)
    assert shop.error() < 0.3


@pytest.mark.parametrize("rate", [5.0, 8.0])
def test_steady_work_beyond_what_it_can_do(rate: float) -> None:
    shop = Shop(1)
    shop.run(60, rate=rate)
    assert shop.waiting > 20
    assert shop.error() < 0.3


def test_a_drain() -> None:
    shop = Shop(2)
    shop.waiting = 400
    shop.run(60)
    assert 50 < shop.waiting < 300
    assert shop.error() < 0.3


def test_nothing_is_said_before_anything_is_known() -> None:
    capacity = Capacity()
    assert capacity.jobs_per_second() is None
    capacity.look(0.0, 0, full=True)
    capacity.look(1.0, 500, full=True)
    assert capacity.jobs_per_second() is None
    capacity.ended(250)
    assert capacity.jobs_per_second() == 2.0


def test_counters_that_begin_anew_do_not_confuse_it() -> None:
    capacity = Capacity()
    capacity.ended(100)
    capacity.look(0.0, 5000, full=True)
    capacity.look(1.0, 100, full=True)
    capacity.look(2.0, 300, full=True)
    assert capacity.jobs_per_second() == 2.0
