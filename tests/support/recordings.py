"""Recordings of made-up voices: tones whose pitch, overtones and rhythm follow from a number."""

import base64
import io
from typing import Any

import numpy as np
import soundfile

RATE = 16_000


def recording(number: int, seconds: float = 1.5, *, rate: int = RATE, form: str = "WAV") -> bytes:
    """An audio file in which voice ``number`` hums; equal arguments, equal bytes."""
    rng = np.random.default_rng(number)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 80 * 1.13 ** (number % 16)
    strengths = rng.uniform(0.1, 1, 12)
    tones = sum(
        strength * np.sin(2 * np.pi * pitch * (n + 1) * time + rng.uniform(0, 6)) / (n + 1)
        for n, strength in enumerate(strengths)
    )
    rhythm = 0.6 + 0.4 * np.sin(2 * np.pi * (2 + number % 5) * time)
    samples = 0.2 * tones * rhythm + 0.01 * rng.standard_normal(len(time))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form)
    return file.getvalue()


def reference(number: int, seconds: float = 1.5, **options: Any) -> str:
    """A recording as a request carries it."""
    return base64.b64encode(recording(number, seconds, **options)).decode()
