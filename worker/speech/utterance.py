"""A request on its way through the stages: an utterance of one or more parts, each of which is a row."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

from batching.row import Row
from codec.voice_encoder import EncodedVoice
from rwkv_tts.attributes import Attributes
from rwkv_tts.refusal import Refusal
from rwkv_tts.schema import SynthesisRequest
from sampler.decoding import FinishReason
from sampler.layout import TokenLayout
from sampler.prompt import attribute_prompt, voice_prompt
from worker.delivery.encoding import Wave
from worker.speech.kept import Entry, Kept, KeptPart

_MOST_WARNINGS = 20


class Speaker(NamedTuple):
    """A voice as a prompt has it: raw global tokens, and the semantic ones of its recording."""

    globals_: Sequence[int]
    semantic: Sequence[int] = ()


@dataclass(frozen=True)
class Script:
    """What a row is given to say, before its voice is known.

    Attributes:
        text_ids: Tokenizer ids of the text, after the voice's transcript where ``transcript`` is set.
        attributes: To write before the text; None leaves them out.
        transcript: The voice's own semantic tokens go into the prompt too (both or neither).
    """

    text_ids: list[int]
    attributes: Attributes | None = None
    transcript: bool = False

    def prompt(self, layout: TokenLayout, speaker: Speaker | None = None) -> list[int]:
        """Token ids to prefill for a voice, or to sample one."""
        if speaker is None:
            assert self.attributes is not None
            return attribute_prompt(layout, self.text_ids, self.attributes)
        semantic = speaker.semantic if self.transcript else ()
        return voice_prompt(layout, self.text_ids, speaker.globals_, attributes=self.attributes, semantic=semantic)


@dataclass(eq=False)
class Part:
    """What one row speaks of an utterance; each stage fills in its share.

    Attributes:
        row: Its prompt is empty until its voice is known.
        script: The row's text; None only for rows that were made by hand.
        number: Its place in the utterance, from 0.
        span: Where its text is in the request's, in characters.
        pause: Seconds of silence between the part before and this one.
        attempt: How many draws of it were given up.
        kept: What an earlier worker has drawn of it.
        wave: float32 [n] at the codec's rate, until it is joined to the others.
        vocoding_at, vocoded_at: When the vocoder had its first tokens, and when the wave was there,
            ``time.monotonic()`` seconds.
    """

    row: Row
    script: Script | None = None
    number: int = 0
    span: tuple[int, int] = (0, 0)
    pause: float = 0.0
    attempt: int = 0
    kept: KeptPart | None = None
    wave: Wave | None = None
    vocoding_at: float = 0.0
    vocoded_at: float = 0.0

    def prompt(self, layout: TokenLayout, speaker: Speaker) -> None:
        """Give a row that has not run its prompt."""
        assert self.script is not None
        prompt = self.script.prompt(layout, speaker)
        spoken = () if self.kept is None else self.kept.tokens
        self.row.decoding = replace(self.row.decoding, prompt=prompt, voice=speaker.globals_, spoken=spoken)
        if self.kept is not None and self.kept.finish is not None:
            self.row.ended_before(self.kept.finish)

    def forget(self) -> None:
        """Let go of what takes memory, once it is in the audio."""
        self.wave = None
        self.script = None
        self.row.decoding = replace(self.row.decoding, prompt=())

    def try_again(self, seed: int) -> None:
        """Give up what was drawn, and begin anew with the next seed that follows from the request's."""
        self.attempt += 1
        self.kept = None
        decoding = replace(self.row.decoding, seed=derived_seed(seed, self.number, self.attempt), spoken=())
        self.row = Row(self.row.key, decoding)


def derived_seed(seed: int, number: int, attempt: int = 0) -> int:
    """The unsigned 64-bit seed of each attempt at a part; the very first is the request's."""
    if not number and not attempt:
        return seed
    return int.from_bytes(blake2b(f"{seed}/{number}/{attempt}".encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class PartAccount:
    """What is told of one part.

    Attributes:
        span: Where its text is in the request's, in characters.
        begin, end: Of its speech in the audio, seconds.
        seed: That it was drawn with.
        finish: Why it ended.
        tokens: That it has drawn.
    """

    span: tuple[int, int]
    begin: float
    end: float
    seed: int
    finish: FinishReason | None
    tokens: int


@dataclass(frozen=True)
class Account:
    """What is told of finished audio.

    Attributes:
        parts: In order.
        seconds: Length of the audio.
        finish: Why it ends where it does.
        cut: Whether it ends because the request allows no more.
        semantic: Tokens.
        trace: SHA-256 over the JSON of ``[globals, semantic]``: equal traces, equal digests, on any platform.
        attempts: Draws that were given up.
        mean_batch: Rows in a step, averaged over the steps of all parts.
        decoded_at, vocoded_at: Of the last part, ``time.monotonic()`` seconds.
    """

    parts: list[PartAccount]
    seconds: float
    finish: FinishReason | None
    cut: bool
    semantic: int
    trace: str
    attempts: int
    mean_batch: float
    decoded_at: float
    vocoded_at: float


@dataclass
class Listening:
    """How somebody is served who listens while the audio is made; times are ``time.monotonic()`` seconds.

    Attributes:
        began_at: When the first samples were ready; 0 before.
        runs_dry_at: When all that was made so far has been heard.
        waits: How often there was nothing to hear.
        waited: For how long in all, seconds.
    """

    began_at: float = 0.0
    runs_dry_at: float = 0.0
    waits: int = 0
    waited: float = 0.0

    def deliver(self, seconds: float) -> None:
        """There are so many seconds of audio now, from the beginning on."""
        now = time.monotonic()
        if not self.began_at:
            self.began_at = now
        elif now > self.runs_dry_at:
            self.waits += 1
            self.waited += now - self.runs_dry_at
        self.runs_dry_at = self.began_at + self.waited + seconds


@dataclass(eq=False)
class Utterance:
    """A request on its way through the stages; each fills in its share.

    Times are ``time.monotonic()`` seconds, ``queued`` is a duration.

    Attributes:
        id: The caller's name for it.
        parts: Those that were made so far, in the order in which they are spoken.
        seed: The request's, or one that was chosen.
        reading: Makes further parts, one after another; None where there are no more.
        read: Whether ``parts`` are all that there are.
        recording: The bytes of the recording to clone, until ``with_voice`` has its tokens.
        voice: What the recording was encoded to.
        speaker: The voice; None until it is known.
        cloned_at: When the recording was encoded; 0 without one.
        joined: Parts that are in the audio already.
        ending: Seconds of silence after the last part.
        audio: The encoded file.
        account: What is told of it.
        kept: What earlier workers have made of it.
        listening: How a listener is served, of a stream.
        refusal: Why there is none.
    """

    id: str
    request: SynthesisRequest
    parts: list[Part]
    queued: float = 0.0
    seed: int = 0
    reading: Iterator[Part] | None = None
    read: bool = False
    warnings: list[str] = field(default_factory=list)
    recording: bytes | None = None
    voice: EncodedVoice | None = None
    speaker: Speaker | None = None
    claimed_at: float = field(default_factory=time.monotonic)
    cloned_at: float = 0.0
    joined: int = 0
    ending: float = 0.0
    audio: bytes = b""
    account: Account | None = None
    kept: Kept | None = None
    listening: Listening = field(default_factory=Listening)
    done_at: float = 0.0
    refusal: Refusal | None = None

    @property
    def background(self) -> bool:
        """Whether it is a long text for a file: nobody waits for any one part of it."""
        return self.reading is not None and not self.request.stream

    def warn(self, warning: str) -> None:
        """Note what the requester should know, once, and not of every part of a book."""
        if warning not in self.warnings and len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(warning)

    def end_with(self, silence: float) -> None:
        """Note the seconds of silence after the last part, which has been made."""
        self.ending = silence

    def refuse(self, refusal: Refusal | None) -> None:
        """Note why there will be no audio; the first reason counts."""
        self.refusal = self.refusal or refusal


class Piece(NamedTuple):
    """A part with the utterance that it belongs to, as stages hand it on."""

    utterance: Utterance
    part: Part


class Growing(NamedTuple):
    """A part that is heard while it decodes has enough tokens for its next samples."""

    utterance: Utterance
    part: Part


class Closed(NamedTuple):
    """An utterance has left the engine, after so many parts."""

    utterance: Utterance
    parts: int


class Heard(NamedTuple):
    """The next samples, float32 [n], of a part that is not complete: up to its first ``tokens`` tokens."""

    utterance: Utterance
    part: Part
    wave: Wave
    tokens: int


@dataclass(frozen=True)
class Step:
    """What an utterance has come to before its end.

    Attributes:
        audio: The next bytes for listeners; empty where there are none.
        changes: With the last bytes: offsets and bytes of the file's head, which now tells its length.
        entry: What a worker needs that goes on after a crash.
        seconds: Length of the audio so far.
    """

    utterance: Utterance
    audio: bytes
    changes: list[tuple[int, bytes]]
    entry: Entry
    seconds: float
