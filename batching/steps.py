"""One step on the device, forward and draw, as a graph for each size of batch; without a GPU it runs as it is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from model.fast.batch import Batch, Shape, aligned
from model.fast.forward import FastRWKV7
from sampler.device import DrawRows, draw
from sampler.draws import DRAW_FIELDS

DECODE_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
MIXED_TOKENS = (32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
MIXED_ROWS = (8, 64, 128, 256)
"""Rows without tokens cost little, so steps that prefill have few sizes of batch."""


def _rung(ladder: Sequence[int], count: int) -> int:
    """The first step of the ladder that holds ``count``; above it, multiples of its last."""
    return next((rung for rung in ladder if rung >= count), -(-count // ladder[-1]) * ladder[-1])


def batch_shape(lengths: Sequence[int], slots: int) -> Shape:
    """The shape for rows of these lengths, of at most ``slots`` rows."""
    rows, tokens = len(lengths), sum(lengths)
    if rows == tokens:
        return Shape(padded := _rung(DECODE_ROWS, rows), padded, single=True)
    room = _rung(_mixed_rows(slots), rows)
    return Shape(_rung(MIXED_TOKENS, max(tokens, room)), room, single=False)


def _mixed_rows(slots: int) -> list[int]:
    most = _rung(DECODE_ROWS, slots)
    return sorted({min(room, most) for room in (*MIXED_ROWS, most)})


def _shapes(slots: int, token_chunk_size: int) -> Iterator[Shape]:
    """The shapes of all steps of usual size."""
    rooms = _mixed_rows(slots)
    yield from (Shape(rows, rows, single=True) for rows in DECODE_ROWS if rows <= rooms[-1])
    most = _rung(MIXED_TOKENS, slots + token_chunk_size)
    for tokens in (tokens for tokens in MIXED_TOKENS if tokens <= most):
        yield from (Shape(tokens, room, single=False) for room in rooms if room <= tokens)


def _size(shape: Shape) -> int:
    """int32 values that a step is told."""
    return shape.size + DRAW_FIELDS * aligned(shape.rows)


def views(array: Tensor, shape: Shape) -> tuple[Batch, DrawRows]:
    """What the array of a step says."""
    draws = DRAW_FIELDS * aligned(shape.rows)
    return Batch.of(array, shape), DrawRows.of(array[shape.size : shape.size + draws], shape.rows)


class Steps:
    """Owns the state pool, the arrays and the graphs of a model.

    Args:
        model: The forward pass.
        slots: State slots.
        token_chunk_size: Prompt tokens that a step usually has at most.
    """

    def __init__(self, model: FastRWKV7, slots: int, token_chunk_size: int) -> None:
        self._model = model
        self._cuda = model.device.type == "cuda"
        self.state = model.state(slots)
        shapes = sorted(_shapes(slots, token_chunk_size), key=lambda s: (s.tokens, s.rows), reverse=True)
        size = max(map(_size, shapes))
        self._array = torch.zeros(size, dtype=torch.int32, device=model.device)
        self._ids = torch.zeros(max(shape.rows for shape in shapes), dtype=torch.int32, device=model.device)
        # Two of each: what is written now is of the step after next of its last use, which was settled in between.
        self._hosts = [self._pinned(size) for _ in range(2)]
        self._host_ids = [self._pinned(len(self._ids)) for _ in range(2)]
        self._turn = 0
        self._graphs: dict[Shape, torch.cuda.CUDAGraph] = {}
        if self._cuda:
            self._stream = torch.cuda.Stream(model.device, priority=-1)  # type: ignore[no-untyped-call]
            self._capture(shapes)

    def staging(self, shape: Shape) -> Tensor:
        """A host array to write the next step into; it is the same until ``run`` has started one."""
        host = self._hosts[self._turn]
        return host if _size(shape) <= len(host) else self._pinned(_size(shape))

    def run(self, host: Tensor, shape: Shape) -> Callable[[], Tensor]:
        """Start the step that ``host`` describes; what is returned waits for it and gives the ids, int32."""
        with self.on_stream():
            self.compute(host, shape)
            ids = self._host_ids[self._turn][: shape.rows]
            ids.copy_(self._ids[: shape.rows], non_blocking=True)
            self._turn = 1 - self._turn
            return self._when_done(ids)

    def compute(self, host: Tensor, shape: Shape) -> None:
        """Run the step on the present stream; its ids stay on the device."""
        told = host[: _size(shape)]
        if graph := self._graphs.get(shape):
            self._array[: len(told)].copy_(told, non_blocking=True)
            graph.replay()
        else:
            self._compute(told.to(self._model.device, non_blocking=True), shape)

    def _when_done(self, ids: Tensor) -> Callable[[], Tensor]:
        if not self._cuda:
            return lambda: ids
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def wait() -> Tensor:
            done.synchronize()
            return ids

        return wait

    def _compute(self, array: Tensor, shape: Shape) -> None:
        batch, parameters = views(array, shape)
        logits = self._model.forward(batch, self.state)
        draw(logits, self._model.head_rows, parameters, batch.slots, self._ids, self.state.drawn)

    def _capture(self, shapes: Sequence[Shape]) -> None:
        """Make the graphs, largest first, so that all of them fit into the memory of the first."""
        torch.cuda.synchronize(self._model.device)
        pool = None
        with self.on_stream():
            for shape in shapes:
                self._idle(shape)
                self._compute(self._array, shape)  # compiles what is missing
                torch.cuda.synchronize(self._model.device)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                    self._compute(self._array, shape)
                pool = graph.pool()
                self._graphs[shape] = graph

    def _idle(self, shape: Shape) -> None:
        """Tell of a step without rows: it works on the scratch slot alone."""
        self._array.zero_()
        batch = Batch.of(self._array, shape)
        batch.lengths.fill_(1)
        batch.slots.fill_(self.state.scratch)
        batch.fresh.fill_(1)

    def _pinned(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.int32, pin_memory=self._cuda)

    def on_stream(self) -> AbstractContextManager[object]:
        """Where steps run; nothing where there is no GPU."""
        return torch.cuda.stream(self._stream) if self._cuda else nullcontext()
