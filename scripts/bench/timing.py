"""How the benches time: medians of steps that follow one another, and turns that go there and back."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import torch

CPU = torch.device("cpu")
WARM_UP = 10
"""Steps on a GPU that do not count; on a CPU it is one."""

Item = TypeVar("Item")


def warm_up_steps(device: torch.device) -> int:
    return WARM_UP if device.type == "cuda" else 1


def median_milliseconds(step: Callable[[], object], repeats: int, device: torch.device = CPU) -> float:
    """Of steps that follow one another without a pause; by the device's clock on a GPU."""
    for _ in range(warm_up_steps(device)):
        step()
    if device.type != "cuda":
        begins = [time.perf_counter()]
        for _ in range(repeats):
            step()
            begins.append(time.perf_counter())
        return 1000 * statistics.median(b - a for a, b in pairwise(begins))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]  # type: ignore[no-untyped-call]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize(device)
    return float(statistics.median(a.elapsed_time(b) for a, b in pairwise(marks)))


def there_and_back(items: Sequence[Item], turns: int) -> Iterator[Item]:
    """All items once a turn, forwards and backwards by turns, so that other load hits all alike."""
    for turn in range(turns):
        yield from items if turn % 2 == 0 else reversed(items)
