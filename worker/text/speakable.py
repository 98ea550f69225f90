"""What a model is given to speak: the request's text, or the words that a person would read it as."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.text.characters import UnreadableError
from worker.text.english import read_aloud

MOST_SPOKEN = 20_000
"""Characters that a text may have once it is in words."""


class UnspeakableError(ValueError):
    """A text that the model cannot say; one line that names the problem and what is accepted."""


class TextConfig(BaseModel):
    """The part of ``config.json`` about text; the defaults are those of the published models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalizer: Literal["none", "english"] = "none"
    longest: int | None = Field(default=None, gt=0)
    """Characters (after normalisation) of the longest texts in training; None where it does not matter."""


@dataclass(frozen=True)
class Speakable:
    """Text as it is tokenised, and what the requester should know about it."""

    text: str
    warnings: list[str] = field(default_factory=list)


def speakable(text: str, config: TextConfig) -> Speakable:
    """Normalise a request's text as its model needs it.

    Raises:
        UnspeakableError: The model cannot say it: letters of other scripts, nothing to speak, too long in words.
    """
    warnings = []
    if config.normalizer == "english":
        text, dropped = _english(text)
        if dropped:
            warnings.append(f"characters that cannot be spoken were left out: {dropped}")
    if config.longest is not None and len(text) > config.longest:
        warnings.append(
            f"{len(text)} characters; this model was trained on up to {config.longest}, words may get lost; "
            "shorter texts are safer"
        )
    return Speakable(text, warnings)


def _english(text: str) -> tuple[str, str]:
    """The text in words, and the characters that were dropped, for people."""
    try:
        spoken, dropped = read_aloud(text)
    except UnreadableError as error:
        raise UnspeakableError(f"{error}; accepted: English text in Latin letters") from None
    if len(spoken) > MOST_SPOKEN:
        raise UnspeakableError(
            f"{len(spoken)} characters once numbers and symbols are words; accepted: up to {MOST_SPOKEN}"
        )
    return spoken, " ".join(char if char.isprintable() else f"U+{ord(char):04X}" for char in dropped[:20])
