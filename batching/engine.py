"""The engine: one step of every running row is one batch."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from batching.row import Row
from batching.scheduler import Scheduler, Share
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from sampler.layout import TokenLayout
from sampler.randomness import uniform
from sampler.sampling import SamplingRows, sample_


class Engine:
    """Owns a model, its state pool and the logits buffer; not thread-safe, one thread drives it.

    Args:
        model: The forward pass; its head must have the layout's rows.
        layout: The token layout that rows were made with.
        max_rows: State slots, and rows of the logits buffer.
        token_chunk_size: Prompt tokens that one step may prefill.
    """

    def __init__(self, model: RWKV7, layout: TokenLayout, max_rows: int, token_chunk_size: int) -> None:
        self.scheduler = Scheduler(max_rows, token_chunk_size)
        self._model = model
        self._state = model.state(max_rows)
        self._buffer = torch.empty(
            max_rows + -max_rows % model.row_multiple, layout.head_size, device=model.device
        )

    def add(self, row: Row) -> None:
        """Queue a row; it takes part from the next step on that has a free slot."""
        self.scheduler.add(row)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Admit, run one batch, advance its rows; return the rows that finished."""
        for row in self.scheduler.admit():
            self._state.reset(row.slot)
            row.started_at = time.monotonic()
        shares = self.scheduler.plan()
        if shares:
            residual = self._forward(shares)
            self._sample(residual, [share.row for share in shares])
        return self._collect()

    def _forward(self, shares: Sequence[Share]) -> Tensor:
        """Feed every share's tokens; the residual stream at the last token of each, [R, width]."""
        tokens = [token for share in shares for token in share.row.decoding.take(share.tokens)]
        rows = Ragged.of(
            [share.tokens for share in shares], [share.row.slot for share in shares], self._model.device
        )
        for share in shares:
            share.row.steps += 1
            share.row.batch_total += len(shares)
        return self._model.forward(torch.tensor(tokens, device=self._model.device), rows, self._state)

    def _sample(self, residual: Tensor, rows: Sequence[Row]) -> None:
        """Draw a token for every row that has fed all it had."""
        due = [i for i, row in enumerate(rows) if row.decoding.remaining == 0]
        if not due:
            return
        ready = [rows[i] for i in due]
        if len(due) < len(rows):
            residual = residual[torch.tensor(due, device=residual.device)]
        logits = self._model.logits(residual, out=self._buffer)
        now = time.monotonic()
        for row, token in zip(ready, sample_(logits, self._parameters(ready)).tolist(), strict=True):
            row.prefilled_at = row.prefilled_at or now
            row.decoding.accept(token)

    def _parameters(self, rows: Sequence[Row]) -> SamplingRows:
        decodings = [row.decoding for row in rows]
        draws = uniform(
            np.array([d.seed for d in decodings], dtype=np.uint64),
            [d.phase for d in decodings],
            [d.step for d in decodings],
        )
        sampling = [d.sampling for d in decodings]
        device = self._model.device
        return SamplingRows(
            allowed=torch.tensor([d.allowed for d in decodings], device=device),
            temperature=torch.tensor([s.temperature for s in sampling], device=device),
            top_p=torch.tensor([s.top_p for s in sampling], device=device),
            top_k=torch.tensor(
                [s.top_k or d.allowed for s, d in zip(sampling, decodings, strict=True)], device=device
            ),
            uniform=torch.from_numpy(draws).to(device),
        )

    def _collect(self) -> list[Row]:
        finished = self.scheduler.release()
        for row in finished:
            row.finished_at = time.monotonic()
        return finished
