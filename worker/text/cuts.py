"""Cutting what is too long for one part into pieces of about the same length, where it hurts least."""

import re
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from unicodedata import category

from worker.text.sentences import sentence_ends

Measure = Callable[[str], int]
Span = tuple[int, int]


@dataclass(frozen=True)
class Limits:
    """What a part should measure, and how to measure it."""

    longest: int
    shortest: int
    measure: Measure


class Break(Enum):
    """What stands between a part and the next."""

    NONE = "none"
    """Words of one clause that was too long."""
    CLAUSE = "clause"
    SENTENCE = "sentence"
    PARAGRAPH = "paragraph"
    HEADING = "heading"
    """The part is a heading."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A span of the text, without white space around it, and what stands after it."""

    start: int
    end: int
    after: Break


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cut may be, and the share of a piece's length that it may be off before another is better."""

    at: int
    cost: float
    after: Break


_IN_QUOTES = 0.15
_AHEAD = 24
"""Characters after the longest piece that tell whether a sentence ends with it."""

_NUMERIC = r"[\d$£€¥₹%#]"
_HAN = "\u3041-\u9fff"
_CLOSERS = r"[\"'”’»」』)）\]]*"
_NEXT = rf"(?=[\s\u2010-\u203a\u2e80-\uffef])"
_JOINING = "and|or|but|because|which|that|when|while|where|who|if|as|for|with|until|so|than|in|on|at|to|of"

_CUTS: tuple[tuple[float, Break, re.Pattern[str]], ...] = tuple(
    (cost, after, re.compile(pattern))
    for cost, after, pattern in (
        (
            0.2,
            Break.CLAUSE,
            rf"(?:[;:]|\.{{3}}){_CLOSERS}{_NEXT}|(?:[；…]+|：(?!\d)){_CLOSERS}|[—―]+|\s[-–]+(?=\s)|\n",
        ),
        (0.3, Break.CLAUSE, rf"(?:(?<!\d),|,(?!\s\d)){_CLOSERS}{_NEXT}|[，、]{_CLOSERS}|[)）](?=\s)|(?=[(（])"),
        (0.5, Break.NONE, rf"(?=\s+(?:{_JOINING})\s)"),
        (0.6, Break.NONE, rf"(?<![\d$£€¥₹%#.])(?=\s+(?!{_NUMERIC}))"),
        (0.8, Break.NONE, rf"(?<=[{_HAN}])(?=[{_HAN}A-Za-z])|(?<=[A-Za-z])(?=[{_HAN}])"),
        (1.2, Break.NONE, r"(?<=\S)(?=\s)"),
        (1.5, Break.NONE, r"(?<=[/?&=_.+-])(?=\w)"),
    )
)
"""Between clauses, words, ideographs, then next to numbers and abbreviations, then inside addresses."""

_QUOTES = re.compile(r"[\"“”„«»「」『』()（）\[\]]")
_OPENERS = frozenset("“„«「『(（[")
_DANGLING = re.compile(r"(?:\s+[\"'“‘„«「『(（\[]*|[“„«「『(（\[]+)+$")
"""White space and opening marks at the end of a piece; the marks belong to the next."""


def cut(text: str, span: Span, limits: Limits) -> Iterator[Piece]:
    """The span in pieces that are neither too long nor too short; ``SENTENCE`` stands after the last."""
    start, end = span
    rest = limits.measure(text[start:end])
    while max(rest, end - start) > limits.longest:
        place = _best(text, start, end, rest, limits)
        yield Piece(start, place.at, place.after)
        rest -= limits.measure(text[start : place.at])
        start, _ = trimmed(text, place.at, end)
        if end - start <= 2 * limits.longest:
            rest = limits.measure(text[start:end])
    yield Piece(start, end, Break.SENTENCE)


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without white space around it."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _best(text: str, start: int, end: int, rest: int, limits: Limits) -> Place:
    """Where to cut off the next piece, so that those that follow can be about as long."""
    reach = _reach(text, start, end, limits)
    density = limits.measure(text[start:reach]) / (reach - start)
    target = rest / -(-rest // limits.longest) / density
    low = start + max(limits.shortest / density, 1)
    high = max(min(reach, end - limits.shortest / density - 1), low)
    places = [place for place in _places(text, start, min(reach + _AHEAD, end)) if low <= place.at <= high]
    places.append(_anywhere(text, start, int(min(start + target, high))))
    return min(places, key=lambda place: place.cost + abs(place.at - start - target) / target)


def _reach(text: str, start: int, end: int, limits: Limits) -> int:
    """The last index to which the text is not too long, but at least one character further."""
    low, high = start + 1, min(start + limits.longest, end)
    if limits.measure(text[start:high]) <= limits.longest:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if limits.measure(text[start:middle]) <= limits.longest else (low, middle)
    return low


def _places(text: str, start: int, reach: int) -> Iterator[Place]:
    """Places for cuts in ``text[start:reach]``."""
    depths = _depths(text, start, reach)
    for stop, _ in pairwise(sentence_ends(text, start, reach, quotes=False)):
        yield _place(text, start, stop, 0, Break.SENTENCE, depths)
    for cost, after, pattern in _CUTS:
        for match in pattern.finditer(text, start, reach):
            yield _place(text, start, match.end(), cost, after, depths)


Depths = tuple[list[int], list[int]]


def _place(text: str, start: int, stop: int, cost: float, after: Break, depths: Depths) -> Place:
    dangling = _DANGLING.search(text, start, stop)
    at = stop if dangling is None else dangling.start()
    inside = depths[1][bisect(depths[0], at - 1)]
    return Place(at, cost + _IN_QUOTES * (inside > 0), after)


def _depths(text: str, start: int, reach: int) -> Depths:
    """Indices of quotation marks and brackets, and how many pairs are open before the first and after each."""
    marks, depths = [], [0]
    for mark in _QUOTES.finditer(text, start, reach):
        opens = mark[0] in _OPENERS or (mark[0] == '"' and depths[-1] == 0)
        marks.append(mark.start())
        depths.append(depths[-1] + 1 if opens else max(depths[-1] - 1, 0))
    return marks, depths


def _anywhere(text: str, start: int, at: int) -> Place:
    """A place inside a word, but not before an accent or another mark that changes the letter before it."""
    while at > start + 1 and category(text[at]) in ("Mn", "Mc", "Me", "Cf"):
        at -= 1
    return Place(at, 2.0, Break.NONE)
