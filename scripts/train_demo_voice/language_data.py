"""What the language model learns from: token sequences as the worker feeds them, packed into rows.

A pack is int16 [PLANES, rows, length]. Plane TOKEN holds what is fed, TARGET what the head should produce next,
PHONE and NEXT_PHONE the phone of the frame that is predicted and the one that follows it, START a 1 at the
first token of every sequence. IGNORE stands where there is nothing to learn.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from multiprocessing.context import ForkProcess
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.tokenizer import load_tokenizer
from rwkv_tts.attributes import EMOTION, Attributes
from sampler.layout import TokenLayout
from sampler.prompt import attribute_prompt, voice_prompt
from train_demo_voice.corpus import HOP, Shard, training_shards, validation_shard
from train_demo_voice.language_model import LAYOUT
from train_demo_voice.speakers import PITCHES, SPEAKERS, SPEEDS

TOKEN, TARGET, PHONE, NEXT_PHONE, START = range(5)
PLANES = 5
IGNORE = -100

Pack = NDArray[np.int16]
Mode = Literal["described", "cloned"]

UNTRAINED_AGES = ("child", "teenager", "elderly")
NEUTRAL = "neutral"


@dataclass(frozen=True)
class Mixture:
    """How samples are drawn; numbers are probabilities unless they say otherwise.

    Attributes:
        cloned: Zero-shot mode; the voice is given, not learnt.
        other_voice: Voice tokens of another utterance of the same speaker and pitch.
        other_age: A random age that no speaker has.
        other_emotion: A random emotion that no speaker has.
        plain: Lower case without an end mark.
        joined: Several utterances of the same speaker, pitch and speed, one after the other.
        most_joined: Utterances of a joined sample at most.
        longest_text, longest_speech: Of a joined sample, in bytes and in frames.
    """

    cloned: float = 0.3
    other_voice: float = 0.8
    other_age: float = 0.15
    other_emotion: float = 0.4
    plain: float = 0.05
    joined: float = 0.35
    most_joined: int = 5
    longest_text: int = 400
    longest_speech: int = 1250


@dataclass(frozen=True)
class Utterances:
    """All utterances of many shards, flat.

    text uint8, text_offsets int64 [n + 1] in bytes; semantic, phones and next_phones int16 [frames], frame_offsets
    int64 [n + 1]; globals int16 [n, 32]; speaker, pitch, speed uint8 [n].
    """

    text: NDArray[np.uint8]
    text_offsets: NDArray[np.int64]
    semantic: NDArray[np.int16]
    phones: NDArray[np.int16]
    next_phones: NDArray[np.int16]
    frame_offsets: NDArray[np.int64]
    globals_: NDArray[np.int16]
    speaker: NDArray[np.uint8]
    pitch: NDArray[np.uint8]
    speed: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.speaker)

    @staticmethod
    def of(shards: Sequence[Shard], tokens: Sequence[tuple[NDArray[np.int16], NDArray[np.int16]]]) -> "Utterances":
        """Join shards with their tokens (semantic [frames], globals [n, 32]).

        Raises:
            ValueError: There are none, or tokens do not fit their shard.
        """
        if not shards:
            raise ValueError("no shards with tokens")
        for shard, (semantic, voices) in zip(shards, tokens, strict=True):
            if len(semantic) != len(shard.phones) or len(voices) != len(shard):
                raise ValueError("tokens do not fit their shard: tokenise again")
        frame_offsets = _joined_offsets([shard.offsets // HOP for shard in shards])
        phones = np.concatenate([shard.phones for shard in shards]).astype(np.int16)
        return Utterances(
            text=np.concatenate([shard.text for shard in shards]),
            text_offsets=_joined_offsets([shard.text_offsets for shard in shards]),
            semantic=np.concatenate([semantic for semantic, _ in tokens]).astype(np.int16),
            phones=phones,
            next_phones=next_distinct(phones, frame_offsets),
            frame_offsets=frame_offsets,
            globals_=np.concatenate([voices for _, voices in tokens]).astype(np.int16),
            speaker=np.concatenate([shard.speaker for shard in shards]),
            pitch=np.concatenate([shard.pitch for shard in shards]),
            speed=np.concatenate([shard.speed for shard in shards]),
        )

    @staticmethod
    def training(work: Path) -> "Utterances":
        """Every training shard that has tokens."""
        return _read(work, training_shards(work))

    @staticmethod
    def validation(work: Path) -> "Utterances":
        return _read(work, [validation_shard(work)])

    def text_of(self, i: int) -> bytes:
        return self.text[self.text_offsets[i] : self.text_offsets[i + 1]].tobytes()

    def frames_of(self, i: int) -> slice:
        return slice(int(self.frame_offsets[i]), int(self.frame_offsets[i + 1]))

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """Frames of each utterance, int64 [n]."""
        return np.diff(self.frame_offsets)

    @cached_property
    def same_voice(self) -> "Groups":
        return Groups.of(self.speaker.astype(np.int64) * len(PITCHES) + self.pitch)

    @cached_property
    def same_style(self) -> "Groups":
        return Groups.of((self.speaker.astype(np.int64) * len(PITCHES) + self.pitch) * len(SPEEDS) + self.speed)


def _read(work: Path, paths: Sequence[Path]) -> Utterances:
    shards, tokens = [], []
    for path in paths:
        beside = work / "tokens" / path.name
        if beside.exists():
            shards.append(_without_audio(path))
            with np.load(beside, allow_pickle=False) as arrays:
                tokens.append((arrays["semantic"], arrays["globals"]))
    return Utterances.of(shards, tokens)


def _without_audio(path: Path) -> Shard:
    """Audio is nearly all of a shard, and not needed here."""
    with np.load(path, allow_pickle=False) as arrays:
        others = {f.name: arrays[f.name] for f in fields(Shard) if f.name != "audio"}
    return Shard(audio=np.empty(0, dtype=np.int16), **others)


def _joined_offsets(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    lengths = np.concatenate([np.diff(part) for part in parts])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def next_distinct(phones: NDArray[np.int16], offsets: NDArray[np.int64]) -> NDArray[np.int16]:
    """For each frame the phone that comes after its own in the utterance, or IGNORE: int16 [frames]."""
    begins = np.zeros(len(phones), dtype=bool)
    begins[1:] = phones[1:] != phones[:-1]
    begins[offsets[:-1][offsets[:-1] < len(phones)]] = True
    runs = np.flatnonzero(begins)
    utterance = np.searchsorted(offsets, runs, side="right")
    following = np.full(len(runs), IGNORE, dtype=np.int16)
    same = utterance[1:] == utterance[:-1]
    following[:-1][same] = phones[runs[1:]][same]
    result: NDArray[np.int16] = following[np.cumsum(begins) - 1]
    return result


@dataclass(frozen=True)
class Groups:
    """Members of equivalence classes: those of item i are ``order[first[i]:last[i]]``."""

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @staticmethod
    def of(keys: NDArray[np.int64]) -> "Groups":
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        return Groups(order, np.searchsorted(ordered, keys), np.searchsorted(ordered, keys, side="right"))

    def draw(self, i: int, random: np.random.Generator) -> int:
        """A random member of the class of item ``i``."""
        return int(self.order[random.integers(self.first[i], self.last[i])])


@dataclass(frozen=True)
class Sample:
    """One sequence to be: what is said, whose voice tokens it has, and how it is prompted."""

    parts: tuple[int, ...]
    voice: int
    mode: Mode
    attributes: Attributes
    plain: bool = False


def attributes_of(utterances: Utterances, i: int) -> Attributes:
    """The true attributes of an utterance."""
    speaker = SPEAKERS[utterances.speaker[i]]
    pitch, speed = PITCHES[utterances.pitch[i]][0], SPEEDS[utterances.speed[i]][0]
    return Attributes(age=speaker.age, gender=speaker.gender, emotion=NEUTRAL, pitch=pitch, speed=speed)


def draw_sample(utterances: Utterances, i: int, mixture: Mixture, random: np.random.Generator) -> Sample:
    """Make a training sample that begins with utterance ``i``."""
    true = attributes_of(utterances, i)
    others = [name for name in EMOTION if name != NEUTRAL]
    age = random.choice(UNTRAINED_AGES) if random.random() < mixture.other_age else true.age
    emotion = random.choice(others) if random.random() < mixture.other_emotion else NEUTRAL
    return Sample(
        parts=_joined(utterances, i, mixture, random) if random.random() < mixture.joined else (i,),
        voice=utterances.same_voice.draw(i, random) if random.random() < mixture.other_voice else i,
        mode="cloned" if random.random() < mixture.cloned else "described",
        attributes=Attributes(str(age), true.gender, str(emotion), true.pitch, true.speed),
        plain=bool(random.random() < mixture.plain),
    )


def _joined(utterances: Utterances, i: int, mixture: Mixture, random: np.random.Generator) -> tuple[int, ...]:
    parts = [i]
    count = int(random.integers(2, mixture.most_joined + 1))
    text, speech = len(utterances.text_of(i)), int(utterances.frames[i])
    for other in (utterances.same_style.draw(i, random) for _ in range(count - 1)):
        text, speech = text + 1 + len(utterances.text_of(other)), speech + int(utterances.frames[other])
        if text > mixture.longest_text or speech > mixture.longest_speech:
            break
        parts.append(other)
    return tuple(parts)


def sequence(utterances: Utterances, sample: Sample, layout: TokenLayout = LAYOUT) -> Pack:
    """The sample's planes, int16 [PLANES, n]: what ``sampler.decoding`` feeds, and what it should draw next."""
    encode, _ = load_tokenizer("bytes")
    text = b" ".join(utterances.text_of(part) for part in sample.parts).decode()
    text_ids = encode(plain(text) if sample.plain else text)
    voice = utterances.globals_[sample.voice].tolist()
    frames = [utterances.frames_of(part) for part in sample.parts]
    semantic = np.concatenate([utterances.semantic[where] for where in frames])
    if sample.mode == "cloned":
        prompt = voice_prompt(layout, text_ids, voice)
    else:
        described = attribute_prompt(layout, text_ids, sample.attributes)
        prompt = [*described, *(layout.global_offset + g for g in voice), layout.tag_speech]
    planes = np.full((PLANES, len(prompt) + len(semantic)), IGNORE, dtype=np.int16)
    speech = len(prompt) - 1
    planes[TOKEN, : speech + 1] = prompt
    planes[TOKEN, speech + 1 :] = planes[TARGET, speech:-1] = semantic
    planes[TARGET, -1] = layout.eos
    if sample.mode == "described":
        first = len(described) - 1
        planes[TARGET, first : first + len(voice)] = voice
    planes[PHONE, speech:-1] = np.concatenate([utterances.phones[where] for where in frames])
    planes[NEXT_PHONE, speech:-1] = np.concatenate([utterances.next_phones[where] for where in frames])
    planes[START] = 0
    planes[START, 0] = 1
    return planes


def plain(text: str) -> str:
    """Lower case and no end mark, as people type."""
    return text.lower().rstrip(".!?") or text


def empty_pack(rows: int, length: int) -> Pack:
    """A pack that teaches nothing; every row is one sequence of padding."""
    pack = np.full((PLANES, rows, length), IGNORE, dtype=np.int16)
    pack[TOKEN] = pack[START] = 0
    pack[START, :, 0] = 1
    return pack


@dataclass
class Packer:
    """Lays sequences into rows, each into the row where it leaves the least room.

    What does not fit waits for the next pack, so that long sequences are as frequent as they are drawn.
    """

    rows: int
    length: int
    patience: int = 12
    _waiting: deque[Pack] = field(default_factory=deque)

    def packs(self, sequences: Iterator[Pack]) -> Iterator[Pack]:
        """Packs until there are no sequences left."""
        while (pack := self.pack(sequences)) is not None:
            yield pack

    def pack(self, sequences: Iterator[Pack]) -> Pack | None:
        """Fill the next pack; None when there are no sequences left. Those longer than a row are dropped."""
        pack, used = empty_pack(self.rows, self.length), [0] * self.rows
        held, self._waiting = self._waiting, deque()
        while len(self._waiting) < self.patience:
            planes = held.popleft() if held else next(sequences, None)
            if planes is None:
                break
            n = planes.shape[1]
            row = max(
                (r for r in range(self.rows) if used[r] + n <= self.length), key=used.__getitem__, default=None
            )
            if row is None and n <= self.length:
                self._waiting.append(planes)
            elif row is not None:
                pack[:, row, used[row] : used[row] + n] = planes
                used[row] += n
        self._waiting.extend(held)
        if not any(used):
            return None
        for row, end in enumerate(used):
            if end < self.length:
                pack[START, row, end] = 1
        return pack


def training_packs(
    utterances: Utterances, mixture: Mixture, rows: int, length: int, seed: Sequence[int]
) -> Iterator[Pack]:
    """Packs without end; every utterance leads one sample an epoch."""
    random = np.random.default_rng(list(seed))

    def sequences() -> Iterator[Pack]:
        while True:
            for i in random.permutation(len(utterances)).tolist():
                yield sequence(utterances, draw_sample(utterances, i, mixture, random))

    return Packer(rows, length).packs(sequences())


def validation_packs(utterances: Utterances, rows: int, length: int) -> list[Pack]:
    """Every utterance described and cloned (with another one's voice tokens), and a third of them joined."""
    random = np.random.default_rng(0)
    whole = Mixture(joined=1.0)

    def sequences() -> Iterator[Pack]:
        for i in range(len(utterances)):
            voice, attributes = utterances.same_voice.draw(i, random), attributes_of(utterances, i)
            yield sequence(utterances, Sample((i,), i, "described", attributes))
            yield sequence(utterances, Sample((i,), voice, "cloned", attributes))
            if i % 3 == 0:
                parts = _joined(utterances, i, whole, random)
                yield sequence(utterances, Sample(parts, voice, "described", attributes))

    return list(Packer(rows, length).packs(sequences()))


class Loader:
    """Training packs from processes that assemble them; in this process when ``workers`` is 0.

    The processes are forked and share the utterances' memory; they never touch a device.
    """

    def __init__(
        self, utterances: Utterances, mixture: Mixture, rows: int, length: int, workers: int, seed: Sequence[int]
    ) -> None:
        self._inline = training_packs(utterances, mixture, rows, length, (*seed, 0))
        _ = utterances.frames, utterances.same_voice, utterances.same_style  # before the fork: computed once
        context = multiprocessing.get_context("fork")
        self._queue: Queue[Pack] = context.Queue(maxsize=4 * max(1, workers))
        self._processes = [
            context.Process(
                target=_assemble,
                args=(self._queue, utterances, mixture, rows, length, (*seed, worker + 1)),
                daemon=True,
            )
            for worker in range(workers)
        ]

    def __enter__(self) -> "Loader":
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        self._processes = []
        self._queue.cancel_join_thread()
        self._queue.close()

    def get(self) -> Pack:
        """The next pack; assembled here when the processes bring none."""
        if _alive(self._processes):
            try:
                return self._queue.get(timeout=5.0)
            except Empty:
                print("language: no pack for 5 s", flush=True)
        return next(self._inline)


def _alive(processes: Sequence[ForkProcess]) -> bool:
    return any(process.is_alive() for process in processes)


def _assemble(
    queue: "Queue[Pack]", utterances: Utterances, mixture: Mixture, rows: int, length: int, seed: Sequence[int]
) -> None:
    for pack in training_packs(utterances, mixture, rows, length, seed):
        queue.put(pack)
