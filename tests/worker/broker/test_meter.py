"""Rates over the last seconds, from counters that only grow."""

import pytest

from worker.broker.meter import Meter


def test_what_is_older_than_the_window_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    meter = Meter(counters=2, window=10.0)
    assert meter.grown((5, 1)) == (1.0, [5, 1]), "never over less than a second"
    clock[0] += 4
    assert meter.grown((9, 2)) == (4.0, [9, 2])
    clock[0] += 10
    assert meter.grown((10, 2)) == (10.0, [1, 0])
    for _ in range(100):
        clock[0] += 1
        meter.grown((10, 2))
    assert meter.grown((10, 2)) == (10.0, [0, 0])
