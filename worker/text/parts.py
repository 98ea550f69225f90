"""A text of any length as the parts that rows speak, and what stands between them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

MOST_PAUSE = 10.0
"""Seconds that markup may ask for at one place."""


class Break(Enum):
    """What stands between a part and the next; ``seconds`` is the silence that a listener expects there."""

    NONE = ("none", 0.0)
    """Words of one clause that was too long."""
    CLAUSE = ("clause", 0.15)
    SENTENCE = ("sentence", 0.35)
    PARAGRAPH = ("paragraph", 0.7)
    HEADING = ("heading", 0.8)
    """The part is a heading."""

    def __init__(self, label: str, seconds: float) -> None:
        self.label = label
        self.seconds = seconds


@dataclass(frozen=True)
class TextPart:
    """A piece of a request's text that one row speaks.

    Attributes:
        text: As written, without markup and outer white space: ``source[start:end]``.
        start, end: Its span in the request's text, in characters.
        after: What stands between it and the next part; ``PARAGRAPH`` for the last.
        pause: Seconds that markup asks for after it, at most ``MOST_PAUSE``; None without markup.
        before: Seconds that markup asks for before the first part; 0 for all others.
    """

    text: str
    start: int
    end: int
    after: Break
    pause: float | None = None
    before: float = 0.0


def pause_after(part: TextPart) -> float:
    """Seconds of silence between a part and the next: what markup asks for, or what stands between them."""
    return part.after.seconds if part.pause is None else part.pause


def split(text: str, longest: int, shortest: int = 0, measure: Callable[[str], int] = len) -> list[TextPart]:
    """Split a text at its pauses, headings, paragraphs, sentences, clauses and words, in this order.

    A part is as few whole sentences of one paragraph as make ``shortest``. Only a sentence that is too long is
    divided. A part is shorter than ``shortest`` only if its paragraph, or what stands between two pauses, is.

    Args:
        text: As a request brings it.
        longest: The most that a part may measure.
        shortest: What a part should measure at least; half of ``longest`` or less.
        measure: Characters of a piece of text once it is in words. Called once or a few times for every sentence;
            what it says of two pieces that are joined should be about the sum.

    Returns:
        The parts in order; none where there is nothing to speak. Between them are only white space, markup and
        marks that nobody speaks.
    """
    raise NotImplementedError
