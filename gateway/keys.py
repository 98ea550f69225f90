"""API keys: a file with a line for each, which holds its name, its digest and what it may.

    # name  SHA-256 of the key                                                rights
    shop    2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
    studio  fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9  voices

A key is 32 random bytes, so that a plain digest hides it as well as a slow one would.
"""

import hashlib
import logging
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

VOICES = "voices"
"""The right to add and remove voices."""

logger = logging.getLogger("gateway")

_LOOK_SECONDS = 1.0
_LINE = re.compile(rf"(?P<name>[\w.-]{{1,64}})\s+(?P<digest>[0-9a-f]{{64}})(?:\s+(?P<right>{VOICES}))?", re.ASCII)


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: Of the key.
        voices: Whether voices may be added and removed.
    """

    name: str
    voices: bool = False


class KeyFile:
    """The keys of a file, which is read again when it, or what it is a link to, has changed.

    Whether it has is looked at when a key is asked for, once a second at most: that needs no signal, which secrets
    that are mounted could not send, and follows links, which such secrets often are. What cannot be read changes
    nothing, and is told once.

    Args:
        path: Of the file.

    Raises:
        ValueError: It cannot be read, or a line is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._look_at = path, _state(path), time.monotonic() + _LOOK_SECONDS
        self._callers = read_keys(path)

    def caller(self, key: str) -> Caller | None:
        """Whose key it is, if anybody's."""
        if time.monotonic() >= self._look_at:
            self._look()
        return self._callers.get(digest(key))

    def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_SECONDS
        state = _state(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._callers = read_keys(self._path)
        except ValueError as error:
            logger.warning("%s; the keys from before stay", error)
        else:
            logger.info("keys: %s: %d keys from now on", self._path, len(self._callers))


def _state(path: Path) -> tuple[int, ...]:
    """What changes with the content of a file; nothing where there is none."""
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size


def digest(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def new_key(name: str, *, voices: bool) -> tuple[str, str]:
    """A new key, and the line for it."""
    key = f"rt-{secrets.token_urlsafe(32)}"
    return key, " ".join([name, digest(key), *([VOICES] if voices else [])])


def read_keys(path: Path) -> dict[str, Caller]:
    """The callers of a file, by the digest of their key.

    Raises:
        ValueError: It cannot be read, or a line is wrong; the message does not quote it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"keys: {path}: {reason}; accepted: a file with a line for each key") from None
    callers = {}
    for number, line in enumerate(lines, start=1):
        if text := line.partition("#")[0].strip():
            found = _LINE.fullmatch(text)
            if found is None:
                raise ValueError(f"keys: {path}, line {number}: accepted: NAME SHA256, or NAME SHA256 {VOICES}")
            callers[found["digest"]] = Caller(found["name"], voices=found["right"] is not None)
    return callers
