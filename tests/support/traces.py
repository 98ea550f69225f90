"""What an engine draws for its rows."""

from collections.abc import Iterable

from batching.engine import Engine
from batching.row import Row
from sampler.decoding import FinishReason

Trace = tuple[list[int], list[int], FinishReason | None]
"""Global tokens, semantic tokens, and how they ended."""


def trace(row: Row) -> Trace:
    return row.decoding.globals_, row.decoding.semantic, row.finished


def run(engine: Engine, rows: Iterable[Row]) -> dict[str, Trace]:
    """Add all rows, then step until none is left."""
    for row in rows:
        engine.add(row)
    finished = []
    while len(engine.scheduler):
        finished += engine.step()
    return {row.key: trace(row) for row in finished}
