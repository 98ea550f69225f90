"""What the command and its groups share: settings from options, the Redis that they name, files to send."""

import signal
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from redis import Redis

from gateway.settings import Settings as GatewaySettings
from rwkv_tts.client import TTSClient
from rwkv_tts.connection import connect
from rwkv_tts.schema import FORMATS, MAX_REFERENCE_BYTES
from worker.cli.address import next_door
from worker.cli.console import errors
from worker.cli.local import LocalWorker, local_worker, redis_server, shared_redis, workers_on
from worker.ops import logs
from worker.settings import Settings, unknown_variables

Kind = TypeVar("Kind", bound=BaseSettings)

STANDARD_STREAM = Path("-")
"""As a file to read, standard input; as one to write, standard output."""

_ALSO_NAMED = {"opus": ("ogg",)}
"""Other ends of names for a format: Opus comes in an OGG file."""


class CommandError(Exception):
    """A command cannot do what it was told; one line that says why and what is accepted."""


def settings_from(given: Mapping[str, Any]) -> Settings:
    """Settings from the given options, the environment and the defaults; configures logging."""
    for line in unknown_variables():
        errors.print(f"[yellow]warning:[/] {line}")
    settings = _checked(Settings, given)
    try:
        url = settings.redis_url()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _check_redis(url)
    logs.configure(settings.log_level, as_json=settings.log_format == "json")
    return settings


def gateway_from(given: Mapping[str, Any]) -> GatewaySettings:
    """Settings of a gateway, likewise."""
    return _checked(GatewaySettings, given)


def _checked(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        told = [*map(str, problem["loc"][:1]), problem["msg"].removeprefix("Value error, ")]
        raise typer.BadParameter(": ".join(told)) from None


def client_of(redis: str | None, queue: str | None) -> TTSClient:
    """As ``shared_client``, from a command's options."""
    return shared_client(settings_from({"redis": redis, "queue": queue}))


def shared_client(settings: Settings) -> TTSClient:
    """For the configured Redis or that of the worker in this folder: one of our own would end with the command.

    Raises:
        typer.BadParameter: There is neither.
    """
    url = shared_redis(settings)
    if url is None:
        raise typer.BadParameter(
            "redis: not given, and no worker runs in this folder; accepted: --redis URL, or the environment "
            "variable RWKV_TTS_REDIS or REDIS_URL"
        )
    return client_for(settings, url)


def client_for(settings: Settings, url: str) -> TTSClient:
    """For the workers of some settings, which put audio where these say."""
    return TTSClient(url, settings.queue[0], commit_replicas=settings.commit_replicas, results=settings.results)


def _check_redis(url: str | None) -> None:
    """Refuse a Redis URL that cannot be used; no message quotes it, because it may hold a password."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        if parts.netloc and "@" in parts.path + parts.query + parts.fragment:
            raise ValueError("the host came out of an unescaped password")
        connect(url).connection_pool.make_connection()
    except (ValueError, TypeError):
        raise typer.BadParameter(
            "redis: not a usable URL; accepted: redis://, rediss://, unix:// or redis+sentinel://host/master, "
            "with any of / ? # @ % in names and passwords written as %2F %3F %23 %40 %25"
        ) from None


def with_worker(settings: Settings, act: Callable[[TTSClient, LocalWorker | None], int]) -> None:
    """Run ``act`` against a Redis and its workers: what is configured, what runs in this folder, else our own."""
    near = None if settings.redis_url() else next_door()
    with redis_server(settings) if near is None else nullcontext(near) as url:
        client = client_for(settings, url)
        if settings.redis_url() is not None:
            warn_without_workers(client.connection, settings.queue[0])
            raise typer.Exit(act(client, None))
        if near is not None and workers_on(client.connection, settings.queue[0]):
            raise typer.Exit(act(client, None))
        with local_worker(settings, url) as local:
            with errors.status("starting a worker"):
                local.wait_until_ready()
            try:
                code = act(client, local)
            except KeyboardInterrupt:
                local.send(signal.SIGKILL)  # nobody waits for what it speaks
                raise
        raise typer.Exit(code)


def warn_without_workers(connection: Redis, queue: str) -> None:
    """Say that a job on the queue will have to wait for a worker to start, if that is so."""
    if not workers_on(connection, queue):
        errors.print(f"[yellow]warning:[/] no worker listens on queue {queue}; the job waits for one")


def audio_format(output: Path | None, given: str | None = None) -> str:
    """The audio format that is given, else what the file's name asks for, else wav.

    Raises:
        CommandError: The name promises another format, or one that there is not.
    """
    suffix = "" if output is None else output.suffix.removeprefix(".").lower()
    if suffix and suffix not in FORMATS:
        named = ", ".join(f".{name}" for name in FORMATS)
        raise CommandError(
            f"output: {output}: no format of audio has this name; accepted: one that ends in {named}"
        )
    if given in FORMATS and suffix not in ("", given, *_ALSO_NAMED.get(given, ())):
        raise CommandError(f"output: {output}: the audio is {given}; accepted: a name that ends in .{given}")
    return given or suffix or "wav"


def write_audio(path: Path, audio: bytes) -> None:
    """Write an audio file, into a new folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(audio)


def read_recording_file(path: Path) -> bytes:
    """The bytes of a recording to clone, never more than may be sent.

    Raises:
        CommandError: The file is larger than a reference may be.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        recording = file.read(MAX_REFERENCE_BYTES + 1)
    if len(recording) > MAX_REFERENCE_BYTES:
        raise CommandError(f"reference: {path}: too large; accepted: up to {MAX_REFERENCE_BYTES} bytes")
    return recording


def public_url(url: str) -> str:
    """The URL without user, password and options, which may hold a password too."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
