"""What the stages ask of whatever computes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from batching.row import Row
from batching.stats import StepStats
from codec.streaming import Span
from codec.voice_encoder import EncodedVoice
from sampler.decoding import Phase

Waves = list[npt.NDArray[np.float32]]


class ComputeLostError(RuntimeError):
    """The process that computes has ended; nothing that was asked of it will come back."""


class RowEngine(Protocol):
    """Decodes rows; one thread drives it.

    Attributes:
        stats: What the steps were; any thread may read them.
        hurried: Whether rows that yield miss steps which would take long with them.
        spare: Rows beyond ``max_rows`` that should wait, so that none stands empty while the next is sent for.
    """

    stats: StepStats
    hurried: bool
    spare: int

    def __len__(self) -> int:
        """Rows that were added and have not come back."""

    @property
    def max_rows(self) -> int:
        """Rows that may run at once at present."""

    @property
    def pending(self) -> bool:
        """Whether ``step`` has anything to do."""

    def phases(self) -> Counter[Phase]:
        """Rows that run, by what they do next; any thread may ask."""

    def add(self, row: Row) -> None:
        """Queue a row."""

    def cancel(self, key: str) -> list[Row]:
        """End the rows named ``key``; those that waited may be returned, the others come back by ``step``."""

    def limit(self, max_rows: int, token_chunk_size: int) -> None:
        """Set how many rows run at once and how many prompt tokens a step prefills."""

    def step(self) -> list[Row]:
        """Advance the rows, and return those that have finished.

        Raises:
            ComputeLostError: There is nothing any more that could.
        """

    def idle(self, seconds: float) -> None:
        """Note that there was nothing to do for so long."""

    def memory(self) -> Mapping[str, int]:
        """What torch holds of a GPU: bytes ``allocated`` and ``reserved``, and ``allocations`` made so far."""

    def forget_stats(self) -> None:
        """Count anew."""

    def profile(self, steps: int, path: Path) -> None:
        """Write a trace of the next steps to a file."""

    def end(self) -> None:
        """There are no more steps."""


class MakesWaves(Protocol):
    """``codec.vocoder.Vocoder``, wherever it is."""

    def __call__(
        self,
        semantic: Sequence[Sequence[int]],
        voices: Sequence[Sequence[int]],
        spans: Sequence[Span],
        lookahead: int,
        alone: bool,
    ) -> Waves:
        """Decode a span of each of B utterances; float32 [tokens * hop] each; ``alone``: nothing else computes.

        Raises:
            ComputeLostError: There is nothing any more that could.
        """


class EncodesVoices(Protocol):
    """``codec.voice_encoder.VoiceEncoder``, wherever it is."""

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in hertz."""

    def __call__(self, waves: Sequence[npt.NDArray[np.float64]], *, semantic: bool = True) -> list[EncodedVoice]:
        """Waveforms float64 [N_i] to voices.

        Raises:
            ComputeLostError: There is nothing any more that could.
        """


class Compute(Protocol):
    """A model on its device."""

    @property
    def description(self) -> str:
        """Of the engine, for people."""

    @property
    def sample_rate(self) -> int:
        """Of the audio, in hertz."""

    @property
    def vocoder(self) -> MakesWaves:
        """Makes waves."""

    @property
    def voice_encoder(self) -> EncodesVoices | None:
        """None when no recording can be used."""

    def engine(self, max_rows: int, token_chunk_size: int, wake: Callable[[], None]) -> RowEngine:
        """An engine; ``wake`` is called, by any thread, when what ``pending`` said may have changed."""

    def set_log_level(self, level: str) -> None:
        """Have whatever is in a process of its own log from this level on."""
