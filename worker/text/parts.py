"""A text of any length as the parts that rows speak, and the pauses between them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise, starmap

from worker.text.blocks import BLANK_LINE, ENDED, OPEN, blocks
from worker.text.cuts import Break as Break
from worker.text.cuts import Limits, Measure, Piece, cut
from worker.text.groups import SPOKEN, groups
from worker.text.measure import spoken_length

PAUSES = {
    Break.NONE: 0.0,
    Break.CLAUSE: 0.15,
    Break.SENTENCE: 0.35,
    Break.PARAGRAPH: 0.7,
    Break.HEADING: 0.8,
}
"""Seconds of silence that a listener expects."""

MOST_PAUSE = 10.0
"""Seconds that markup may ask for at one place."""


@dataclass(frozen=True, slots=True)
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
    return PAUSES[part.after] if part.pause is None else part.pause


def split(text: str, longest: int, shortest: int = 0, measure: Measure = spoken_length) -> list[TextPart]:
    """Split a text at its pauses, headings, paragraphs and sentences, and long sentences where it hurts least.

    A part is as few whole sentences of one paragraph as make ``shortest``. Only what is longer than ``longest``
    is cut inside a sentence: between clauses, else words, else characters. A part is shorter than ``shortest``
    only where its paragraph, or what stands between two pauses, is.

    Args:
        text: As a request brings it.
        longest: The most that a part may measure.
        shortest: The least that a part should measure; up to half of ``longest``.
        measure: Length of a piece of text once it is in words. Of two pieces that are joined it should be about
            the sum, and of no piece less than its characters.

    Returns:
        The parts in order; none where there is nothing to speak. Between them are only white space, markup and
        marks that nobody speaks.

    Raises:
        ValueError: The lengths contradict each other.
    """
    if not 0 <= 2 * shortest <= longest or longest < 1:
        raise ValueError(
            f"parts of {shortest} to {longest}; accepted: at most half of the longest as the shortest"
        )
    limits = Limits(longest, shortest, measure)
    parts: list[TextPart] = []
    before = 0.0
    for start, end, pause in _stretches(text):
        pieces = _pieces(text, start, end, limits)
        parts.extend(TextPart(text[it.start : it.end], it.start, it.end, it.after) for it in pieces)
        if parts:
            parts[-1] = replace(parts[-1], pause=_sum(parts[-1].pause, pause))
        else:
            before = _sum(before, pause) or 0.0
    if parts:
        parts[0] = replace(parts[0], before=before)
    return [*starmap(partial(_between, text), pairwise(parts)), *parts[-1:]]


PAUSE = re.compile(r"\[pause: ?(\d{1,5}(?:\.\d{1,3})?) ?(ms|s)\]", re.IGNORECASE)
"""Markup that asks for silence."""


def _stretches(text: str) -> Iterator[tuple[int, int, float | None]]:
    """Start and end of what stands before each pause and after the last, and the seconds of the pause."""
    start = 0
    for markup in PAUSE.finditer(text):
        seconds = float(markup[1]) / (1000 if markup[2].lower() == "ms" else 1)
        if seconds <= MOST_PAUSE:
            yield start, markup.start(), seconds
            start = markup.end()
    yield start, len(text), None


def _sum(pause: float | None, more: float | None) -> float | None:
    return pause if more is None else min((pause or 0.0) + more, MOST_PAUSE)


def _between(text: str, part: TextPart, following: TextPart) -> TextPart:
    """The part with what stands before the next, where a pause ended it in the middle of a paragraph."""
    if part.pause is None or BLANK_LINE.search(PAUSE.sub("", text[part.end : following.start])):
        return part
    return replace(part, after=_end(part.text))


def _end(text: str) -> Break:
    """What the last mark of a text stands for."""
    return (
        Break.SENTENCE
        if ENDED.search(text, len(text) - 9)
        else Break.CLAUSE
        if OPEN.search(text[-1:])
        else Break.NONE
    )


def _pieces(text: str, start: int, end: int, limits: Limits) -> Iterator[Piece]:
    """The pieces of what stands between two pauses."""
    for first, last, heading in blocks(text, start, end):
        cuts = chain.from_iterable(cut(text, span, limits) for span in groups(text, first, last, limits))
        pieces = [piece for piece in cuts if SPOKEN.search(text, piece.start, piece.end)]
        yield from pieces[:-1]
        for piece in pieces[-1:]:
            yield replace(piece, after=Break.HEADING if heading else Break.PARAGRAPH)
