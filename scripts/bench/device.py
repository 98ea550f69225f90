"""Single steps of the fast engine, as its graphs or without one, and what they take at least."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.timing import WARM_UP, median_milliseconds
from model.checkpoint import Sizes

BYTES_PER_SECOND = 4.3e12
FLOPS_PER_SECOND = 790e12


def floor_milliseconds(sizes: Sizes, parameters: int, rows: int, tokens: int, draws: int) -> float:
    """What one step takes at least, in float16."""
    weights = parameters - sizes.vocabulary * sizes.width
    head = sizes.head_rows * sizes.width
    state = sizes.layers * (sizes.width * 64 + 2 * sizes.width)
    bytes_ = 2 * weights + 2 * 2 * rows * state + 4 * draws * sizes.head_rows
    flops = 2 * ((weights - head) * tokens + head * draws)
    return 1000 * max(bytes_ / BYTES_PER_SECOND, flops / FLOPS_PER_SECOND)


class DeviceBench:
    """Times single steps of the fast engine, as its graphs or without one."""

    def __init__(self, model: Any, slots: int, chunk: int) -> None:
        from batching.steps import Steps

        begin = time.perf_counter()
        self.steps = Steps(model, slots, chunk)
        self.capture_seconds = time.perf_counter() - begin
        self._model = model

    def milliseconds(self, lengths: Sequence[int], draws: int, repeats: int) -> float:
        """Of a step of rows with these numbers of tokens, the first ``draws`` of which draw."""
        from batching.steps import batch_shape

        shape = batch_shape(lengths, self.steps.state.scratch)
        host = self.steps.staging(shape)
        self._write(host, shape, lengths, draws)
        with self.steps.on_stream():
            return median_milliseconds(lambda: self.steps.compute(host, shape), repeats, self._model.device)

    def profile(self, rows: int, repeats: int = 20) -> dict[str, tuple[float, float]]:
        """Kernels of a decode step: how often each runs, and microseconds of all its runs."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
            self.milliseconds([1] * rows, rows, repeats)
        steps = repeats + WARM_UP
        return {
            event.key: (event.count / steps, event.self_device_time_total / steps)
            for event in recorded.key_averages()
            if event.self_device_time_total > 0
        }

    def _write(self, host: Tensor, shape: Any, lengths: Sequence[int], draws: int) -> None:
        """Rows in the first slots, with different tokens and seeds and the usual sampling."""
        from batching.steps import views

        batch, parameters = views(host, shape)
        count, n = len(lengths), sum(lengths)
        sizes = torch.tensor(lengths)
        host.zero_()
        batch.tokens[:n] = torch.arange(n) % 8192
        batch.owners[:n] = torch.arange(count).repeat_interleave(sizes)
        batch.owners[n:] = torch.arange(count, shape.tokens - n + count) if shape.single else shape.rows
        if shape.single:
            batch.starts.copy_(torch.arange(shape.rows + 1))
        batch.lengths.fill_(int(shape.single))
        batch.starts[:count], batch.lengths[:count] = sizes.cumsum(0) - sizes, sizes
        batch.starts[-1], batch.lengths[-1] = n, 1
        batch.slots.fill_(self.steps.state.scratch)
        batch.slots[:count] = torch.arange(count)
        parameters.allowed[:draws] = self._model.sizes.head_rows
        parameters.top_k.fill_(80)
        parameters.seeds_low.copy_(torch.arange(shape.rows))
        parameters.temperatures.fill_(1.0)
        parameters.top_ps.fill_(0.95)
