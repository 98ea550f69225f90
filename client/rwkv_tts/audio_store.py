"""Audio outside Redis: in S3, Google Cloud Storage, Azure or a folder, an object for each execution of a job.

Nothing but what lies directly under the URL that the store was opened with is ever touched, whatever an address
says. Credentials and endpoints come from the environment, as obstore reads them. Needs the extra ``store``.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from rwkv_tts.schema import AudioFormat

if TYPE_CHECKING:
    from obstore.store import ObjectStore

REDIS = "redis"
"""What stands for no store: audio lies in Redis, beside its result."""

ACCEPTED = "redis, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
LONGEST_JOB_ID = 128
"""Characters; names of files have a limit."""

_NAME = re.compile(rf"([\w-]{{1,{LONGEST_JOB_ID}}})-[0-9a-f]{{32}}\.([a-z0-9]{{3,4}})", re.ASCII)
_PARTIAL = re.compile(rf"{_NAME.pattern}#\d+", re.ASCII)
"""A file of a folder that obstore has not yet finished; it lists none of them."""

_QUERY = re.compile(r"\?\S+")
"""Of a URL in a message: it may hold a signature."""

_PROBE = "rwkv-tts-probe"
_RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
_LONGEST = "1 min"
"""A request with its body, if the environment does not say otherwise."""

_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_CONNECTION = ("allow_http", "allow_invalid_certificates", "timeout", "connect_timeout", "proxy_url")
"""Options that obstore takes from the environment only as long as it is given none of them."""

_MEDIA_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
    "pcm": "application/octet-stream",
}
_SHOWN = 300


class StoreError(RuntimeError):
    """A store does not do what it was asked.

    Attributes:
        permanent: Asking again does not help: it refuses, or is set up wrongly.
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class NotStoredError(StoreError):
    """There is no object at an address."""


@dataclass(frozen=True)
class Stored:
    """An object of the store: its name, the job that it was made for, and when it was written."""

    name: str
    job_id: str
    modified: datetime


def check_results(url: str) -> str:
    """Return a value of the setting ``results`` that can be one.

    Raises:
        ValueError: It cannot.
    """
    if url == REDIS:
        return url
    parts = urlsplit(url)
    bare = not (parts.query or parts.fragment or "@" in parts.netloc or ".." in unquote(parts.path).split("/"))
    placed = parts.netloc and parts.scheme in ("s3", "gs", "az")
    if not bare or not (placed or (parts.scheme == "file" and not parts.netloc and parts.path.strip("/"))):
        raise ValueError(f"not a place for results; accepted: {ACCEPTED}, without user, password or options")
    return url


def new_name(job_id: str, audio_format: AudioFormat) -> str:
    """A name that no other execution of the job has."""
    return f"{job_id}-{uuid4().hex}.{audio_format}"


def _options(scheme: str) -> dict[str, Any]:
    named = {name: os.environ.get(_VARIABLES[scheme] + name.upper()) for name in _CONNECTION}
    given = {name: value for name, value in named.items() if value}
    return {"retry_config": _RETRIES, "client_options": {"timeout": _LONGEST, **given}}


class AudioStore:
    """Puts and gets audio; safe to use from several threads.

    Args:
        url: A bucket and a prefix, or a folder, which must be there.

    Attributes:
        url: Where it is, without a slash at its end.

    Raises:
        StoreError: It cannot be opened; nothing was asked of it yet.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(check_results(url))
            import obstore
            from obstore.store import from_url
        except ValueError as error:
            raise StoreError(f"results: {error}", permanent=True) from None
        except ImportError:
            reason = f"results: {url}: obstore is missing: pip install 'rwkv-tts-client[store]'"
            raise StoreError(reason, permanent=True) from None
        self._obstore = obstore
        self._missing = (FileNotFoundError, obstore.exceptions.NotFoundError)
        self.url = url.rstrip("/")
        self._local = Path(unquote(parts.path)) if parts.scheme == "file" else None
        if self._local and not self._local.is_dir():
            raise StoreError(f"results: {url}: no such folder; accepted: one that is there", permanent=True)
        with self._told("open"):
            options = {} if self._local else _options(parts.scheme)
            self._store: ObjectStore = from_url(url, **options)

    def address(self, name: str) -> str:
        """The address of an object."""
        return f"{self.url}/{name}"

    def put(self, name: str, content: bytes) -> None:
        """Store audio under a name that ``new_name`` has made; what is there is replaced.

        Raises:
            ValueError: No such name was made.
            StoreError: It is not known to be stored.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"{name[:_SHOWN]!r} is no name of audio; accepted: JOB-EXECUTION.FORMAT")
        self._put(name, content, None if self._local else _MEDIA_TYPES.get(found[2]))

    def get(self, address: str) -> bytes:
        """The audio at an address.

        Raises:
            NotStoredError: It is not there, or not any more.
            StoreError: The address is not of this store, or the store is away.
        """
        name = self._name(address)
        with self._told("get"):
            return bytes(self._obstore.get(self._store, name).bytes())

    def sign(self, address: str, seconds: float) -> str:
        """A URL under which anybody can fetch the audio at an address, for so many seconds.

        Raises:
            StoreError: The address is not of this store, or it cannot sign.
        """
        name = self._name(address)
        if self._local:
            reason = f"results: {self.url}: a folder cannot sign URLs; accepted: a store at s3://, gs:// or az://"
            raise StoreError(reason, permanent=True)
        with self._told("sign"):
            return str(self._obstore.sign(self._store, "GET", name, timedelta(seconds=seconds)))  # type: ignore[call-overload]

    def delete(self, addresses: Sequence[str]) -> None:
        """Remove audio; what is not there is left out.

        Raises:
            StoreError: An address is not of this store, or not all of them are known to be removed.
        """
        names = [self._name(address) for address in addresses]
        with self._told("delete"):
            try:
                self._obstore.delete(self._store, names)
            except self._missing:  # where that is an error, it has kept others from being removed
                for name in names:
                    with suppress(*self._missing):
                        self._obstore.delete(self._store, name)

    def pages(self) -> Iterator[list[Stored]]:
        """All audio, some hundred objects at a time, in no particular order.

        Raises:
            StoreError: The store is away.
        """
        with self._told("list"):
            for page in self._obstore.list(self._store, chunk_size=1000):
                found = [(meta["path"], _NAME.fullmatch(meta["path"]), meta["last_modified"]) for meta in page]
                yield [Stored(name, match[1], modified) for name, match, modified in found if match]

    def remove_partial(self, seconds: float) -> int:
        """Remove what a writer that died has left of a file, if nobody has written to it for so long.

        Returns:
            How many; none but a folder has such.

        Raises:
            StoreError: The folder is away.
        """
        removed, until = 0, time.time() - seconds
        with self._told("list"):
            for path in self._local.iterdir() if self._local else ():
                if _PARTIAL.fullmatch(path.name) and path.lstat().st_mtime < until:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def check(self) -> None:
        """Find out whether audio can be stored here; whoever may not delete leaves an empty object.

        Raises:
            StoreError: It cannot, at present or at all.
        """
        self._put(_PROBE, b"", None)
        with suppress(StoreError), self._told("delete"):
            self._obstore.delete(self._store, _PROBE)

    def _put(self, name: str, content: bytes, media_type: str | None) -> None:
        attributes = {"Content-Type": media_type} if media_type else None
        with self._told("put"):
            # In one request: the parts of an upload in several would stay after a crash, and no listing has them.
            self._obstore.put(self._store, name, content, attributes=attributes, use_multipart=False)

    def _name(self, address: str) -> str:
        """The name in an address, which must be one that a worker gives, directly under the store's URL."""
        folder, _, name = address.rpartition("/")
        if folder != self.url or not _NAME.fullmatch(name):
            raise StoreError(
                f"{address[:_SHOWN]!r} is not in this store; accepted: {self.url}/NAME", permanent=True
            )
        return name

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Errors of a block, in one line."""
        errors = self._obstore.exceptions
        never = (PermissionError, errors.PermissionDeniedError, errors.UnauthenticatedError, NotImplementedError)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told and keeps the audio
            lines = str(error).splitlines() or [""]
            reason = f"results: {self.url}: {what}: {type(error).__name__}: {_QUERY.sub('', lines[0])[:_SHOWN]}"
            if isinstance(error, self._missing):
                raise NotStoredError(reason, permanent=True) from None
            if "builder error" in lines[0]:
                reason += " (an endpoint without TLS is used only with AWS_ALLOW_HTTP=true)"
            permanent = isinstance(error, never) or "builder error" in lines[0]
            raise StoreError(reason, permanent=permanent) from None
