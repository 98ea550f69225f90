"""Stored voices in the RAF format of rwkv-tts-rs: one JSON file a voice, with a checksum."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from sampler.layout import TokenLayout

if TYPE_CHECKING:
    from rwkv_tts.voice_store import VoiceStore

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


def load_raf(text: str, layout: TokenLayout | None) -> Voice:
    """Read a RAF file.

    Args:
        text: Of the file.
        layout: What the tokens must fit; None where no model is at hand.

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
    check_voice_id(voice.id)
    if layout is not None:
        _check_tokens(voice, layout)
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


def _check_tokens(voice: Voice, layout: TokenLayout) -> None:
    tokens = voice.global_tokens
    if len(tokens) != layout.globals_per_voice or not all(0 <= t < layout.global_size for t in tokens):
        raise VoiceError(
            f"voice {voice.id!r}: global_tokens must be {layout.globals_per_voice} values "
            f"in 0..{layout.global_size - 1}"
        )
    if not all(0 <= t < layout.semantic_size for t in voice.semantic_tokens):
        raise VoiceError(f"voice {voice.id!r}: semantic_tokens must be in 0..{layout.semantic_size - 1}")


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
                voice = load_raf(read_raf(path), layout)
            except VoiceError as error:
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
            raise unknown_voice(voice_id, self._voices)
        return self._voices[voice_id]


class Voices:
    """All voices that a worker knows: those kept in Redis, which have precedence, and its model directory's.

    A voice is looked up in Redis each time, so a new, renamed or removed one counts at once.

    Args:
        library: Those of the model directory, which iterating gives.
        store: None without Redis.
    """

    def __init__(self, library: Iterable[Voice], store: "VoiceStore | None" = None) -> None:
        self._own = {voice.id: voice for voice in library}
        self._store = store

    def __iter__(self) -> Iterator[Voice]:
        return iter(self._own.values())

    def get(self, voice_id: str) -> Voice:
        """Look a voice up by id.

        Raises:
            VoiceError: There is none, and the message lists those there are; or the one there is cannot be used.
            redis.exceptions.RedisError: Redis is away.
        """
        voice = (self._store and self._store.find(voice_id)) or self._own.get(voice_id)
        if voice is None:
            kept = self._store.some_ids(_LISTED + 1) if self._store else []
            raise unknown_voice(voice_id, dict.fromkeys([*self._own, *kept]))
        return voice


_LISTED = 20


def unknown_voice(voice_id: str, known: Collection[str]) -> VoiceError:
    """The error for an id that there is not, with the first of those there are."""
    shown = ", ".join(list(known)[:_LISTED]) or "none is stored"
    more = ", ..." if len(known) > _LISTED else ""
    return VoiceError(f"unknown voice {voice_id[:80]!r}; accepted: {shown}{more}")
