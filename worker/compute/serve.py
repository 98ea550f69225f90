"""The process that computes: does what comes over its lines, until they end."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from loguru import logger

from batching.row import Row
from codec.streaming import Span
from worker.compute.local import LocalCompute, LocalEngine
from worker.compute.wire import Line, Message, pack_result, unpack_row

Made = TypeVar("Made")

_TOLD_SECONDS = 0.2
"""After so long the figures are told again, and with them that steps go on."""


class Inbox:
    """What has come over a line, whose end ends the process at once, whatever it does.

    Args:
        line: A thread of its own listens to it.
    """

    def __init__(self, line: Line) -> None:
        self.line = line
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def empty(self) -> bool:
        """Whether there is nothing."""
        return self._messages.empty()

    def get(self) -> Message:
        """Wait for the next message."""
        return self._messages.get()

    def _listen(self) -> None:
        try:
            while True:
                self._messages.put(self.line.receive())
        except (EOFError, OSError):
            end_process(0)


def serve(
    compute: LocalCompute, rows: Inbox, waves: Line, voices: Line, handlers: Mapping[str, Callable[..., None]]
) -> None:
    """Compute until the lines end, which ends the process; the calling thread drives the engine.

    Args:
        compute: What was loaded.
        rows: For the engine.
        waves: For the vocoder.
        voices: For the voice encoder.
        handlers: What else may come over ``rows``, by name.
    """
    for answer, line in ((_answer_waves, waves), (_answer_voices, voices)):
        threading.Thread(target=_serve_calls, args=(answer, compute, line), daemon=True).start()
    try:
        _EngineLoop(compute, rows, handlers).run()
    except Exception:  # noqa: BLE001 - the other process learns of it by the end of the lines
        logger.exception("the engine has ended")
        end_process(1)


def end_process(code: int) -> None:
    """At once: threads may be inside torch, which aborts at a normal exit."""
    logger.complete()
    os._exit(code)


def _serve_calls(answer: Callable[[LocalCompute, Line], None], compute: LocalCompute, line: Line) -> None:
    try:
        while True:
            answer(compute, line)
    except (EOFError, OSError):  # the other process has ended, or wants no more
        end_process(0)
    except torch.AcceleratorError:
        logger.exception("the device is lost")
        end_process(1)


def _answer_waves(compute: LocalCompute, line: Line) -> None:
    spans, lookahead, alone = line.receive()
    ids = [some.tolist() for some in line.receive_arrays(np.int32)]
    semantic, voices = ids[: len(spans)], ids[len(spans) :]
    places = [Span(*span) for span in spans]
    made = _tried("vocoder", line, lambda: compute.vocoder(semantic, voices, places, lookahead, alone))
    if made is not None:
        line.send("made")
        line.send_arrays(made)


def _answer_voices(compute: LocalCompute, line: Line) -> None:
    (semantic,) = line.receive()
    recordings = line.receive_arrays(np.float64)
    encoder = compute.voice_encoder
    assert encoder is not None
    voices = _tried("voice encoder", line, lambda: encoder(recordings, semantic=semantic))
    if voices is not None:
        line.send("made", [astuple(voice) for voice in voices])


def _tried(name: str, line: Line, work: Callable[[], Made]) -> Made | None:
    """What some work comes to; None when it has failed, of which whoever asked is told."""
    try:
        return work()
    except torch.AcceleratorError:
        raise
    except Exception as error:  # noqa: BLE001 - whoever asked decides
        logger.exception("the {} failed", name)
        line.send("failed", f"{type(error).__name__}: {error}")
        return None


class _EngineLoop:
    """Drives an engine as it is told, and tells what comes of it: once a step, where anything does."""

    def __init__(self, compute: LocalCompute, inbox: Inbox, handlers: Mapping[str, Callable[..., None]]) -> None:
        self._compute, self._inbox = compute, inbox
        self._engine: LocalEngine | None = None
        self._numbers: dict[Row, int] = {}
        self._told: dict[Row, tuple[bool, int]] = {}  # of rows that are told of: the voice, semantic tokens
        self._told_at = 0.0
        self._handlers: dict[str, Callable[..., None]] = {
            "engine": self._begin,
            "row": self._add,
            "cancel": lambda key: self._end(self._must.cancel(key)),
            "limit": lambda rows, chunk: self._must.limit(rows, chunk),
            "hurried": lambda on: setattr(self._must, "hurried", on),
            "forget": lambda: self._must.forget_stats(),
            "profile": lambda steps, path: self._must.profile(steps, Path(path)),
            "over": lambda: self._must.end(),
            **handlers,
        }

    def run(self) -> None:
        while True:
            if self._engine is None or not self._engine.pending:
                self._do(self._wait())
            while not self._inbox.empty():
                self._do(self._inbox.get())
            if self._engine is not None and self._engine.pending:
                self._end(self._engine.step())

    @property
    def _must(self) -> LocalEngine:
        assert self._engine is not None
        return self._engine

    def _wait(self) -> Message:
        """Wait for something to do; the figures are told first."""
        if self._engine is not None:
            self._tell([], figures=True)
        start = time.perf_counter()
        try:
            return self._inbox.get()
        finally:
            if self._engine is not None:
                self._engine.idle(time.perf_counter() - start)

    def _do(self, message: Message) -> None:
        name, *arguments = message
        self._handlers[name](*arguments)

    def _begin(self, max_rows: int, token_chunk_size: int) -> None:
        self._engine = None  # its memory, before another takes it
        self._engine = self._compute.engine(max_rows, token_chunk_size, lambda: None)
        self._numbers.clear()
        self._told.clear()

    def _add(self, number: int, *packed: Any) -> None:
        row = unpack_row(packed, self._compute.layout)
        self._numbers[row] = number
        if row.followed or not row.decoding.voice:
            self._told[row] = bool(row.decoding.voice), len(row.decoding.semantic)
        self._must.add(row)

    def _end(self, finished: list[Row]) -> None:
        """Tell of a step, and of rows that have ended with it."""
        due = time.monotonic() - self._told_at > _TOLD_SECONDS
        for row in finished:
            self._told.pop(row, None)
        self._tell(finished, figures=due)

    def _tell(self, finished: list[Row], *, figures: bool) -> None:
        ended = [(self._numbers.pop(row), *pack_result(row)) for row in finished]
        grown = [*self._grown()]
        if not (ended or grown or figures):
            return
        engine = self._must
        told = None
        if figures:
            self._told_at = time.monotonic()
            phases = {int(phase): count for phase, count in engine.phases().items()}
            told = (phases, dict(engine.memory()), *vars(engine.stats).items())
        self._inbox.line.send(engine.max_rows, ended, grown, told)

    def _grown(self) -> Iterator[Message]:
        """Every voice that has just been drawn, and what rows have drawn that somebody follows."""
        size = self._compute.layout.globals_per_voice
        for row, (voiced, known) in list(self._told.items()):
            decoding = row.decoding
            voice = None if voiced or len(decoding.globals_) < size else list(decoding.globals_)
            new = decoding.semantic[known:] if row.followed else []
            if voice or new:
                self._told[row] = True, known + len(new)
                yield self._numbers[row], voice, new
            if voice and not row.followed:
                del self._told[row]
