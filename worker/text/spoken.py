"""What every language's rules return of a text."""

from dataclasses import dataclass


class UnreadableError(ValueError):
    """A text that rules cannot read; the message names the problem."""


@dataclass(frozen=True)
class Spoken:
    """A text in words.

    Attributes:
        text: The words to speak.
        dropped: Characters that have none and were left out, each once.
        transliterated: Words in other letters that were written in Latin ones, each once.
    """

    text: str
    dropped: str = ""
    transliterated: tuple[str, ...] = ()
