"""Which neighbouring sentences of a paragraph are spoken together, so that none is too short for its model."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from worker.text.cuts import Limits, Span, trimmed
from worker.text.sentences import sentence_ends

SPOKEN = re.compile(r"[^\W_]|[%&@$£€¥₹°×÷±≈∞≤≥≠]")
"""Letters, digits and signs that have a name; what has none of them is not spoken."""


@dataclass(frozen=True, slots=True)
class _Group:
    span: Span
    length: int
    spoken: bool

    def __add__(self, other: "_Group") -> "_Group":
        (start, end), (following, last) = self.span, other.span
        return _Group((start, last), self.length + following - end + other.length, self.spoken or other.spoken)


def groups(text: str, start: int, end: int, limits: Limits) -> Iterator[Span]:
    """Spans of the paragraph ``text[start:end]``, each of as few sentences as make ``limits.shortest``.

    Some are too long: a long sentence, or one that has to share with a short neighbour.
    """
    found: list[_Group] = []
    for stop in sentence_ends(text, start, end):
        span = trimmed(text, start, stop)
        if span[0] < span[1]:
            sentence = text[span[0] : span[1]]
            _add(found, _Group(span, limits.measure(sentence), SPOKEN.search(sentence) is not None), limits)
        start = stop
    if len(found) > 1 and _short(found[-1], limits):
        found[-2:] = [found[-2] + found[-1]]
    return (group.span for group in found)


def _add(found: list[_Group], sentence: _Group, limits: Limits) -> None:
    """A sentence joins a short group; if both are too long together, the short one joins the group before it."""
    if not found or (sentence.spoken and not _short(found[-1], limits)):
        found.append(sentence)
    elif (found[-1] + sentence).length <= limits.longest or len(found) == 1 or not sentence.spoken:
        found[-1] += sentence
    elif (found[-2] + found[-1]).length <= limits.longest:
        found[-2:] = [found[-2] + found[-1], sentence]
    else:
        found[-1] += sentence


def _short(group: _Group, limits: Limits) -> bool:
    return group.length < limits.shortest or not group.spoken
