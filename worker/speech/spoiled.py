"""What a row that has ended was worth: speech, a draw to be repeated, or the reason why there is no speech."""

from dataclasses import dataclass

from rwkv_tts.refusal import Cause, Refusal
from sampler.decoding import FinishReason
from sampler.layout import TokenLayout
from worker.speech.preparation import TOKENS_PER_SECOND
from worker.speech.utterance import Part, Piece, Speaker, Utterance


@dataclass(frozen=True)
class Attempts:
    """Repeats what one bad draw has spoiled, so that a book does not end with it.

    Attributes:
        layout: The token layout of the model.
        most: Further draws of one part.
    """

    layout: TokenLayout
    most: int

    def again(self, piece: Piece) -> bool:
        """Whether a part is to be drawn again; it then has a row that has not run.

        A lone part keeps what it has drawn unless that is nothing. So does the first part of a stream, which may
        have been heard.
        """
        utterance, part = piece
        if part.attempt >= self.most or part.script is None or part.row.error is not None:
            return False
        lone = utterance.reading is None or (utterance.request.stream and part.number == 0)
        if not (_empty(part) or (not lone and _stuck(part, utterance))):
            return False
        drawn = part.row.decoding.globals_
        if utterance.speaker is None and len(drawn) == self.layout.globals_per_voice:
            utterance.speaker = Speaker(tuple(drawn))  # others may speak with it already
        part.try_again(utterance.seed)
        if utterance.speaker is not None:
            part.prompt(self.layout, utterance.speaker)
        return True

    def failure(self, piece: Piece) -> Refusal | None:
        """Why a part that has ended means the end of its utterance, or None."""
        row = piece.part.row
        if row.error is not None:
            return Refusal("engine", Cause.INTERNAL, row.error)
        if row.finished is FinishReason.ERROR:
            return Refusal("model", Cause.MODEL, "it produced logits that are not finite; the row was ended")
        if row.finished is FinishReason.CANCELLED:
            return Refusal("", Cause.CANCELLED, "cancelled on request")
        if row.decoding.semantic or piece.utterance.reading is not None:
            return None
        return NO_SPEECH


NO_SPEECH = Refusal("model", Cause.MODEL, "speech ended before its first token; another seed or text may help")


def _empty(part: Part) -> bool:
    return part.row.finished is FinishReason.EOS and not part.row.decoding.semantic


def _stuck(part: Part, utterance: Utterance) -> bool:
    """Whether it missed its end, and not because the request allows no more."""
    finish, most = part.row.finished, utterance.request.max_seconds
    if finish is FinishReason.LENGTH:
        return most is None or part.row.decoding.limit < int(most * TOKENS_PER_SECOND)
    return finish is FinishReason.REPETITION
