"""Short words for what tests ask of utterances of one part."""

from batching.row import Row
from rwkv_tts.refusal import Cause, Refusal
from worker.delivery.encoding import Wave
from worker.speech.utterance import Utterance


def row(utterance: Utterance) -> Row:
    (part,) = utterance.parts
    return part.row


def wave(utterance: Utterance) -> Wave:
    (part,) = utterance.parts
    assert part.wave is not None
    return part.wave


def reason(utterance: Utterance) -> str | None:
    """The line that says why there is no audio."""
    return None if utterance.refusal is None else str(utterance.refusal)


def told(line: str) -> Refusal:
    """The refusal of a cancel."""
    return Refusal("", Cause.CANCELLED, line)
