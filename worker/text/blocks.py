"""Paragraphs and headings of a text, by its lines."""

import re
from collections.abc import Iterator
from itertools import pairwise

BLANK_LINE = re.compile(r"\n\s*\n|\n(?=\u3000)")
"""What separates paragraphs; Chinese books indent instead."""

ENDED = re.compile(r"[.!?。！？…][\"'”’」』》）)\]]*\s*$")
OPEN = re.compile(r"[,;:，；：、—–-]\s*$")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_CHINESE_END = re.compile(r"[。！？…][”」』）]*\s*$")
_LONGEST_WRAPPED = 120
"""Nobody wraps lines by hand at more characters than that."""

_LONGEST_HEADING = 80
_SENTENCES = re.compile(r"[。！？\n]|[.?!]\"? .*[.?!]")
_LONGEST_WORD, _LONGEST_END = 40, 9

Span = tuple[int, int]
Block = tuple[int, int, bool]


def blocks(text: str, start: int, end: int) -> Iterator[Block]:
    """Start, end and whether it is a heading, of each paragraph in ``text[start:end]``."""
    paragraphs = list(_paragraphs(text, start, end))
    for at, (first, last) in enumerate(paragraphs, start=1):
        yield from _unwrapped(text, first, last, followed=at < len(paragraphs))


def _paragraphs(text: str, start: int, end: int) -> Iterator[Span]:
    for blank in BLANK_LINE.finditer(text, start, end):
        if text[start : blank.start()].strip():
            yield start, blank.start()
            start = blank.end()
    if text[start:end].strip():
        yield start, end


def _unwrapped(text: str, start: int, end: int, *, followed: bool) -> Iterator[Block]:
    """A paragraph in pieces, where the end of a line is the end of a paragraph or of a heading, too."""
    if "\n" not in text[start:end]:
        yield start, end, followed and _is_heading(text[start:end])
        return
    lines = [line.span() for line in _LINE.finditer(text, start, end)]
    width = max(last - first for first, last in lines)
    first = begin = lines[0][0]
    for (begin, stop), (following, _) in pairwise(lines):
        if not _on_purpose(text[begin:stop], text[following : following + _LONGEST_WORD], width):
            continue
        heading = begin == first and _is_heading(text[begin:stop])
        if heading or ENDED.search(text, max(begin, stop - _LONGEST_END), stop):
            yield first, stop, heading
            first = following
    yield first, end, followed and _is_heading(text[first:end])


def _on_purpose(line: str, following: str, width: int) -> bool:
    """Whether a line ends though the next word would have fitted, or where nobody would have wrapped it."""
    word = next(iter(following.split()), "")
    fits = len(line) + 1 + len(word) <= width
    chosen = fits or len(line) > _LONGEST_WRAPPED or _CHINESE_END.search(line[-_LONGEST_END:]) is not None
    return chosen and not word[:1].islower()


def _is_heading(line: str) -> bool:
    """Whether it is one short line without a mark at its end."""
    line = line.strip()
    return len(line) <= _LONGEST_HEADING and not (
        _SENTENCES.search(line) or ENDED.search(line) or OPEN.search(line)
    )
