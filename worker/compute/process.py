"""Starts the process that computes."""

import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from worker.compute.contract import ComputeLostError
from worker.compute.remote import RemoteCompute
from worker.compute.wire import Line

WAVES_BYTES = 192 << 20
"""64 parts of 41 s, in float32, are 168 MB. What is not used takes no memory."""


class NotLoadedError(RuntimeError):
    """There is nothing to compute with; the message says why."""


def start(module: str, told: Mapping[str, Any]) -> tuple[RemoteCompute, Mapping[str, Any]]:
    """Start a process, and wait until it has loaded a model.

    It ends with this one, and lets signals be this one's affair.

    Args:
        module: What it runs, with the numbers of four open files, which ``lines`` takes.
        told: What it is to load; plain values.

    Returns:
        What computes, and what else it tells.

    Raises:
        NotLoadedError: It could not load.
        ComputeLostError: It has ended.
    """
    ours, theirs = zip(*(Pipe() for _ in range(3)), strict=True)
    memory = _memory()
    os.truncate(memory, WAVES_BYTES)
    files = [*(end.fileno() for end in theirs), memory]
    # -P: a folder "worker" where the command is run must not be taken for this one.
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", module, *map(str, files)], pass_fds=files, stdin=subprocess.DEVNULL
    )
    for end in theirs:
        end.close()
    rows, waves, voices = Line(ours[0]), Line(ours[1], mmap.mmap(memory, 0)), Line(ours[2])
    os.close(memory)
    try:
        rows.send("load", dict(told))
        outcome, *values = rows.receive()
    except (EOFError, OSError) as error:
        raise ComputeLostError(f"the process that computes has ended with code {process.wait()}") from error
    if outcome == "failed":
        process.wait()
        raise NotLoadedError(*values)
    about, more = values
    return RemoteCompute(rows, waves, voices, **about), more


def _memory() -> int:
    """A file that is nowhere but in memory; elsewhere than on Linux, one without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("waves")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def lines(files: Sequence[str]) -> tuple[Line, Line, Line]:
    """The other ends of rows, waves and voices, in the process that was started."""
    rows, waves, voices, memory = map(int, files)
    shared = mmap.mmap(memory, 0)
    os.close(memory)
    return Line(Connection(rows)), Line(Connection(waves), shared), Line(Connection(voices))
