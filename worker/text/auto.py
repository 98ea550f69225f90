"""Text of two languages: Latin clauses and addresses as English, everything else as Chinese."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from worker.text import chinese, english
from worker.text.chinese.addresses import ADDRESS
from worker.text.chinese.characters import HAN
from worker.text.chinese.counters import COUNTER
from worker.text.chinese.quantities import UNITS
from worker.text.spoken import Spoken

Language = Literal["auto", "en", "zh"]

_CHINESE = re.compile(f"[{HAN}\u3001-\u303f\uff01-\uffee]")
_HAN = re.compile(f"[{HAN}]")
_LETTERS = re.compile("[A-Za-z]+")
_FEW = 2
"""Latin words for each ideograph."""

_LATIN = re.compile(r"[ -~\u00c0-\u024f’]{3,}")
_EDGES = " ,;:()[]\"'-"
_WORD = re.compile(r"(?<![\w.-])(?:[A-Za-z][a-z'’]+|[aAI])(?![\w-])")
_SMALL = re.compile(r"(?<![\w.-])[a-z][a-z'’]+(?![\w-])")
_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St)\. ?[A-Z]")
_COUNTED_WORD = re.compile(r"(?<![A-Za-z])\d ?([a-z]{3,})")
_FIRST_NUMBER = re.compile(r"[\d.,]+")
_LAST_NUMBER = re.compile(r"(?<![\w$.])\d[\d.,:]{0,20}$")
_COUNTED = re.compile(rf"[年月号日%]|{COUNTER}")

Span = tuple[int, int]


def is_chinese(text: str) -> bool:
    """Whether a text has more ideographs than Latin words."""
    return len(_HAN.findall(text)) > len(_LETTERS.findall(text))


def _is_english(text: str) -> bool:
    """Whether a text is English with a few ideographs in it."""
    return len(_LETTERS.findall(text)) > _FEW * len(_HAN.findall(text))


def read_aloud(text: str, language: Language = "auto") -> Spoken:
    """The words of a text without markup.

    Args:
        text: Without markup.
        language: Of what the text does not tell: numbers and names without words around them; ``auto`` takes
            that of most words.

    Raises:
        UnreadableError: There is nothing to speak.
    """
    if language != "zh" and not _CHINESE.search(text):
        return english.read_aloud(text)
    pieces: list[Spoken] = []
    names = language == "en" or (language == "auto" and _is_english(text))
    last = 0
    for start, end in _english_spans(text, names):
        clause = english.read_aloud(text[start:end])
        pieces += [chinese.in_words(text[last:start]), replace(clause, text=f" {clause.text} ")]
        last = end
    pieces.append(chinese.in_words(text[last:]))
    return Spoken(
        chinese.joined("".join(piece.text for piece in pieces)),
        "".join(dict.fromkeys(char for piece in pieces for char in piece.dropped)),
        tuple(dict.fromkeys(word for piece in pieces for word in piece.transliterated)),
    )


def _english_spans(text: str, names: bool) -> Iterator[Span]:
    """Addresses, and the clauses between them; names too, where they are English."""
    last = 0
    for address in ADDRESS.finditer(text):
        yield from _clauses(text, last, address.start(), names)
        yield address.span()
        last = address.end()
    yield from _clauses(text, last, len(text), names)


def _clauses(text: str, start: int, end: int, names: bool) -> Iterator[Span]:
    for run in _LATIN.finditer(text, start, end):
        first, last = _trimmed(text, *run.span())
        if _is_clause(text[first:last]) or (names and _LETTERS.search(text, first, last)):
            yield first, last


def _trimmed(text: str, start: int, end: int) -> Span:
    """Without marks around it, and without numbers that belong to the Chinese words beside them."""
    if start and _HAN.match(text, start - 1) and (number := _FIRST_NUMBER.match(text, start, end)):
        start = number.end()
    if _COUNTED.match(text, end) and (number := _LAST_NUMBER.search(text[start:end])):
        end = start + number.start()
    while start < end and text[start] in _EDGES:
        start += 1
    while start < end and text[end - 1] in _EDGES:
        end -= 1
    return start, end


def _is_clause(text: str) -> bool:
    """Whether it is more than a name: words of which at least one is small, or one after a number."""
    counted = _COUNTED_WORD.search(text)
    return (
        (len(_WORD.findall(text)) > 1 and any(word not in UNITS for word in _SMALL.findall(text)))
        or (counted is not None and counted[1] not in UNITS)
        or _TITLE.search(text) is not None
    )
