"""Lists of texts to speak, as people and other programs write them: JSON requests or plain texts, one a line."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.cli.common import STANDARD_STREAM, CommandError

_LINE_END = re.compile("\r\n|\n|\r")
_ID = re.compile(r"\w[\w.-]{0,99}")
_NUMBERED = re.compile(r"\d{4,}-(?=[0-9a-f]{12}\.)")
_JSON = (".json", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Entry:
    """A line of a list.

    Attributes:
        number: Of the line, from 1.
        key: Its ``id``, or what follows from its content: the same in each run, wherever the line stands.
        stem: Of the name of its file.
        request: The fields of the request.
    """

    number: int
    key: str
    stem: str
    request: Mapping[str, Any]

    @property
    def file(self) -> str:
        """The name of its file without the line's number; ``spoken`` has that, too."""
        return f"{self.key}.{self.request.get('format', 'wav')}"


@dataclass(frozen=True)
class BadLine:
    """A line that is no request, and why."""

    number: int
    reason: str


def read_list(file: Path, fields: Mapping[str, Any]) -> Iterator[Entry | BadLine]:
    """The requests of a list, each different one once.

    JSON is what a name like ``jobs.jsonl`` says, and what begins with ``{`` unless its name ends in ``.txt``.

    Args:
        file: Its path, or ``-``.
        fields: Of the requests that do not say otherwise.

    Raises:
        CommandError: It is in another encoding.
    """
    lines = [line.strip().strip("\ufeff").strip() for line in _LINE_END.split(read_text(file))]
    first = next(filter(None, lines), "")
    as_json = file.suffix in _JSON or (first.startswith("{") and file.suffix != ".txt")
    seen: dict[str, Entry] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            entry = _entry(number, {**fields, **(_object(line) if as_json else {"text": line})})
            other = seen.setdefault(entry.key, entry)
            if other.request != entry.request:
                raise CommandError(f"id: {entry.key!r} is line {other.number}'s; accepted: one for each request")
            if other is entry:
                yield entry
        except (CommandError, ValueError, RecursionError) as error:
            yield BadLine(number, str(error))


def read_text(file: Path) -> str:
    """The content of a file, or of standard input for ``-``, in UTF-8, UTF-16 or UTF-32.

    Only what ends a line in JSON does so here: U+2028 and U+0085 may stand in a text.

    Raises:
        CommandError: It is in another encoding.
        OSError: It cannot be read.
    """
    content = sys.stdin.buffer.read() if file == STANDARD_STREAM else file.read_bytes()
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise CommandError(
            f"{file}: byte {error.start} is not {name} ({error.reason}); accepted: UTF-8, UTF-16 or UTF-32"
        ) from None


def spoken(directory: Path) -> dict[str, Path]:
    """The files of a folder by name, without the numbers of lines before names that follow from content."""
    if not directory.is_dir():
        return {}
    return {_NUMBERED.sub("", path.name): path for path in directory.iterdir()}


def _object(line: str) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise CommandError("request: accepted is a JSON object")
    return value


def _entry(number: int, request: dict[str, Any]) -> Entry:
    given = request.pop("id", None)
    if given is None:
        content = json.dumps(request, sort_keys=True, ensure_ascii=True)
        key = hashlib.sha256(content.encode()).hexdigest()[:12]
        return Entry(number, key, f"{number:04d}-{key}", request)
    key = str(given) if isinstance(given, str | int) else ""
    if not _ID.fullmatch(key):
        raise CommandError(
            "id: accepted: up to 100 letters, digits, '_', '-' and '.', the first one no '-' or '.'"
        )
    return Entry(number, key, key, request)
