"""What is kept of an utterance while it is made, so that another worker can go on with it after a crash."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from rwkv_tts.refusal import Cause, Refusal, RequestError
from sampler.decoding import FinishReason


class Entry(BaseModel):
    """One step of an utterance; tokens of a part go on from those of its earlier entries.

    Attributes:
        number: Of the entry, from 1.
        seed: Of the utterance.
        voice: Its global tokens.
        part: Which one has gone on.
        attempt: How many draws of it were given up.
        tokens: Its next semantic tokens.
        finish: Why it has ended; None while it has not.
        audio: Bytes that listeners have been given so far.
    """

    number: int
    seed: int
    voice: list[int]
    part: int
    attempt: int
    tokens: list[int]
    finish: FinishReason | None = None
    audio: int = 0


@dataclass
class KeptPart:
    """What is known of a part.

    Attributes:
        attempt: How many draws of it were given up.
        tokens: That it has drawn, as far as they were heard or as it is complete.
        finish: Why it has ended; None while it has not.
    """

    attempt: int
    tokens: list[int] = field(default_factory=list)
    finish: FinishReason | None = None


@dataclass
class Kept:
    """All that earlier workers have kept of an utterance.

    Attributes:
        number: Of the last entry.
        audio: Bytes that listeners have been given.
    """

    number: int
    seed: int
    voice: list[int]
    audio: int
    parts: dict[int, KeptPart]


def read_kept(entries: Sequence[bytes]) -> Kept | None:
    """What the entries say; None where there are none.

    Raises:
        RequestError: They are not what a worker writes.
    """
    if not entries:
        return None
    try:
        read = [Entry.model_validate_json(entry) for entry in entries]
    except ValidationError as error:
        problem = f"what an earlier worker kept is not readable ({error.errors()[0]['msg']})"
        raise RequestError(Refusal("kept", Cause.INTERNAL, problem)) from None
    last = read[-1]
    kept = Kept(last.number, last.seed, last.voice, last.audio, {})
    for entry in read:
        part = kept.parts.setdefault(entry.part, KeptPart(entry.attempt))
        part.attempt, part.finish = entry.attempt, entry.finish
        part.tokens += entry.tokens
    return kept
