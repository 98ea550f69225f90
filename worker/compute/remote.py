"""Computes in a process of its own, at the other ends of three lines."""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from batching.row import Row
from batching.stats import StepStats
from codec.streaming import Span
from codec.voice_encoder import EncodedVoice
from sampler.decoding import Phase
from worker.compute.contract import ComputeLostError, Waves
from worker.compute.wire import Line, Message, apply_result, pack_row

Answer = TypeVar("Answer")

_LOST = "the process that computes has ended"
_SPARE_PART = 16


class RemoteError(RuntimeError):
    """What failed in the other process, which lives on; it has logged where."""


class RemoteVoices:
    """A voice encoder.

    Args:
        line: Its own.
        sample_rate: Of the waveforms, in hertz.
    """

    def __init__(self, line: Line, sample_rate: int) -> None:
        self._line = line
        self.sample_rate = sample_rate

    def __call__(self, waves: Sequence[npt.NDArray[np.float64]], *, semantic: bool = True) -> list[EncodedVoice]:
        """As ``codec.voice_encoder.VoiceEncoder``."""

        def ask() -> list[EncodedVoice]:
            self._line.send(semantic)
            self._line.send_arrays([np.asarray(wave, np.float64) for wave in waves])
            (voices,) = _answer(self._line)
            return [EncodedVoice(*voice) for voice in voices]

        return _asked(ask)


class RemoteVocoder:
    """A vocoder.

    Args:
        line: Its own.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    def __call__(
        self,
        semantic: Sequence[Sequence[int]],
        voices: Sequence[Sequence[int]],
        spans: Sequence[Span],
        lookahead: int,
        alone: bool,
    ) -> Waves:
        """As ``codec.vocoder.Vocoder``."""

        def ask() -> Waves:
            self._line.send([tuple(span) for span in spans], lookahead, alone)
            self._line.send_arrays([np.array(ids, np.int32) for ids in (*semantic, *voices)])
            _answer(self._line)
            return self._line.receive_arrays(np.float32)

        return _asked(ask)


class RemoteEngine:
    """An engine; one thread drives it, and what comes of it is told by ``hear`` in another.

    Attributes:
        stats: What the steps were, as they were last told.
        spare: Rows beyond ``max_rows`` that should wait there.
    """

    def __init__(self, line: Line, max_rows: int, token_chunk_size: int, wake: Callable[[], None]) -> None:
        self._line, self._wake = line, wake
        self.stats = StepStats(max_rows)
        self.spare = max_rows // _SPARE_PART
        self._max_rows, self._hurried = max_rows, False
        self._rows: dict[int, Row] = {}
        self._number = count()
        self._told: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._phases: Counter[Phase] = Counter()
        self._memory: Mapping[str, int] = {}
        self._tell("engine", max_rows, token_chunk_size)

    def __len__(self) -> int:
        """Rows that were added and have not come back."""
        return len(self._rows)

    @property
    def max_rows(self) -> int:
        """Rows that may run at once at present."""
        return self._max_rows

    @property
    def pending(self) -> bool:
        """Whether anything was told that ``step`` has not taken."""
        return not self._told.empty()

    @property
    def hurried(self) -> bool:
        """Whether rows that yield miss steps which would take long with them."""
        return self._hurried

    @hurried.setter
    def hurried(self, on: bool) -> None:
        if on != self._hurried:
            self._hurried = on
            self._tell("hurried", on)

    def phases(self) -> Counter[Phase]:
        """Rows that run, by what they do next."""
        return self._phases

    def add(self, row: Row) -> None:
        """Send a row."""
        number = next(self._number)
        self._rows[number] = row
        self._tell("row", number, *pack_row(row))

    def cancel(self, key: str) -> list[Row]:
        """End the rows named ``key``; all of them come back by ``step``."""
        self._tell("cancel", key)
        return []

    def limit(self, max_rows: int, token_chunk_size: int) -> None:
        """Set how many rows run at once and how many prompt tokens a step prefills."""
        self._max_rows = max_rows
        self._tell("limit", max_rows, token_chunk_size)

    def step(self) -> list[Row]:
        """Take what was told; return the rows that have finished.

        Raises:
            ComputeLostError: The process has ended.
        """
        finished: list[Row] = []
        while not self._told.empty():
            told = self._told.get()
            if told is None:
                raise ComputeLostError(_LOST)
            finished += self._take(*told)
        return finished

    def idle(self, seconds: float) -> None:
        """The other process counts itself."""

    def memory(self) -> Mapping[str, int]:
        """What torch's allocator held of the device when that was last told."""
        return self._memory

    def forget_stats(self) -> None:
        """Count anew."""
        self._tell("forget")

    def profile(self, steps: int, path: Path) -> None:
        """Write a trace of the next steps to a file."""
        self._tell("profile", steps, str(path))

    def end(self) -> None:
        """There are no more steps."""
        self._tell("over")

    def hear(self, told: Message | None) -> None:
        """Take what the other process tells; None when it has ended."""
        self._told.put(told)
        self._wake()

    def _tell(self, *message: object) -> None:
        try:
            self._line.send(*message)
        except (EOFError, OSError) as error:
            raise ComputeLostError(_LOST) from error

    def _take(
        self, max_rows: int, ended: list[Message], grown: list[Message], figures: Message | None
    ) -> list[Row]:
        self._max_rows = max_rows
        for number, voice, new in grown:
            decoding = self._rows[number].decoding
            if voice:
                decoding.globals_ = voice
            decoding.semantic += new
        finished = []
        for number, *result in ended:
            finished.append(self._rows.pop(number))
            apply_result(tuple(result), finished[-1])
        if figures is not None:
            phases, self._memory, *stats = figures
            self._phases = Counter({Phase(phase): rows for phase, rows in phases.items()})
            vars(self.stats).update(stats)
        return finished


class RemoteCompute:
    """A model that another process has loaded.

    Args:
        rows: The line of its engine.
        waves: That of its vocoder.
        voices: That of its voice encoder.
        description: Of the engine, for people.
        sample_rate: Of the audio, in hertz.
        able: Whether it has a voice encoder.
    """

    def __init__(
        self, rows: Line, waves: Line, voices: Line, description: str, sample_rate: int, *, able: bool
    ) -> None:
        self.description, self.sample_rate = description, sample_rate
        self.vocoder = RemoteVocoder(waves)
        self.voice_encoder = RemoteVoices(voices, sample_rate) if able else None
        self._rows = rows
        self._engine: RemoteEngine | None = None
        threading.Thread(target=self._listen, name="compute", daemon=True).start()

    def engine(self, max_rows: int, token_chunk_size: int, wake: Callable[[], None]) -> RemoteEngine:
        """An engine of its rows, in place of the last one."""
        self._engine = RemoteEngine(self._rows, max_rows, token_chunk_size, wake)
        return self._engine

    def set_log_level(self, level: str) -> None:
        """Have that process log from this level on."""
        self._rows.send("log_level", level)

    def _listen(self) -> None:
        told: Message | None = ()
        while told is not None:
            try:
                told = self._rows.receive()
            except (EOFError, OSError):
                told = None
            if self._engine is not None:
                self._engine.hear(told)


def _asked(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except (EOFError, OSError) as error:
        raise ComputeLostError(_LOST) from error


def _answer(line: Line) -> Message:
    outcome, *values = line.receive()
    if outcome == "failed":
        raise RemoteError(*values)
    return tuple(values)
