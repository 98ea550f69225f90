"""The engine: one step of every running row is one batch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from loguru import logger
from torch import Tensor

from batching.row import Row
from batching.scheduler import Scheduler, Share
from batching.stats import StepStats
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from sampler.decoding import Phase, PhaseSampling
from sampler.layout import TokenLayout
from sampler.sampling import SamplingRows, sample_

_SINGLE_ROW_MEMORY = (
    "engine: out of memory with a single row; a shorter text or a device with more memory may help"
)


# A batch of decoding rows stays the same for many steps: what follows from its shape is worked out once.


@lru_cache(maxsize=8)
def _ragged(lengths: tuple[int, ...], slots: tuple[int, ...], device: torch.device) -> Ragged:
    return Ragged.of(lengths, slots, device)


@lru_cache(maxsize=8)
def _sampling_rows(
    columns: int, rows: tuple[tuple[int, PhaseSampling], ...], device: torch.device
) -> SamplingRows:
    """Rows as (allowed columns, parameters)."""
    return SamplingRows(
        columns,
        allowed=torch.tensor([allowed for allowed, _ in rows], device=device),
        temperature=torch.tensor([sampling.temperature for _, sampling in rows], device=device),
        top_p=torch.tensor([sampling.top_p for _, sampling in rows], device=device),
        top_k=torch.tensor([sampling.top_k or allowed for allowed, sampling in rows], device=device),
    )


@dataclass(frozen=True)
class _Failure:
    """Why a step failed; not the error itself, whose traceback keeps the step's tensors in memory."""

    reason: str
    out_of_memory: bool


class Engine:
    """Owns a model, its state pool and the logits buffer; not thread-safe, one thread drives it.

    A step that fails may have advanced some states, so it cannot be repeated. Its rows restart from their prompts,
    half as many at once, and draw the same tokens again. After out-of-memory it stays at that number; after any
    other error only until the row at fault has failed alone, or until the suspects have all left.

    Args:
        model: The forward pass; its head must have the layout's rows.
        layout: The token layout that rows were made with.
        max_rows: State slots, and rows of the logits buffer.
        token_chunk_size: Prompt tokens that one step may prefill.

    Attributes:
        stats: What the steps were and what they took.
    """

    def __init__(self, model: RWKV7, layout: TokenLayout, max_rows: int, token_chunk_size: int) -> None:
        self.scheduler = Scheduler(max_rows, token_chunk_size)
        self.stats = StepStats(max_rows)
        self._limit = max_rows  # the operator's
        self._fit = max_rows  # in the device's memory, as far as is known
        self._suspects: list[Row] = []
        self._model = model
        self._state = model.state(max_rows)
        self._buffer = torch.empty(
            max_rows + -max_rows % model.row_multiple, layout.head_size, device=model.device
        )

    def add(self, row: Row) -> None:
        """Queue a row; it takes part from the next step on that has a free slot."""
        self.scheduler.add(row)

    def limit(self, max_rows: int, token_chunk_size: int) -> None:
        """Set, between steps, how many rows run at once and how many prompt tokens a step prefills.

        Rows that run beyond the limit finish. No limit brings back rows for which there was no memory.

        Args:
            max_rows: 1 to the number of state slots.
            token_chunk_size: At least 1.
        """
        self._limit = max_rows
        rows = min(self._limit, self._fit)
        self.scheduler.max_rows = min(rows, self.scheduler.max_rows) if self._suspects else rows
        self.scheduler.token_chunk_size = token_chunk_size

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Admit, run one batch, advance its rows; return the rows that finished.

        Raises:
            torch.AcceleratorError: The device cannot be used any more.
        """
        start = time.perf_counter()
        for row in self.scheduler.admit():
            row.started_at = time.monotonic()
        shares = self.scheduler.plan()
        if shares:
            rows = [share.row for share in shares]
            failure = self._attempt(shares, rows)
            if failure:
                self._recover(failure, rows)
            self.stats.count(len(rows), time.perf_counter() - start)
        return self._collect()

    def _attempt(self, shares: Sequence[Share], rows: Sequence[Row]) -> _Failure | None:
        """Run one batch; the boundary that no error crosses."""
        try:
            self._sample(self._forward(shares), rows)
        except (torch.OutOfMemoryError, MemoryError):
            return _Failure(_SINGLE_ROW_MEMORY, out_of_memory=True)
        except torch.AcceleratorError:  # the device is lost to this process: nothing can go on
            raise
        except Exception as error:  # noqa: BLE001 - rows fail or restart, the engine lives
            if len(rows) == 1:
                logger.exception("row {}: its step failed with it alone", rows[0].key)
            return _Failure(f"engine: {type(error).__name__}: {error}", out_of_memory=False)
        return None

    def _recover(self, failure: _Failure, rows: list[Row]) -> None:
        """Fail a lone row; restart several, half as many at once."""
        if failure.out_of_memory and self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(rows) == 1:
            if failure.out_of_memory:
                logger.error("row {}: {}", rows[0].key, failure.reason)
            rows[0].fail(failure.reason)
            self._clear_suspects()
            return
        half = len(rows) // 2
        if failure.out_of_memory:
            logger.warning("engine: out of memory with {} rows; from now on {} at most", len(rows), half)
            self._fit = half
            self.scheduler.restart()
        else:
            logger.warning("{}; its {} rows restart, {} at most at once", failure.reason, len(rows), half)
            self._suspects = rows
            self.scheduler.restart(newest_first=True)
        self.scheduler.max_rows = min(half, self._limit)

    def _clear_suspects(self) -> None:
        if self._suspects:
            self._suspects = []
            self.scheduler.max_rows = min(self._limit, self._fit)

    def _forward(self, shares: Sequence[Share]) -> Tensor:
        """Feed every share's tokens; the residual stream at the last token of each, [R, width]."""
        tokens = [token for share in shares for token in share.row.decoding.take(share.tokens)]
        rows = _ragged(
            tuple(share.tokens for share in shares), tuple(share.row.slot for share in shares), self._model.device
        )
        for share in shares:
            if share.row.steps == 0:
                self._state.reset(share.row.slot)
            share.row.steps += 1
            share.row.batch_total += len(shares)
            if not share.row.prefilled_at:
                self.stats.tokens[Phase.PREFILL] += share.tokens
        return self._model.forward(torch.tensor(tokens, device=self._model.device), rows, self._state)

    def _sample(self, residual: Tensor, rows: Sequence[Row]) -> None:
        """Draw a token for every row that has fed all it had."""
        due = [i for i, row in enumerate(rows) if row.decoding.remaining == 0]
        if not due:
            return
        start = time.perf_counter()
        ready = [rows[i] for i in due]
        if len(due) < len(rows):
            residual = residual[torch.tensor(due, device=residual.device)]
        logits = self._model.logits(residual, out=self._buffer)
        decodings = [row.decoding for row in ready]
        parameters = _sampling_rows(
            logits.shape[-1], tuple((d.allowed, d.sampling) for d in decodings), self._model.device
        )
        draws = torch.tensor([d.draw for d in decodings], device=self._model.device)
        now = time.monotonic()
        for row, token in zip(ready, sample_(logits, parameters, draws).tolist(), strict=True):
            row.prefilled_at = row.prefilled_at or now
            self.stats.tokens[row.decoding.phase] += 1
            row.decoding.accept(token)
        self.stats.sampling_seconds += time.perf_counter() - start

    def _collect(self) -> list[Row]:
        finished = self.scheduler.release()
        for row in finished:
            row.finished_at = time.monotonic()
        if self._suspects and all(row.finished for row in self._suspects):
            self._clear_suspects()
        return finished
