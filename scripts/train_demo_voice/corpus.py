"""Shards of teacher speech on disk: what they hold, and how they are made."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, fields
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from train_demo_voice.speakers import HOP as HOP
from train_demo_voice.speakers import PITCHES, SPEAKERS, SPEEDS
from train_demo_voice.speakers import SAMPLE_RATE as SAMPLE_RATE
from train_demo_voice.teacher import UnspeakableError, check_teacher, render
from train_demo_voice.texts import training_texts, validation_texts

SHARD_PATTERN = "[0-9][0-9][0-9][0-9].npz"
VALIDATION_NAME = "validation.npz"
VALIDATION_TEXTS = 400
SHARD_TEXTS = 900
TWICE_SHARE = 0.1
"""Share of the texts that are spoken a second time, as a rule in another voice."""

_CHUNK = 10


@dataclass(frozen=True)
class Shard:
    """n utterances, one after the other.

    audio int16 [S] at 16 kHz, every utterance a multiple of 320 samples; offsets int64 [n + 1], in samples;
    phones uint8 [S / 320], indices into ``speakers.PHONES``; text uint8 [bytes], UTF-8; text_offsets int64
    [n + 1], in bytes; speaker, pitch, speed uint8 [n], indices into ``SPEAKERS``, ``PITCHES``, ``SPEEDS``.
    """

    audio: NDArray[np.int16]
    offsets: NDArray[np.int64]
    phones: NDArray[np.uint8]
    text: NDArray[np.uint8]
    text_offsets: NDArray[np.int64]
    speaker: NDArray[np.uint8]
    pitch: NDArray[np.uint8]
    speed: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.speaker)

    @classmethod
    def load(cls, path: Path) -> "Shard":
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def save(self, path: Path) -> None:
        """Write ``path`` atomically: a reader sees the whole shard or none."""
        part = path.with_name(f"{path.stem}.{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **{field.name: getattr(self, field.name) for field in fields(self)})
        part.replace(path)

    def text_of(self, i: int) -> str:
        return self.text[self.text_offsets[i] : self.text_offsets[i + 1]].tobytes().decode()

    def audio_of(self, i: int) -> NDArray[np.int16]:
        """int16 [N] at 16 kHz."""
        return self.audio[self.offsets[i] : self.offsets[i + 1]]

    def phones_of(self, i: int) -> NDArray[np.uint8]:
        """uint8 [N / 320]."""
        return self.phones[self.offsets[i] // HOP : self.offsets[i + 1] // HOP]


def training_shards(work: Path) -> list[Path]:
    """The training shards that exist now, in order."""
    return sorted((work / "corpus").glob(SHARD_PATTERN))


def validation_shard(work: Path) -> Path:
    return work / "corpus" / VALIDATION_NAME


@dataclass(frozen=True)
class Order:
    """An utterance to speak: its text and indices into ``SPEAKERS``, ``PITCHES``, ``SPEEDS``."""

    text: str
    speaker: int
    pitch: int
    speed: int


@dataclass(frozen=True)
class Utterance:
    """A spoken order: audio int16 [N] at 16 kHz, phones uint8 [N / 320]."""

    order: Order
    audio: NDArray[np.int16]
    phones: NDArray[np.uint8]


def generate(work: Path, hours: float, workers: int, seed: int, seconds: float | None = None) -> None:
    """Write the validation shard, then training shards until they hold ``hours`` of speech.

    Every shard follows from ``seed`` and its own number alone; those that exist are kept. With ``seconds``, no
    shard is begun after so long. Raises TeacherError when flite is missing.
    """
    check_teacher()
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        if not validation_shard(work).exists():
            speak(validation_orders(seed), executor).save(validation_shard(work))
        spoken = 0.0
        for path in (work / "corpus" / f"{index:04d}.npz" for index in count()):
            if spoken >= hours or time.monotonic() >= deadline:
                return
            if not path.exists():
                speak(training_orders(seed, int(path.stem)), executor).save(path)
            spoken += hours_of(path)
            print(f"corpus: {path.name}, {spoken:.2f} of {hours:.2f} hours", flush=True)


def hours_of(path: Path) -> float:
    """Length of a shard, read without its audio."""
    with np.load(path, allow_pickle=False) as arrays:
        return float(arrays["offsets"][-1]) / SAMPLE_RATE / 3600


def training_orders(seed: int, shard: int) -> list[Order]:
    """What shard number ``shard`` says, and how."""
    random = _random(f"{seed}/{shard}/voices")
    texts = training_texts(seed, shard, SHARD_TEXTS)
    return list(_orders([text for text in texts for _ in range(1 + (random.random() < TWICE_SHARE))], random))


def validation_orders(seed: int) -> list[Order]:
    return list(_orders(validation_texts(seed, VALIDATION_TEXTS), _random(f"{seed}/validation/voices")))


def speak(orders: Sequence[Order], executor: Executor) -> Shard:
    """The shard of all orders that the teacher can say."""
    return pack(utterance for utterance in executor.map(_speak, orders, chunksize=_CHUNK) if utterance)


def pack(utterances: Iterable[Utterance]) -> Shard:
    """One utterance after the other."""
    spoken = list(utterances)
    texts = [utterance.order.text.encode() for utterance in spoken]
    return Shard(
        audio=np.concatenate([utterance.audio for utterance in spoken]),
        offsets=np.cumsum([0, *(len(utterance.audio) for utterance in spoken)]),
        phones=np.concatenate([utterance.phones for utterance in spoken]),
        text=np.frombuffer(b"".join(texts), np.uint8),
        text_offsets=np.cumsum([0, *(len(text) for text in texts)]),
        speaker=np.array([utterance.order.speaker for utterance in spoken], np.uint8),
        pitch=np.array([utterance.order.pitch for utterance in spoken], np.uint8),
        speed=np.array([utterance.order.speed for utterance in spoken], np.uint8),
    )


def _random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - not for secrets


def _speak(order: Order) -> Utterance | None:
    pitch, speed = PITCHES[order.pitch][1], SPEEDS[order.speed][1]
    try:
        audio, phones = render(order.text, SPEAKERS[order.speaker], pitch, speed)
    except UnspeakableError as error:
        print(f"corpus: {error}", flush=True)
        return None
    return Utterance(order, np.rint(audio * 32767).astype(np.int16), phones)


def _orders(texts: Iterable[str], random: Random) -> Iterator[Order]:
    speakers = [speaker.weight for speaker in SPEAKERS]
    pitches, speeds = ([level[2] for level in levels] for levels in (PITCHES, SPEEDS))
    for text in texts:
        yield Order(text, _draw(random, speakers), _draw(random, pitches), _draw(random, speeds))


def _draw(random: Random, weights: Sequence[float]) -> int:
    """An index, as often as its weight says."""
    edges = np.cumsum(weights)
    return int(np.searchsorted(edges[:-1], random.random() * edges[-1], side="right"))
