"""The ``rwkv-tts`` command."""

import sys
from typing import Annotated

import typer
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rich.markup import escape
from rq.exceptions import NoSuchJobError

from rwkv_tts import (
    JobFailedError,
    NoWorkerError,
    QueueFullError,
    RequestError,
    StoreError,
    UnconfirmedError,
    VoiceError,
)
from worker import __version__
from worker.cli.common import CommandError
from worker.cli.console import errors
from worker.cli.dashes import TextCommand
from worker.cli.embedded import ServerDiedError
from worker.cli.enqueue import enqueue
from worker.cli.gateway import serve
from worker.cli.jobs import cancel, result, status
from worker.cli.local import WorkerDiedError
from worker.cli.model import model_app
from worker.cli.operate import load, top, tune
from worker.cli.serve import dashboard, worker
from worker.cli.speak import say
from worker.cli.voices import voices_app

app = typer.Typer(help="Text to speech behind a Redis queue.", no_args_is_help=True)
app.command(cls=TextCommand)(say)
for command in (worker, serve, load, enqueue, result, status, cancel, dashboard, top, tune):
    app.command()(command)
app.add_typer(model_app, name="model")
app.add_typer(voices_app, name="voices")

_REFUSED = (RequestError, QueueFullError, UnconfirmedError, VoiceError, NoWorkerError)
_OF_CLIENT = (*_REFUSED, JobFailedError, StoreError, NoSuchJobError)
_EXPECTED = (*_OF_CLIENT, CommandError, ServerDiedError, WorkerDiedError, RedisError, OSError)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rwkv-tts {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    """Text to speech behind a Redis queue."""


def main() -> None:
    """Entry point: expected errors are one line and exit code 1."""
    try:
        app(prog_name="rwkv-tts")  # however it was started
    except _EXPECTED as error:
        # A server without TLS keeps silent when a client starts with it.
        hint = "; does the server speak TLS exactly when the URL says rediss://?"
        reason = f"{error}{hint if isinstance(error, RedisTimeoutError) else ''}"
        errors.print(f"[red]error:[/] {escape(reason)}")
        sys.exit(1)
