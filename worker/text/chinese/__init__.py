"""Chinese text, with Latin words inside, as a careful Mandarin speaker reads it aloud.

Each module has ordered tables of patterns and their words, for one kind of writing; their order is here. Every
repetition in a pattern is bounded or anchored, so that the time stays linear in the text.
"""

import re
from dataclasses import replace

from worker.text.chinese.addresses import ADDRESSES
from worker.text.chinese.characters import HAN, as_written, fold
from worker.text.chinese.dates import DATES
from worker.text.chinese.marks import MARKS, tidy
from worker.text.chinese.names import IDIOMS, NAMES, NUMBERS
from worker.text.chinese.phones import PHONES
from worker.text.chinese.quantities import QUANTITIES
from worker.text.chinese.signs import SCORES, SIGNS
from worker.text.rules import apply
from worker.text.spoken import Spoken, UnreadableError


def read_aloud(text: str) -> Spoken:
    """The words of a text without markup.

    Raises:
        UnreadableError: There is nothing to speak.
    """
    words = in_words(text)
    return replace(words, text=joined(words.text))


def in_words(text: str) -> Spoken:
    """The same for a piece of a text, its blanks and marks as they come."""
    folded = fold(text)
    return replace(folded, text=as_written(apply(RULES, folded.text), text))


def joined(words: str) -> str:
    """Words with the blanks and marks that belong between them.

    Raises:
        UnreadableError: There is nothing to speak.
    """
    words = tidy(words)
    if not _SPOKEN.search(words):
        raise UnreadableError("nothing to speak")
    return words


_SPOKEN = re.compile(f"[A-Za-z{HAN}]")
RULES = (
    *ADDRESSES,
    *SCORES,
    *PHONES,
    *DATES,
    *IDIOMS,
    *QUANTITIES,
    *SIGNS,
    *NAMES,
    *NUMBERS,
    *MARKS,
)
