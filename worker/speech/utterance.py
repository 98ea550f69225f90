"""A request on its way through the stages: an utterance of one or more parts, each of which is a row."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from batching.row import Row
from codec.voice_encoder import EncodedVoice
from rwkv_tts.attributes import Attributes
from rwkv_tts.refusal import Refusal
from rwkv_tts.schema import SynthesisRequest
from sampler.layout import TokenLayout
from sampler.prompt import attribute_prompt, voice_prompt

Wave = npt.NDArray[np.float32]


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

    def prompt(
        self, layout: TokenLayout, globals_: Sequence[int] | None = None, semantic: Sequence[int] = ()
    ) -> list[int]:
        """Token ids to prefill for a voice's raw global and semantic tokens, or to sample a voice."""
        if globals_ is None:
            assert self.attributes is not None
            return attribute_prompt(layout, self.text_ids, self.attributes)
        speech = semantic if self.transcript else ()
        return voice_prompt(layout, self.text_ids, globals_, attributes=self.attributes, semantic=speech)


@dataclass(eq=False)
class Part:
    """What one row speaks of an utterance; each stage fills in its share.

    Attributes:
        row: Its prompt is empty until ``with_voice`` where a recording has to be encoded first.
        script: The row's text; None only for rows that were made by hand.
        wave: float32 [n] at the codec's rate.
        vocoded_at: When the wave was there, ``time.monotonic()`` seconds.
    """

    row: Row
    script: Script | None = None
    wave: Wave | None = None
    vocoded_at: float = 0.0


@dataclass(eq=False)
class Utterance:
    """A request on its way through the stages; each fills in its share.

    Times are ``time.monotonic()`` seconds, ``queued`` is a duration.

    Attributes:
        id: The caller's name for it.
        parts: In the order in which they are spoken.
        recording: The bytes of the recording to clone, until ``with_voice`` has its tokens.
        voice: What the recording was encoded to.
        cloned_at: When that was; 0 without a recording.
        audio: The encoded file.
        refusal: Why there is none.
    """

    id: str
    request: SynthesisRequest
    parts: list[Part]
    queued: float = 0.0
    warnings: list[str] = field(default_factory=list)
    recording: bytes | None = None
    voice: EncodedVoice | None = None
    claimed_at: float = field(default_factory=time.monotonic)
    cloned_at: float = 0.0
    audio: bytes = b""
    done_at: float = 0.0
    refusal: Refusal | None = None

    def waves(self) -> list[Wave]:
        """The waves of all parts, which have one, in order."""
        return [part.wave for part in self.parts if part.wave is not None]

    def refuse(self, refusal: Refusal | None) -> None:
        """Note why there will be no audio; the first reason counts."""
        self.refusal = self.refusal or refusal


class Piece(NamedTuple):
    """A part with the utterance that it belongs to, as stages hand it on."""

    utterance: Utterance
    part: Part
