"""What a model is given to speak: the request's text, or the words that a person would read it as."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.text import auto, chinese, english
from worker.text.auto import Language
from worker.text.edits import Edited
from worker.text.english.letters import check_script
from worker.text.markup import without_markup
from worker.text.parts import PAUSE
from worker.text.spoken import Spoken, UnreadableError
from worker.text.traditional import simplified

Normalizer = Literal["none", "english", "chinese", "auto"]

MOST_SPOKEN = 20_000
"""Characters that a text may have once it is in words."""


class UnspeakableError(ValueError):
    """A text that the model cannot say; one line that names the problem and what is accepted."""


class TextConfig(BaseModel):
    """The part of ``config.json`` about text; the defaults are those of the published models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalizer: Normalizer = "none"
    language: Language = "auto"
    """Of what a text does not tell, with the normalizer auto."""
    traditional: Literal["kept", "folded"] = "kept"
    """Traditional ideographs, where a text is normalized; folded become simplified ones."""
    longest: int | None = Field(default=None, gt=0)
    """Characters (after normalisation) of the longest texts in training; None where it does not matter."""


@dataclass(frozen=True)
class Speakable:
    """Text as it is tokenised, and what the requester should know about it."""

    text: str
    warnings: list[str] = field(default_factory=list)


def speakable(text: str, config: TextConfig) -> Speakable:
    """Normalise a text as its model needs it, markup and all.

    Raises:
        UnspeakableError: The model cannot say it: letters of other scripts, nothing to speak, too long in words.
    """
    plain, emoji = unmarked(text, config)
    return in_words(plain.text if config.normalizer == "none" else PAUSE.sub(", ", plain.text), config, emoji)


def unmarked(text: str, config: TextConfig) -> tuple[Edited, str]:
    """A text without markup and emoji, if its model wants it normalised, and the emoji that were left out.

    Raises:
        UnspeakableError: All its letters are of scripts that its model does not know.
    """
    if config.normalizer == "none":
        return Edited(text), ""
    plain, emoji = without_markup(text)
    if config.normalizer != "english":
        return plain, emoji
    try:
        check_script(plain.text)
    except UnreadableError as error:
        raise UnspeakableError(f"{error}; accepted: {_ACCEPTED[config.normalizer]}") from None
    return plain, emoji


def in_words(text: str, config: TextConfig, emoji: str = "") -> Speakable:
    """Normalise a text that has no markup.

    Args:
        text: As ``unmarked`` returns it.
        config: What its model needs.
        emoji: What was left out of it already.

    Raises:
        UnspeakableError: As for ``speakable``.
    """
    warnings = []
    if config.normalizer != "none":
        spoken = _read_aloud(text, config)
        text = spoken.text
        if emoji + spoken.dropped:
            warnings.append(left_out(emoji + spoken.dropped))
        if spoken.transliterated:
            warnings.append(f"words in other letters were read as Latin ones: {_shown(spoken.transliterated)}")
    if config.longest is not None and len(text) > config.longest:
        warnings.append(
            f"{len(text)} characters; this model was trained on up to {config.longest}, words may get lost; "
            "shorter texts are safer"
        )
    return Speakable(text, warnings)


_ACCEPTED: Mapping[Normalizer, str] = {
    "english": "English text in Latin letters",
    "chinese": "Chinese text, with or without Latin words",
    "auto": "Chinese or English text",
}


def _read_aloud(text: str, config: TextConfig) -> Spoken:
    if config.traditional == "folded" and config.normalizer != "english":
        text = simplified(text)
    try:
        if config.normalizer == "english":
            spoken = english.read_aloud(text)
        elif config.normalizer == "chinese":
            spoken = chinese.read_aloud(text)
        else:
            spoken = auto.read_aloud(text, config.language)
    except UnreadableError as error:
        raise UnspeakableError(f"{error}; accepted: {_ACCEPTED[config.normalizer]}") from None
    if len(spoken.text) > MOST_SPOKEN:
        raise UnspeakableError(
            f"{len(spoken.text)} characters once numbers and symbols are words; accepted: up to {MOST_SPOKEN}"
        )
    return spoken


def left_out(characters: str) -> str:
    """A warning that names characters."""
    return f"characters that cannot be spoken were left out: {_shown(characters)}"


def _shown(pieces: Iterable[str]) -> str:
    return " ".join(piece[:20] if piece.isprintable() else f"U+{ord(piece[0]):04X}" for piece in [*pieces][:20])
