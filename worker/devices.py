"""Names of the devices of a worker, which gets a process for each when there are several."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from worker.broker.rules import Names

ALL = "all"
"""As the only name: every GPU."""

_NAME = re.compile(r"cpu|all|(?:cuda:)?([0-9]{1,3})")


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    devices = tuple(map(_device, names))
    if ALL in devices and len(devices) > 1:
        raise ValueError(f"{ALL} beside others; accepted: {ALL} alone")
    return devices


def _device(name: str) -> str:
    """A torch device; a number is that of a GPU."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name[:80]!r}; accepted: numbers of GPUs (0 or cuda:0), cpu, or {ALL} alone")
    return f"cuda:{int(found[1])}" if found[1] else name


Devices = Annotated[Names, AfterValidator(_checked)]
"""Torch devices, or ``all`` alone."""


def agree(devices: Sequence[str], device: str) -> bool:
    """Whether nothing contradicts that a worker with these devices has that one, too, which may be any GPU."""
    return device == "cpu" or (device == "cuda" and "cpu" not in devices)


def labels(devices: Sequence[str]) -> list[str]:
    """A name for each: its own, with a number where several are the same: ``cpu/0``, ``cpu/1``."""
    seen: Counter[str] = Counter()
    found = []
    for device in devices:
        found.append(device if devices.count(device) == 1 else f"{device}/{seen[device]}")
        seen[device] += 1
    return found
