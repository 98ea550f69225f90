"""How many threads to use: the cores that this process may have, and which number of them is worth it here."""

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_GAIN = 1.15
"""How much faster more threads must be to be taken."""
_SECONDS, _MOST_TURNS = 0.1, 20
"""Of measuring; two turns are always taken."""
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
    for turn in range(_MOST_TURNS):
        for count in best:
            best[count] = min(best[count], seconds(count))
        if turn and time.perf_counter() - begun > _SECONDS:
            break
    chosen = 1
    for count in best:
        chosen = count if best[chosen] >= _GAIN * best[count] else chosen
    return chosen


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
