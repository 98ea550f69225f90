"""Voices kept in Redis, where all workers and producers of it see them at once.

They lie in one hash, from id to the text of a RAF file as it came, so that an export is byte-identical. Every
change is one atomic step: of several that want one name, one gets it and the others are told.
"""

import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from typing import cast

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from rwkv_tts.keys import VOICES_KEY, tokens_key
from rwkv_tts.voices import (
    LISTED,
    MAX_RAF_BYTES,
    Voice,
    VoiceError,
    check_voice_id,
    decode_raf,
    dump_raf,
    load_raf,
    unknown_voice,
)

OF_JOB = "job:"
"""``job:<job id>`` is the voice of a finished job; no kept voice has such an id."""

_AT_ONCE = 100
_READ = files(__package__).joinpath("lua/voices.lua").read_text()

_Read = bytes | int
"""What lies under an id, or its length where that is more than a RAF file has."""


class VoiceTokens(BaseModel):
    """What a worker stores with a finished job so that its voice can be kept.

    Attributes:
        globals: The voice, raw ids.
        semantic: Of the speech that ``text`` is the transcript of, raw ids; 50 a second.
        text: Empty when no transcript is known.
        seconds: Length of that speech.
        sample_rate: Of the codec, Hz.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    globals: list[int]
    semantic: list[int]
    text: str
    seconds: FiniteFloat
    sample_rate: int


class VoiceStore:
    """The voices of one Redis; safe to use from several threads and processes.

    Args:
        connection: Redis; replies must not be decoded.

    Form and checksum of a voice are checked here, its tokens by a worker when the voice is used.

    All methods raise ``redis.exceptions.RedisError`` when Redis is away.
    """

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def add(self, voice: str | Voice) -> Voice:
        """Add a voice under its id; the text of a RAF file is kept byte for byte.

        Raises:
            VoiceError: It is not a RAF file, or there is a voice of that id.
        """
        text = dump_raf(voice.model_dump()) if isinstance(voice, Voice) else voice
        added = _load(_encode(text))
        if not self._connection.hsetnx(VOICES_KEY, added.id, _encode(text)):
            raise _taken(added.id)
        return added

    def check_free(self, voice_id: str) -> None:
        """Refuse an id that is taken now.

        Raises:
            VoiceError: It is.
        """
        if self._connection.hexists(VOICES_KEY, _key(voice_id)):
            raise _taken(voice_id)

    def find(self, voice_id: str) -> Voice | None:
        """The voice of an id, or None.

        Raises:
            VoiceError: It is there, but cannot be used.
        """
        return self.fetch([voice_id]).find(voice_id)

    def fetch(self, voice_ids: Iterable[str]) -> "FetchedVoices":
        """What is kept under these ids at this moment, in one round trip, and in another what jobs have made."""
        wanted = sorted(set(voice_ids))
        ids = [one for one in wanted if not one.startswith(OF_JOB)]
        files = zip(ids, self._read(ids), strict=True)
        found = {voice_id: self._judged(voice_id, data) for voice_id, data in files}
        return FetchedVoices(self, found | self._of_jobs([one for one in wanted if one.startswith(OF_JOB)]))

    def get(self, voice_id: str) -> Voice:
        """The voice of an id.

        Raises:
            VoiceError: There is none, and the message lists those there are; or it cannot be used.
        """
        return self._load_as(voice_id, self._read_known(voice_id))

    def text(self, voice_id: str) -> str:
        """The RAF file of a voice, byte for byte as it was added.

        Raises:
            VoiceError: There is none, and the message lists those there are; or it cannot be used.
        """
        data = self._read_known(voice_id)
        self._load_as(voice_id, data)
        return cast("bytes", data).decode()

    def ids(self) -> list[str]:
        """The ids of all voices, sorted."""
        return sorted(_decode(key) for key in cast("list[bytes]", self._connection.hkeys(VOICES_KEY)))

    def some_ids(self, count: int) -> list[str]:
        """Up to ``count`` ids, sorted: any of them when there are more."""
        keys = cast("list[bytes] | None", self._connection.hrandfield(VOICES_KEY, count))
        return sorted(_decode(key) for key in keys or ())

    def list(self) -> "list[Voice]":
        """All voices that can be used, by id; one that was removed meanwhile is left out."""
        return list(self._usable())

    def rename(self, old: str, new: str) -> Voice:
        """Give a voice another id, and another name where the name was the id.

        Raises:
            VoiceError: There is no voice ``old``, there is one named ``new``, or ``new`` cannot be an id.
        """
        check_voice_id(new)

        def move(pipeline: Pipeline) -> Voice:
            (data,) = _read_from(pipeline, [old])  # at once: the pipeline watches
            taken = pipeline.hexists(VOICES_KEY, new)
            if data is None:
                raise self._unknown(old)
            if taken:
                raise _taken(new)
            voice = self._load_as(old, data)
            name = new if voice.name == old else voice.name
            text = dump_raf({**voice.model_dump(), "id": new, "name": name})
            renamed = _load(_encode(text))
            pipeline.multi()
            pipeline.hdel(VOICES_KEY, old)
            pipeline.hset(VOICES_KEY, new, text)
            return renamed

        moved = self._connection.transaction(move, VOICES_KEY, value_from_callable=True)  # type: ignore[arg-type]
        return cast("Voice", moved)

    def remove(self, voice_id: str) -> None:
        """Remove a voice; requests that already run are not touched.

        Raises:
            VoiceError: There is none; the message lists those there are.
        """
        if not self._connection.hdel(VOICES_KEY, _key(voice_id)):
            raise self._unknown(voice_id)

    def keep(self, job_id: str, name: str) -> Voice:
        """Add the voice of a finished job; of one with a reference, the reference's.

        Raises:
            VoiceError: ``name`` cannot be an id or is taken, or the job has nothing to keep (any more).
        """
        check_voice_id(name)
        data = cast("bytes | None", self._connection.get(tokens_key(job_id)))
        return self.add(kept_voice(name, _tokens(job_id, data)))

    def _read(self, voice_ids: Sequence[str]) -> Sequence[_Read | None]:
        if not voice_ids:
            return []
        try:
            return _read_from(self._connection, voice_ids)
        except ResponseError as error:  # no use in trying again: no permission, or no hash
            raise VoiceError(f"kept voices cannot be read: {error}") from error

    def _read_known(self, voice_id: str) -> _Read:
        (data,) = self._read([voice_id])
        if data is None:
            raise self._unknown(voice_id)
        return data

    def _load_as(self, voice_id: str, data: _Read) -> Voice:
        """Load what lies under an id; somebody else may have written it there."""
        if isinstance(data, int):
            raise VoiceError(
                f"kept voice {voice_id!r}: too long: {data} bytes; accepted: up to {MAX_RAF_BYTES} bytes"
            )
        try:
            voice = _load(data)
        except VoiceError as error:
            raise VoiceError(f"kept voice {voice_id!r}: {error}") from error
        if voice.id != voice_id:
            raise VoiceError(f"kept voice {voice_id!r}: its file says {voice.id!r}")
        return voice

    def _judged(self, voice_id: str, data: _Read | None) -> Voice | VoiceError | None:
        """What lies under an id; an error where it cannot be used."""
        try:
            return None if data is None else self._load_as(voice_id, data)
        except VoiceError as error:
            return error

    def _of_jobs(self, voice_ids: Sequence[str]) -> dict[str, Voice | VoiceError | None]:
        """The voices of finished jobs; an error where there is none (any more)."""
        if not voice_ids:
            return {}
        job_ids = [voice_id.removeprefix(OF_JOB) for voice_id in voice_ids]
        data = cast(
            "list[bytes | None]", self._connection.mget([tokens_key(_key(one).decode()) for one in job_ids])
        )
        return {OF_JOB + one: _voice_of(one, tokens) for one, tokens in zip(job_ids, data, strict=True)}

    def _usable(self) -> Iterator[Voice]:
        ids = self.ids()
        for i in range(0, len(ids), _AT_ONCE):
            some = ids[i : i + _AT_ONCE]
            for voice_id, data in zip(some, _read_from(self._connection, some), strict=True):
                with suppress(VoiceError):
                    if data is not None:
                        yield self._load_as(voice_id, data)

    def _unknown(self, voice_id: str) -> VoiceError:
        return unknown_voice(voice_id, self.some_ids(LISTED + 1))


def _read_from(connection: Redis, voice_ids: Sequence[str]) -> list[_Read | None]:
    """What lies under ids, in one call; nothing is sent of what is too long."""
    call = (_READ, 1, VOICES_KEY, MAX_RAF_BYTES, *map(_key, voice_ids))
    return cast("list[_Read | None]", connection.eval_ro(*call))  # type: ignore[arg-type]


class FetchedVoices:
    """What was kept under some ids at one moment; other ids are asked for when they are wanted.

    Args:
        store: Where they come from.
        found: Each id's voice, why it cannot be used, or None.
    """

    def __init__(self, store: VoiceStore, found: Mapping[str, Voice | VoiceError | None]) -> None:
        self._store, self._found = store, found
        self.some_ids = lru_cache(store.some_ids)

    def find(self, voice_id: str) -> Voice | None:
        """As ``VoiceStore.find``."""
        found = self._found[voice_id] if voice_id in self._found else self._store.find(voice_id)
        if isinstance(found, VoiceError):
            raise found
        return found


def _tokens(job_id: str, data: bytes | None) -> VoiceTokens:
    """What a worker has stored of a job's voice."""
    if data is None:
        raise VoiceError(
            f"job {job_id[:80]!r}: its voice is not there; accepted: a finished job whose result has not expired"
        )
    try:
        return VoiceTokens.model_validate_json(data)
    except ValidationError as error:
        raise VoiceError(f"job {job_id[:80]!r}: its voice is not readable: {_first(error)}") from error


def _voice_of(job_id: str, data: bytes | None) -> Voice | VoiceError:
    try:
        return kept_voice(job_id, _tokens(job_id, data))
    except VoiceError as error:
        return error


def _load(data: bytes) -> Voice:
    return load_raf(decode_raf(data))


def kept_voice(name: str, tokens: VoiceTokens) -> Voice:
    """A voice from a job's tokens, as rwkv-tts-rs would write it: its loader computes the checksum anew."""
    fields = {
        "id": name,
        "name": name,
        "prompt_text": tokens.text,
        "created_at": _timestamp(time.time_ns()),
        "global_tokens": tokens.globals,
        "semantic_tokens": tokens.semantic,
        "audio_duration": _shortest_float32(tokens.seconds),
        "sample_rate": tokens.sample_rate,
    }
    return load_raf(dump_raf(fields))


def _shortest_float32(number: float) -> float:
    """The number with the fewest digits that its float32, which Rust keeps, cannot tell from it."""
    (single,) = struct.unpack("f", struct.pack("f", number))
    candidates = (float(f"{single:.{digits}g}") for digits in range(1, 10))
    return next(one for one in candidates if struct.pack("f", one) == struct.pack("f", single))


def _timestamp(nanoseconds: int) -> str:
    """UTC as Rust's chrono writes it: with a fraction of 0, 3, 6 or 9 digits, the fewest that hold it."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    digits = re.sub(r"(000){1,3}$", "", f"{fraction:09d}")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{moment}{'.' if digits else ''}{digits}Z"


def _key(voice_id: str) -> bytes:
    return voice_id.encode(errors="replace")  # a lone surrogate becomes '?', which no id has


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise VoiceError(f"not a RAF voice file: not Unicode: {error.reason}") from error


def _decode(key: bytes) -> str:
    return key.decode(errors="replace")


def _taken(voice_id: str) -> VoiceError:
    return VoiceError(
        f"voice id {voice_id!r}: there is one already; accepted: another id, or remove that one first"
    )


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
