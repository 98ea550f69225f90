"""Who says what: held-out lines spoken by a model through the product's own pipeline, and by the teacher."""

import queue
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from codec.bicodec import BiCodec
from codec.clip import normalize_volume, voice_clip
from quality.recording import Audio, Samples, as_audio, to_samples
from rwkv_tts.attributes import Attributes
from rwkv_tts.refusal import RequestError
from rwkv_tts.schema import SynthesisRequest
from rwkv_tts.voices import Voice
from train_demo_voice.speakers import PITCHES, SPEAKERS, SPEEDS, Speaker
from train_demo_voice.teacher import render
from worker.speech.catalogue import VoiceCatalogue
from worker.speech.model import LocalModel
from worker.speech.pipeline import Pipeline
from worker.speech.preparation import make_utterance
from worker.speech.utterance import Utterance

BY_NAME: Mapping[str, Speaker] = {speaker.name: speaker for speaker in SPEAKERS}
_PITCH_FACTORS = {name: factor for name, factor, _ in PITCHES}
_SPEED_FACTORS = {name: factor for name, factor, _ in SPEEDS}
PITCH_LEVELS = tuple(_PITCH_FACTORS)
SPEED_LEVELS = tuple(_SPEED_FACTORS)
CLONE = "clone-{}-{}"
TOKEN_CHUNK_SIZE = 256
_POLL_SECONDS = 1.0
_DEFAULT = Attributes()


@dataclass(frozen=True)
class Rendering:
    """What the teacher says: a text in spoken form, by a speaker at a pitch and a speed."""

    text: str
    speaker: str
    pitch: str = _DEFAULT.pitch
    speed: str = _DEFAULT.speed


@dataclass(frozen=True)
class Line:
    """What the model says.

    Attributes:
        text: As a request has it, with digits and capitals.
        reference: The same words by the teacher; for a line of a voice, the speaker is whose voice it is.
        voice: A stored or cloned voice, or None for the speaker's attributes.
    """

    text: str
    reference: Rendering
    voice: str | None = None
    seed: int = 0

    @property
    def speaker(self) -> Speaker:
        return BY_NAME[self.reference.speaker]

    def request(self) -> SynthesisRequest:
        if self.voice is not None:
            return SynthesisRequest(text=self.text, voice=self.voice, seed=self.seed, format="pcm")
        speaker, reference = self.speaker, self.reference
        return SynthesisRequest(
            text=self.text,
            age=speaker.age,
            gender=speaker.gender,
            pitch=reference.pitch,
            speed=reference.speed,
            seed=self.seed,
            format="pcm",
        )


@dataclass(frozen=True, eq=False)
class Take:
    """A line as spoken: int16 [N], empty when it failed; why it ended; the row's global and semantic tokens."""

    samples: Samples
    finish: str
    tokens: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    seconds: float = 0.0

    @property
    def audio(self) -> Audio:
        return as_audio(self.samples)


NOTHING = np.zeros(0, dtype=np.int16)


def speak(speech: LocalModel, lines: Iterable[Line], rows: int) -> dict[Line, Take]:
    """Speak lines, ``rows`` at once, as a worker would.

    A line that the product refuses or fails is an empty take, whose ``finish`` says why.

    Raises:
        worker.broker.backend.BackendBrokenError: A thread of the pipeline died.
    """
    takes: dict[Line, Take] = {}
    ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
    pipeline = Pipeline(speech, max_rows=rows, token_chunk_size=TOKEN_CHUNK_SIZE, done=ended.put)
    inside: dict[str, Line] = {}
    for number, line in enumerate(dict.fromkeys(lines)):
        try:
            utterance = make_utterance(speech, str(number), line.request())
        except RequestError as error:
            takes[line] = Take(NOTHING, f"refused: {error}")
            continue
        inside[utterance.id] = line
        pipeline.submit(utterance)
    while inside:
        try:
            utterance = ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            pipeline.progress()
        else:
            takes[inside.pop(utterance.id)] = _take(utterance)
    pipeline.close()
    return takes


def _take(utterance: Utterance) -> Take:
    decoding = utterance.parts[0].row.decoding
    tokens = tuple(decoding.globals_), tuple(decoding.semantic)
    if utterance.refusal is not None:
        return Take(NOTHING, f"failed: {utterance.refusal}", tokens)
    samples = np.frombuffer(utterance.audio, dtype="<i2").astype(np.int16)
    return Take(samples, str(utterance.parts[0].row.finished), tokens, utterance.done_at - utterance.claimed_at)


def teach(pool: Executor, renderings: Iterable[Rendering]) -> dict[Rendering, Samples]:
    """The teacher's recordings, made in a pool's processes.

    Raises:
        train_demo_voice.teacher.TeacherError: It cannot be run.
    """
    wanted = list(dict.fromkeys(renderings))
    return dict(zip(wanted, pool.map(_render, wanted, chunksize=8), strict=True))


def _render(rendering: Rendering) -> Samples:
    audio, _ = render(
        rendering.text,
        BY_NAME[rendering.speaker],
        _PITCH_FACTORS[rendering.pitch],
        _SPEED_FACTORS[rendering.speed],
    )
    return to_samples(audio)


def encode_voice(codec: BiCodec, audio: Audio) -> list[int]:
    """Global tokens of a recording [N], prepared as the product prepares a reference."""
    clip = voice_clip(normalize_volume(audio), codec.sample_rate, codec.hop)
    tokens: list[int] = codec.encode_globals(torch.from_numpy(clip).float()[None])[0].tolist()
    return tokens


def resynthesize(codec: BiCodec, samples: Samples) -> Samples:
    """A recording int16 [N] as the codec's tokens and back."""
    wave = torch.from_numpy(as_audio(samples)).float()
    semantic = codec.encode_semantic(codec.mel_features([wave]))
    voice = torch.tensor([encode_voice(codec, as_audio(samples))])
    return to_samples(codec.decode(semantic, voice)[0].double().numpy())


def with_voices(speech: LocalModel, voices: Mapping[str, Sequence[int]]) -> LocalModel:
    """The model with more stored voices, given by their global tokens."""
    cloned = [_voice(name, tokens, speech.codec) for name, tokens in voices.items()]
    return replace(speech, voices=VoiceCatalogue([*speech.voices, *cloned], speech.layout))


def _voice(name: str, tokens: Sequence[int], codec: BiCodec) -> Voice:
    fields: dict[str, Any] = {"id": name, "name": name, "prompt_text": "", "created_at": "", "audio_duration": 0.0}
    return Voice(**fields, global_tokens=list(tokens), semantic_tokens=[], sample_rate=codec.sample_rate)


@dataclass(frozen=True)
class Pace:
    """Speech of ``rows`` requests at once: seconds of audio in a wall-clock second, and the wall-clock seconds."""

    rows: int
    audio_per_second: float
    seconds: float

    @property
    def rtf(self) -> float:
        """Real-time factor: wall-clock seconds for one second of audio."""
        return 1 / self.audio_per_second if self.audio_per_second else float("inf")


def pace(speech: LocalModel, lines: Sequence[Line], turns: int = 3) -> Pace:
    """How fast all lines together are spoken, in the best of a few turns after one to warm up."""
    best = Pace(len(lines), 0.0, float("inf"))
    for turn in range(turns + 1):
        begin = time.perf_counter()
        takes = speak(speech, lines, rows=len(lines))
        seconds = time.perf_counter() - begin
        audio = sum(len(take.samples) for take in takes.values()) / speech.codec.sample_rate
        if turn:
            best = max(best, Pace(len(lines), audio / seconds, seconds), key=lambda p: p.audio_per_second)
    return best
