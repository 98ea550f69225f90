"""Voice attributes of normal mode and their control tokens (SPCT numbers of the published checkpoints)."""

from collections.abc import Mapping
from dataclasses import dataclass

AGE: Mapping[str, int] = {"child": 13, "teenager": 14, "youth-adult": 15, "middle-aged": 16, "elderly": 17}
GENDER: Mapping[str, int] = {"female": 46, "male": 47}
_EMOTIONS = (
    "unknown neutral angry happy sad fearful disgusted surprised sarcastic excited sleepy confused emphasis "
    "laughing singing worried whisper anxious no-agreement apologetic concerned enunciated assertive encouraging "
    "contempt"
)
EMOTION: Mapping[str, int] = dict(zip(_EMOTIONS.split(" "), range(21, 46), strict=True))
PITCH: Mapping[str, int] = {"low_pitch": 6, "medium_pitch": 7, "high_pitch": 8, "very_high_pitch": 9}
SPEED: Mapping[str, int] = {"very_slow": 1, "slow": 2, "medium": 3, "fast": 4, "very_fast": 5}

ATTRIBUTES: Mapping[str, Mapping[str, int]] = {
    "age": AGE,
    "gender": GENDER,
    "emotion": EMOTION,
    "pitch": PITCH,
    "speed": SPEED,
}


@dataclass(frozen=True)
class Attributes:
    """A voice described in words; every name is one of the tables above."""

    age: str = "youth-adult"
    gender: str = "female"
    emotion: str = "neutral"
    pitch: str = "medium_pitch"
    speed: str = "medium"

    def control_numbers(self) -> list[int]:
        """The SPCT numbers in prompt order: SPCT_0, age, gender, emotion, pitch, speed."""
        return [0, *(table[getattr(self, name)] for name, table in ATTRIBUTES.items())]


def canonical_attribute(name: str, value: str) -> str:
    """Return the table's own spelling of ``value``; matching ignores case.

    Raises:
        ValueError: ``value`` is not one of the attribute's names; the message lists them.
    """
    key = value.strip().lower()
    table = ATTRIBUTES[name]
    if key in table:
        return key
    raise ValueError(f"unknown {name} {value!r}; accepted: {', '.join(table)}")
