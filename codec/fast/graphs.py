"""CUDA graphs of a function of one int32 array, for a few of its lengths."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Compute = Callable[[Tensor], Tensor]
"""Of an array on the device; what it gives is on the device."""


class Graphs:
    """Runs a function, as a graph where there is one.

    Graphs work in memory of their own, which those of one pool share: they must run one after another, and what
    one gives holds until it runs again.

    Args:
        compute: The function; it must do nothing but start kernels, the same for all arrays of a length.
        rows: Of an array [rows, L].
        ladder: Those L that become graphs.
        device: Where it runs; without graphs where that is no CUDA device.
        pool: To share; a new one when None.
    """

    def __init__(
        self, compute: Compute, rows: int, ladder: Sequence[int], device: torch.device, pool: Any = None
    ) -> None:
        self._compute, self._rows, self._device = compute, rows, device
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self.pool = pool
        if device.type == "cuda":
            self._capture(ladder)

    def rung(self, length: int) -> int:
        """The least length of a graph that holds this one; where there is none, this one."""
        return min((at for at in self._graphs if at >= length), default=length)

    def __call__(self, told: Tensor) -> Tensor:
        """What the function gives for an array that is on the host."""
        if told.shape[1] not in self._graphs:
            return self._compute(told.to(self._device))
        graph, array, result = self._graphs[told.shape[1]]
        array.copy_(told)
        graph.replay()
        return result

    def _capture(self, ladder: Sequence[int]) -> None:
        """Largest first, so that all of them fit into the memory of the first."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        for length in sorted(ladder, reverse=True):
            array = torch.zeros(self._rows, length, dtype=torch.int32, device=self._device)
            torch.cuda.synchronize(self._device)
            with torch.cuda.stream(stream):
                self._compute(array)  # compiles what is missing
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"):
                result = self._compute(array)
            self.pool = graph.pool()
            self._graphs[length] = graph, array, result
