"""How the process that computes and the one that serves tell each other of rows, waves and voices.

Messages are plain values in ``marshal``'s format, of which nothing is ever run; waves go as they are. One end has
started the other, from the same files.
"""

import marshal
import mmap
from collections.abc import Sequence
from dataclasses import astuple
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from batching.row import Row
from sampler.decoding import Decoding, FinishReason, PhaseSampling
from sampler.layout import TokenLayout

Message = tuple[Any, ...]
"""A name, and what belongs to it."""


class Line:
    """One end of a connection.

    Args:
        connection: Its end; closed connections raise ``EOFError`` or ``OSError``.
        shared: Memory that both ends have, for the arrays of one message, whose sender then waits for an answer.
            Without it, or where they are too large, they take three times as long, through the connection.
    """

    def __init__(self, connection: "Connection[Any, Any]", shared: mmap.mmap | None = None) -> None:
        self._connection = connection
        self._shared = np.frombuffer(shared, np.uint8) if shared is not None else np.zeros(0, np.uint8)

    def send(self, *message: Any) -> None:
        """Send a message of plain values."""
        self._connection.send_bytes(marshal.dumps(message))

    def receive(self) -> Message:
        """Wait for the next one."""
        message: Message = marshal.loads(self._connection.recv_bytes())  # noqa: S302 - of our own process
        return message

    def send_arrays(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Send arrays of one type."""
        size = sum(array.nbytes for array in arrays)
        shared = size <= len(self._shared)
        if shared:
            np.concatenate(arrays, out=self._shared[:size].view(arrays[0].dtype))
        self.send(shared, *map(len, arrays))
        if not shared:
            self._connection.send_bytes(np.concatenate(arrays).data)

    def receive_arrays(self, dtype: npt.DTypeLike) -> list[npt.NDArray[Any]]:
        """Wait for arrays; they are parts of one."""
        shared, *lengths = self.receive()
        ends = np.cumsum(lengths)
        if shared:
            whole = self._shared[: ends[-1] * np.dtype(dtype).itemsize].view(dtype).copy()
        else:
            whole = np.frombuffer(self._connection.recv_bytes(), dtype)
        return np.split(whole, ends[:-1])


def pack_row(row: Row) -> Message:
    """What a row is before its first step."""
    decoding = row.decoding
    return (
        row.key,
        row.followed,
        row.yields,
        list(decoding.prompt),
        list(decoding.voice),
        decoding.seed,
        decoding.limit,
        decoding.streak,
        astuple(decoding.global_sampling),
        astuple(decoding.semantic_sampling),
        decoding.first_eos,
        list(decoding.spoken),
    )


def unpack_row(packed: Message, layout: TokenLayout) -> Row:
    """The row that was packed."""
    key, followed, yields, prompt, voice, seed, limit, streak, globals_, semantic, first_eos, spoken = packed
    decoding = Decoding(
        layout,
        prompt,
        voice,
        seed,
        limit,
        streak,
        PhaseSampling(*globals_),
        PhaseSampling(*semantic),
        first_eos,
        spoken,
    )
    return Row(key, decoding, followed, yields)


def pack_result(row: Row) -> Message:
    """What a row is that has finished."""
    decoding = row.decoding
    return (
        decoding.globals_,
        decoding.semantic,
        str(decoding.finish),
        row.error,
        row.steps,
        row.batch_total,
        row.started_at,
        row.prefilled_at,
        row.finished_at,
    )


def apply_result(packed: Message, row: Row) -> None:
    """Have a row be what became of it elsewhere."""
    globals_, semantic, finish, row.error, row.steps, row.batch_total, *times = packed
    row.started_at, row.prefilled_at, row.finished_at = times
    row.decoding.globals_, row.decoding.semantic = globals_, semantic
    row.decoding.finish = FinishReason(finish)
