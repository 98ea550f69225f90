"""Stored voices in the RAF format of rwkv-tts-rs: one JSON file a voice, with a checksum."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from sampler.layout import TokenLayout

VOICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a voice id may look like: it can name no other folder."""


class VoiceError(ValueError):
    """A voice cannot be used; the message says which and why."""


class Voice(BaseModel):
    """A RAF file. The checksum covers its text with an empty checksum, key order and numbers as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    prompt_text: str
    created_at: str
    global_tokens: list[int]
    semantic_tokens: list[int]
    audio_duration: FiniteFloat
    sample_rate: int
    checksum: str = ""


def dump_raf(fields: dict[str, Any]) -> str:
    """The text of a RAF file, with its checksum computed: two spaces, UTF-8, one array element a line."""
    return _pretty({**fields, "checksum": _checksum(fields)})


def load_raf(text: str, layout: TokenLayout) -> Voice:
    """Read a RAF file.

    Raises:
        VoiceError: The text is not a RAF file, the checksum differs, or the tokens do not fit the layout.
    """
    try:
        fields = json.loads(text)
        voice = Voice.model_validate(fields)
        intact = voice.checksum == _checksum(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(repr(part) for part in first["loc"]) or "the file"
        raise VoiceError(f"not a RAF voice file: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise VoiceError(f"not a RAF voice file: {error}") from error
    if not intact:
        raise VoiceError(f"voice {voice.id!r}: the checksum does not match the content")
    if not VOICE_ID.fullmatch(voice.id):
        raise VoiceError(f"voice id {voice.id!r}: accepted are letters, digits, '.', '_' and '-'")
    tokens = voice.global_tokens
    if len(tokens) != layout.globals_per_voice or not all(0 <= t < layout.global_size for t in tokens):
        raise VoiceError(
            f"voice {voice.id!r}: global_tokens must be {layout.globals_per_voice} values "
            f"in 0..{layout.global_size - 1}"
        )
    if not all(0 <= t < layout.semantic_size for t in voice.semantic_tokens):
        raise VoiceError(f"voice {voice.id!r}: semantic_tokens must be in 0..{layout.semantic_size - 1}")
    return voice


def _pretty(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=2, ensure_ascii=False)


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_pretty({**fields, "checksum": ""}).encode()).hexdigest()


class VoiceLibrary:
    """The voices of a model directory, by id."""

    def __init__(self, voices: dict[str, Voice]) -> None:
        self._voices = voices

    @classmethod
    def load(cls, directory: Path, layout: TokenLayout) -> "VoiceLibrary":
        """Read every ``*.raf.json`` of a directory, which may be absent.

        Raises:
            VoiceError: A file cannot be used; the message names it.
        """
        voices: dict[str, Voice] = {}
        for path in sorted(directory.glob("*.raf.json")):
            try:
                voice = load_raf(path.read_text(encoding="utf-8"), layout)
            except (VoiceError, UnicodeDecodeError) as error:
                raise VoiceError(f"{path.name}: {error}") from error
            if voice.id in voices:
                raise VoiceError(f"{path.name}: another file has a voice {voice.id!r}, too")
            voices[voice.id] = voice
        return cls(voices)

    def __iter__(self) -> Iterator[Voice]:
        return iter(self._voices.values())

    def get(self, voice_id: str) -> Voice:
        """Look a voice up by id.

        Raises:
            VoiceError: There is none; the message lists those there are.
        """
        if voice_id not in self._voices:
            known = ", ".join(self._voices) or "none is stored"
            raise VoiceError(f"unknown voice {voice_id[:80]!r}; accepted: {known}")
        return self._voices[voice_id]
