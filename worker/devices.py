"""Names of the devices of a worker, which gets a process for each when there are several."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from worker.broker.rules import Names

ALL = "all"
"""As the only name: every GPU."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable of CUDA's driver that shows a process some GPUs, by number or name, and numbers them anew."""

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


def alone(device: str, visible: str | None) -> tuple[str, dict[str, str]]:
    """How a process names a device if it is to see no other GPU, and what its environment needs for that.

    With a device of another process in sight, libraries would take up memory on the first of them.

    Args:
        device: ``cpu`` or ``cuda:N``.
        visible: ``CUDA_VISIBLE_DEVICES`` of those who gave the device its number; None where it is not set.
    """
    if device == "cpu":
        return device, {}
    number = int(device.removeprefix("cuda:"))
    entries = None if visible is None else visible.split(",")
    entry = str(number) if entries is None else entries[number] if number < len(entries) else ""
    return "cuda", {VISIBLE: entry}


def labels(devices: Sequence[str]) -> list[str]:
    """A name for each: its own, with a number where several are the same: ``cpu/0``, ``cpu/1``."""
    seen: Counter[str] = Counter()
    found = []
    for device in devices:
        found.append(device if devices.count(device) == 1 else f"{device}/{seen[device]}")
        seen[device] += 1
    return found
