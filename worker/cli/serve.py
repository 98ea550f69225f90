"""``rwkv-tts worker`` and ``rwkv-tts dashboard``: the processes that stay."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger
from rich.markup import escape

from rwkv_tts.connection import connect
from rwkv_tts.secrets import read_secret
from worker.cli.address import DATA
from worker.cli.common import CommandError, public_url, settings_from
from worker.cli.console import errors
from worker.cli.fleet import devices_of, work_on_each
from worker.cli.local import redis_server, shared_redis
from worker.cli.options import RedisOption, with_settings
from worker.ops.health import AddressError
from worker.settings import Settings

_UNUSABLE = 2
"""Exit code of a worker that cannot start as it is set up."""


@with_settings
def worker(
    *,
    burst: Annotated[bool, typer.Option("--burst", help="exit when the queue is empty")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print no line at the start")] = False,
    profile: Annotated[
        int,
        typer.Option("--profile", min=0, help="torch profiler trace of so many steps, to ./profile-PID.json"),
    ] = 0,
    metrics_socket: Annotated[
        int | None, typer.Option("--metrics-socket", hidden=True, help="number of an inherited one, for metrics")
    ] = None,
    settings: Settings,
) -> None:
    """Drain a queue until told to stop: SIGTERM finishes what is running first."""
    devices = devices_of(settings)
    with redis_server(settings, data=DATA) as url:
        if not quiet:
            errors.print(
                f"model {settings.model}, device {', '.join(devices)}, queue {','.join(settings.queue)} "
                f"on {public_url(url)}, token_chunk_size {settings.token_chunk_size}, max_rows {settings.max_rows}"
            )
        if len(devices) == 1:
            alone = settings.model_copy(update={"device": devices[0], "devices": ()})
            code = _work(alone, url, burst=burst, profile=profile, listening=metrics_socket)
        else:
            options = [*(["--burst"] if burst else []), f"--profile={profile}"]
            code = _work_on_each(settings, url, devices, options)
    _end_process(code)


def _work(settings: Settings, url: str, *, burst: bool, profile: int, listening: int | None) -> int:
    from worker.service import UnusableError, run_worker  # imports torch

    try:
        return int(run_worker(settings, url, burst=burst, profile_steps=profile, listening=listening))
    except UnusableError as error:
        return _unusable(error.what, error.reason)


def _work_on_each(settings: Settings, url: str, devices: Sequence[str], options: Sequence[str]) -> int:
    try:
        return work_on_each(settings, url, devices, options)
    except AddressError as error:
        return _unusable("settings", error)


def _unusable(what: str, reason: object) -> int:
    errors.print(f"[red]{what}:[/] {escape(str(reason))}")
    return _UNUSABLE


def dashboard(
    *,
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="port to listen on")] = 9181,
    redis: RedisOption = None,
    username: Annotated[
        str | None, typer.Option("--username", envvar="RQ_DASHBOARD_USERNAME", help="login name, default admin")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option("--password", envvar="RQ_DASHBOARD_PASSWORD", help="login password; safer as a variable"),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", envvar="RQ_DASHBOARD_PASSWORD_FILE", help="file with the login password"),
    ] = None,
) -> None:
    """Show queues, jobs and workers in a browser (rq-dashboard)."""
    try:
        from worker.ops.dashboard import check_access, create_app, listen
    except ModuleNotFoundError as error:
        hint = "pip install 'rwkv-tts-worker[dashboard]'"
        raise CommandError(f"dashboard: {error.name} is not installed; {hint}") from None

    try:
        if password_file is not None:
            password = read_secret("--password-file", password_file)
        check_access(host, username, password)
        url = shared_redis(settings_from({"redis": redis}))
        if url is None:
            raise CommandError(
                "--redis: no Redis to show, and no worker runs in this folder; accepted: a URL here, in "
                "RWKV_TTS_REDIS or in REDIS_URL"
            )
        connection = connect(url)
        connection.ping()
        login = (username or "admin", password) if password else None
        server = listen(create_app(connection, public_url(url), login), host, port)
    except ValueError as error:  # of the password's file, the access or the address
        raise CommandError(str(error)) from None
    shown = f"[{host}]" if ":" in host else host
    errors.print(f"dashboard of {public_url(url)} on http://{shown}:{server.port}/", markup=False)
    server.serve_forever()


def _end_process(code: int) -> None:
    """Exit at once: after jobs were put back, threads may still be inside torch, which aborts at a normal exit."""
    logger.complete()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
