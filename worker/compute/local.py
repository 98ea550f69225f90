"""Computes in this process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from batching.engine import Engine
from batching.row import Row
from codec.bicodec import BiCodec
from codec.vocoder import Vocoder
from codec.voice_encoder import VoiceEncoder
from model.native.forward import NativeRWKV7
from model.rwkv7 import RWKV7
from sampler.layout import TokenLayout
from worker.compute.profiling import StepProfile

if TYPE_CHECKING:
    from model.fast.forward import FastRWKV7


class LocalEngine(Engine):
    """An engine that says itself what it has not done."""

    spare = 0

    @property
    def pending(self) -> bool:
        """Whether ``step`` has anything to do."""
        return len(self) > 0

    def idle(self, seconds: float) -> None:
        """Note that there was nothing to do for so long."""
        self.stats.idle_seconds += seconds

    def memory(self) -> Mapping[str, int]:
        """What torch's allocator holds of the device; nothing where that is no GPU."""
        if self._model.device.type != "cuda":
            return {}
        stats = torch.cuda.memory_stats(self._model.device)
        held = {kind: stats[f"{kind}_bytes.all.current"] for kind in ("allocated", "reserved")}
        return held | {"allocations": stats["allocation.all.allocated"]}

    def forget_stats(self) -> None:
        """Count anew."""
        self.stats.reset()

    def profile(self, steps: int, path: Path) -> None:
        """Write a trace of the next steps to a file; for the main thread."""
        self._profile = StepProfile(super().step, steps, path)

    def step(self) -> list[Row]:
        """Advance the rows, and return those that have finished."""
        return super().step() if self._profile is None else self._profile()

    def end(self) -> None:
        """There are no more steps."""
        if self._profile is not None:
            self._profile.close()

    _profile: StepProfile | None = None


@dataclass(frozen=True)
class LocalCompute:
    """A model that was loaded in this process.

    Attributes:
        model: The forward pass.
        layout: Its tokens.
        codec: Waves, and voices where it has an encoder.
        voice_encoder: None when no recording can be used.
    """

    model: "RWKV7 | NativeRWKV7 | FastRWKV7"
    layout: TokenLayout
    codec: BiCodec
    voice_encoder: VoiceEncoder | None

    @property
    def description(self) -> str:
        """Of the engine, for people."""
        return self.model.description

    @property
    def sample_rate(self) -> int:
        """Of the audio, in hertz."""
        return self.codec.sample_rate

    @cached_property
    def vocoder(self) -> Vocoder:
        """Makes waves."""
        return Vocoder(self.codec)

    def engine(self, max_rows: int, token_chunk_size: int, wake: Callable[[], None]) -> LocalEngine:  # noqa: ARG002
        """An engine of its rows, which is never woken: whoever drives it does all that it does."""
        return LocalEngine(self.model, self.layout, max_rows, token_chunk_size)

    def set_log_level(self, level: str) -> None:
        """It is in no process of its own."""
