"""The corpus on the training device: all audio as one tensor, and crops of it drawn by index."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train_demo_voice.corpus import HOP, Shard, training_shards
from train_demo_voice.speakers import PITCHES

FULL_SCALE = 32768
READERS = 8


@dataclass
class Tokens:
    """A shard's tokens: semantic int64 [frames], globals int64 [n, globals_per_voice]."""

    semantic: Tensor
    globals_: Tensor


def read_tokens(path: Path) -> Tokens:
    with np.load(path, allow_pickle=False) as arrays:
        semantic: NDArray[np.int16] = arrays["semantic"]
        globals_: NDArray[np.int16] = arrays["globals"]
    return Tokens(torch.from_numpy(semantic.astype(np.int64)), torch.from_numpy(globals_.astype(np.int64)))


@dataclass
class Crops:
    """B pieces of T frames, each from one utterance; what lies outside it is zero."""

    audio: Tensor
    """float32 [B, T * hop]."""
    phones: Tensor
    """int64 [B, T]."""
    utterances: Tensor
    """int64 [B]."""
    frames: Tensor
    """int64 [B, T]: places in the corpus, clamped to the utterance."""
    inside: Tensor
    """bool [B, T]."""


class GrowingTensor:
    """A vector that is appended to, in memory that doubles when it is full."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._memory = torch.empty(0, dtype=dtype, device=device)
        self._size = 0

    @property
    def values(self) -> Tensor:
        return self._memory[: self._size]

    def append(self, values: Tensor) -> None:
        size = self._size + len(values)
        if size > len(self._memory):
            larger = self._memory.new_empty(max(size, 2 * len(self._memory)))
            larger[: self._size] = self.values
            self._memory = larger
        self._memory[self._size : size] = values
        self._size = size


class DeviceCorpus:
    """Utterances of many shards on one device. Frames are tokens of 320 samples, numbered through the corpus."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._audio = GrowingTensor(torch.int16, device)
        self.phones = torch.empty(0, dtype=torch.uint8, device=device)
        self.ends = torch.empty(0, dtype=torch.int64, device=device)
        """Frame after each utterance's last."""
        self.voices = torch.empty(0, dtype=torch.int64, device=device)
        """Speaker and pitch as one number."""
        self.semantic = torch.empty(0, dtype=torch.int64, device=device)
        self.globals_ = torch.empty(0, device=device)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def audio(self) -> Tensor:
        """int16 [frames * hop]."""
        return self._audio.values

    @property
    def frames(self) -> int:
        return len(self.phones)

    @property
    def hours(self) -> float:
        return self.frames / 50 / 3600

    def add(self, shards: Sequence[Shard], tokens: Sequence[Tokens] = ()) -> None:
        """Append shards, with their tokens or none."""
        if not shards:
            return
        first = self.frames
        ends = []
        for shard in shards:
            ends.append(shard.offsets[1:] // HOP + first)
            first += len(shard.phones)
        voices = [shard.speaker.astype(np.int64) * len(PITCHES) + shard.pitch for shard in shards]
        for shard in shards:
            self._audio.append(torch.from_numpy(shard.audio))
        self.phones = self._extended(self.phones, [shard.phones for shard in shards])
        self.ends = self._extended(self.ends, ends)
        self.voices = self._extended(self.voices, voices)
        if tokens:
            self.semantic = torch.cat([self.semantic, *(part.semantic.to(self.device) for part in tokens)])
            rows = [part.globals_.to(self.device) for part in tokens]
            self.globals_ = torch.cat([self.globals_, *rows] if len(self.globals_) else rows)
        self._index()

    def _extended(self, old: Tensor, parts: Sequence[NDArray[np.generic]]) -> Tensor:
        return torch.cat([old, *(torch.from_numpy(part).to(self.device) for part in parts)])

    def _index(self) -> None:
        self.starts = torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
        self.by_voice = self.voices.argsort(stable=True)
        in_order = self.voices[self.by_voice]
        self.voice_starts = torch.searchsorted(in_order, self.voices)
        self.voice_sizes = torch.searchsorted(in_order, self.voices, right=True) - self.voice_starts

    def draw(self, count: int, frames: int) -> tuple[Tensor, Tensor]:
        """Random utterances int64 [count], the longer the likelier, and a first frame in each for a crop."""
        places = below(torch.full((count,), self.frames, device=self.device))
        utterances = torch.searchsorted(self.ends, places, right=True)
        room = (self.ends - self.starts)[utterances] - frames
        return utterances, self.starts[utterances] + below((room + 1).clamp(min=1))

    def crop(self, utterances: Tensor, first: Tensor, frames: int) -> Crops:
        """Crops int64 [B] utterances from int64 [B] frames on; these may lie outside the utterances."""
        starts, ends = self.starts[utterances, None], self.ends[utterances, None]
        wanted = first[:, None] + torch.arange(frames, device=self.device)
        inside = (wanted >= starts) & (wanted < ends)
        places = wanted.clamp(min=starts, max=ends - 1)
        samples = places[:, :, None] * HOP + torch.arange(HOP, device=self.device)
        audio = self.audio[samples].float() / FULL_SCALE * inside[:, :, None]
        phones = self.phones[places].long() * inside
        return Crops(audio.flatten(1), phones, utterances, places, inside)

    def companions(self, utterances: Tensor) -> Tensor:
        """For each utterance a random one of the same speaker and pitch, int64 [B]."""
        rank = self.voice_starts[utterances] + below(self.voice_sizes[utterances])
        return self.by_voice[rank]

    def clips(self, utterances: Tensor, frames: int) -> Tensor:
        """float32 [B, frames * hop] of utterances that are repeated until they are long enough."""
        starts, ends = self.starts[utterances, None], self.ends[utterances, None]
        samples = torch.arange(frames * HOP, device=self.device) % ((ends - starts) * HOP)
        return self.audio[starts * HOP + samples].float() / FULL_SCALE


def below(limits: Tensor) -> Tensor:
    """A random integer in 0..limit-1 for each of int64 limits."""
    share = torch.rand(limits.shape, dtype=torch.float64, device=limits.device)
    return (share * limits).long().clamp(max=limits - 1)


class ShardReader:
    """Reads training shards in the background, each once, as they appear."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._pool = ThreadPoolExecutor(READERS)
        self._pending: dict[Path, Future[Shard]] = {}
        self._seen: set[Path] = set()

    def look(self) -> None:
        """Begin to read what is new."""
        for path in training_shards(self.work):
            if path not in self._seen:
                self._seen.add(path)
                self._pending[path] = self._pool.submit(Shard.load, path)

    def ready(self, *, wait: bool = False) -> list[Shard]:
        """Shards read since the last call; with `wait` all that were begun."""
        done = [path for path, future in self._pending.items() if wait or future.done()]
        return [self._pending.pop(path).result() for path in done]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def validation_crops(corpus: DeviceCorpus, count: int, frames: int) -> tuple[Crops, Tensor]:
    """The beginnings of up to `count` utterances, evenly spread, and for each the next one of its voice."""
    count = min(count, len(corpus))
    utterances = torch.arange(count, device=corpus.device) * len(corpus) // count
    ranks = torch.empty_like(corpus.by_voice)
    ranks[corpus.by_voice] = torch.arange(len(corpus), device=corpus.device)
    starts, sizes = corpus.voice_starts[utterances], corpus.voice_sizes[utterances]
    others = corpus.by_voice[starts + (ranks[utterances] - starts + 1) % sizes]
    return corpus.crop(utterances, corpus.starts[utterances], frames), others
