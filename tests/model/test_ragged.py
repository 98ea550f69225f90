"""Where a batch's tokens lie, against the same written out row by row."""

import pytest
import torch

from model.ragged import Ragged

BATCHES = [
    ([1], [3]),
    ([5], [0]),
    ([1, 1, 1], [4, 2, 3]),
    ([1, 1, 1], [4, 2, 0]),
    ([2, 7, 1, 7, 3], [0, 4, 2, 3, 1]),
    ([3, 2, 1], [2, 3, 4]),
]


@pytest.mark.parametrize(("lengths", "slots"), BATCHES)
def test_every_token_has_its_place(lengths: list[int], slots: list[int]) -> None:
    rows = Ragged.of(lengths, slots)
    names = [(row, t) for row, length in enumerate(lengths) for t in range(length)]
    laid = [names[i] for i in rows.order]
    assert sorted(laid) == sorted(names)
    assert [t for _, t in laid] == sorted(t for _, t in laid), "time-major"
    assert rows.counts == [sum(length > t for length in lengths) for t in range(max(lengths))]
    assert [laid[i] for i in rows.last] == [(row, length - 1) for row, length in enumerate(lengths)]
    slotted = rows.load(torch.arange(9)).tolist()
    held = [slots.index(slot) for slot in slotted]
    assert [laid[i] for i in rows.ends] == [(row, lengths[row] - 1) for row in held]
    before = [(row, -1) for row in held] + laid
    assert [before[i] for i in rows.previous] == [(row, t - 1) for row, t in laid]
    assert [row for row, _ in laid[: len(lengths)]] == held


@pytest.mark.parametrize(("lengths", "slots"), BATCHES)
def test_entries_go_back_to_their_slots(lengths: list[int], slots: list[int]) -> None:
    rows, pool = Ragged.of(lengths, slots), torch.arange(18.0).view(9, 2)
    entries = rows.load(pool)
    entries += 100
    rows.store(pool, entries)
    assert [int(row[0]) >= 100 for row in pool] == [slot in slots for slot in range(9)]
    rows.store(pool, -entries)
    assert [int(row[0]) <= -100 for row in pool] == [slot in slots for slot in range(9)]


def test_rows_that_fill_a_run_of_slots_are_a_view() -> None:
    assert Ragged.of([1, 1, 1], [4, 2, 3]).slots == slice(2, 5)
    assert Ragged.of([6, 1], [1, 2]).slots == slice(1, 3)
    assert isinstance(Ragged.of([1, 6], [1, 2]).slots, torch.Tensor)
    assert isinstance(Ragged.of([1, 1], [1, 3]).slots, torch.Tensor)
