"""How many threads to use: the cores that this process may have, and which number of them is worth it here."""

import math
import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from timeit import timeit

_GAIN = 1.15
"""How much faster more threads must be to be taken."""
_SECONDS, _OF_ONE = 0.1, 0.02
"""Of measuring, and of each number of threads in one turn; two turns are always taken."""
_VERSION_1, _VERSION_2 = ("cpu.cfs_quota_us", "cpu.cfs_period_us"), ("cpu.max",)
"""Microseconds of use that are allowed, or that there is no limit, in so many microseconds."""
_GROUPS, _OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available(groups: Path = _GROUPS, of_process: Path = _OF_PROCESS) -> int:
    """The cores that this process may use: of its affinity, and what the limits of its cgroups come to.

    Args:
        groups: Where cgroups are mounted.
        of_process: Which of them this process is in, as Linux tells.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([cores, *_limits(groups, of_process)])))


def fastest(seconds: Callable[[int], float], most: int) -> int:
    """A number of threads up to ``most``; more of them only where they are clearly faster.

    All take turns, so that whatever else runs here disturbs them alike; the least time of each counts.

    Args:
        seconds: What one piece of work takes with so many threads.
        most: At least 1.
    """
    if most == 1:
        return 1
    best = dict.fromkeys([1 << power for power in range((most - 1).bit_length())] + [most], math.inf)
    begun = time.perf_counter()
    for turn in count():
        for threads in best:
            best[threads] = min(best[threads], seconds(threads))
        if turn and time.perf_counter() - begun > _SECONDS:
            break
    chosen = 1
    for threads in best:
        chosen = threads if best[chosen] >= _GAIN * best[threads] else chosen
    return chosen


def least_seconds(work: Callable[[], object]) -> float:
    """What a piece of work takes at best; new threads need a while to find a core that is free."""
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < _OF_ONE:
        taken.append(timeit(work, number=1))
    return min(taken)


def _limits(groups: Path, of_process: Path) -> Iterator[float]:
    """Cores that each limit allows to this process's groups and those above, of version 2 and of version 1.

    In a container the path may be that of its host, which is not seen there: its own group is the root then.
    """
    for line in _read(of_process).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root, inner = groups / controllers, Path(path.lstrip("/"))
        for group in {root, root / inner, *(root / above for above in inner.parents)}:
            words = " ".join(_read(group / name) for name in (_VERSION_1 if controllers else _VERSION_2)).split()
            if len(words) == 2 and words[0].isdigit():
                yield int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    """Nothing where there is no such file."""
    try:
        return path.read_text()
    except OSError:
        return ""
