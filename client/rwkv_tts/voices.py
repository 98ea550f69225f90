"""Stored voices in the RAF format of rwkv-tts-rs: one JSON file a voice, with a checksum."""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

MAX_RAF_BYTES = 1 << 20
"""Of a RAF file; those of real voices have a few thousand."""

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


def load_raf(text: str) -> Voice:
    """Read the text of a RAF file; whether its tokens fit a model is the model's to say.

    Raises:
        VoiceError: It is not a RAF file, or the checksum differs.
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
    check_voice_id(voice.id)
    return voice


def check_voice_id(voice_id: str) -> None:
    """Refuse what cannot be the id of a voice.

    Raises:
        VoiceError: It is not; the message says what is accepted.
    """
    if not VOICE_ID.fullmatch(voice_id):
        raise VoiceError(
            f"voice id {voice_id[:80]!r}: accepted are 1 to 128 letters, digits, '.', '_' and '-', "
            "a letter or digit first"
        )


def read_raf(path: Path) -> str:
    """The text of a file that should be a RAF file, byte for byte, or as much of it as to see that it is too long.

    Raises:
        VoiceError: It is not UTF-8.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_RAF_BYTES + 1)
    return decode_raf(data)


def decode_raf(data: bytes) -> str:
    """The text in the bytes of a RAF file.

    Raises:
        VoiceError: They are too many, or not UTF-8.
    """
    if len(data) > MAX_RAF_BYTES:
        raise VoiceError(f"not a RAF voice file: it is too long; accepted: up to {MAX_RAF_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise VoiceError(f"not a RAF voice file: not UTF-8: {error.reason} at byte {error.start}") from error


def _pretty(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=2, ensure_ascii=False)


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_pretty({**fields, "checksum": ""}).encode()).hexdigest()


LISTED = 20
"""Ids that a message names at most."""


def unknown_voice(voice_id: str, known: Collection[str]) -> VoiceError:
    """The error for an id that there is not, with the first of those there are."""
    shown = ", ".join(list(known)[:LISTED]) or "none is stored"
    more = ", ..." if len(known) > LISTED else ""
    return VoiceError(f"unknown voice {voice_id[:80]!r}; accepted: {shown}{more}")
