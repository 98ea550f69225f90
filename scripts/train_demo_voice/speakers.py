"""The demo voice's speakers and the attribute levels they are recorded at."""

from dataclasses import dataclass

SAMPLE_RATE = 16_000
HOP = 320
"""Samples per token and per phone label: 20 ms."""


@dataclass(frozen=True)
class Speaker:
    """A voice of the teacher.

    ``voice`` is flite's name for it; ``resample`` multiplies all its frequencies, formants included, so that one
    teacher voice can be several speakers; ``gender`` and ``age`` are names of ``rwkv_tts.attributes``; ``weight``
    is the share of the corpus.
    """

    name: str
    voice: str
    resample: float
    gender: str
    age: str
    weight: float


SPEAKERS: tuple[Speaker, ...] = (
    Speaker("slt", "slt", 1.00, "female", "youth-adult", 0.30),
    Speaker("clara", "slt", 0.92, "female", "middle-aged", 0.20),
    Speaker("awb", "awb", 1.00, "male", "youth-adult", 0.22),
    Speaker("rms", "rms", 1.00, "male", "middle-aged", 0.28),
)

Level = tuple[str, float, float]
"""Name in ``rwkv_tts.attributes``, factor, share of the corpus."""

PITCHES: tuple[Level, ...] = (
    ("low_pitch", 0.80, 0.20),
    ("medium_pitch", 1.00, 0.40),
    ("high_pitch", 1.20, 0.20),
    ("very_high_pitch", 1.42, 0.20),
)
"""Factors of the fundamental frequency."""

SPEEDS: tuple[Level, ...] = (
    ("very_slow", 1.50, 0.10),
    ("slow", 1.22, 0.15),
    ("medium", 1.00, 0.45),
    ("fast", 0.84, 0.17),
    ("very_fast", 0.70, 0.13),
)
"""Factors of the duration."""

PHONES: tuple[str, ...] = (
    *("pau", "aa", "ae", "ah", "ao", "aw", "ax", "axr", "ay", "b", "ch", "d", "dh", "dx", "eh", "el", "em", "en"),
    *("er", "ey", "f", "g", "hh", "hv", "ih", "iy", "jh", "k", "l", "m", "n", "nx", "ng", "ow", "oy", "p", "r"),
    *("s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh"),
)
"""flite's American phones; the corpus stores indices into this. 0 is silence."""
