"""``rwkv-tts top`` and ``rwkv-tts tune``: how workers do, and changing them while they run."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from rwkv_tts.client import TTSClient, Tuned
from rwkv_tts.load import WorkerLoad
from rwkv_tts.tuning import Tunable
from worker.cli.common import client_of
from worker.cli.console import console, errors

_REFRESH_SECONDS = 1.0
_Redis = Annotated[
    str | None, typer.Option("--redis", help="Redis URL (env RWKV_TTS_REDIS or REDIS_URL)", show_default=False)
]
_Queue = Annotated[str | None, typer.Option("--queue", help="queue of the workers (env RWKV_TTS_QUEUE)")]


def _help(name: str) -> str | None:
    return Tunable.model_fields[name].description


def top(
    once: Annotated[bool, typer.Option("--once", help="print one table and exit")] = False,
    queue: _Queue = None,
    redis: _Redis = None,
) -> None:
    """Show what the workers of a queue are doing, each second, until interrupted."""
    client = client_of(redis, queue)
    if once:
        console.print(_busy(client))
        return
    with suppress(KeyboardInterrupt), Live(_busy(client), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(_REFRESH_SECONDS)
            live.update(_busy(client), refresh=True)


def tune(
    worker: Annotated[str | None, typer.Option("--worker", help="name of one worker; default all")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help=_help("log_level"))] = None,
    token_chunk_size: Annotated[
        int | None, typer.Option("--token-chunk-size", help=_help("token_chunk_size"))
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help=f"{_help('max_rows')}, up to the worker's slots")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="back to the values of the start first")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="seconds to wait for confirmations")] = 10.0,
    queue: _Queue = None,
    redis: _Redis = None,
) -> None:
    """Change values of running workers at once; without a value, show those that they work with."""
    client = client_of(redis, queue)
    values = {"log_level": log_level, "token_chunk_size": token_chunk_size, "max_rows": max_rows}
    if not reset and all(value is None for value in values.values()):
        console.print(_values(client.busyness().workers))
        return
    given: dict[str, Any] = {**values, "reset": reset}
    outcomes = client.tune(worker, **given, timeout=timeout)
    for outcome in outcomes:
        _print_outcome(outcome)
    raise typer.Exit(int(any(outcome.error for outcome in outcomes)))


def _busy(client: TTSClient) -> Group:
    load, workers = client.busyness()
    wait = "unknown" if load.estimated_wait is None else f"{load.estimated_wait:.1f} s"
    head = f"queue {escape(client.queue)}: {load.depth} jobs wait, estimated wait {wait}, {load.workers} workers"
    headings = ("rows", "slots", "jobs", "mean batch", "tokens/s", "audio-s/s", "jobs/s", "recovered")
    table = _table(*headings, "chunk", "log")
    for one in workers:
        table.add_row(
            escape(one.name),
            f"{_cell(one.rows)}/{_cell(one.most_rows)}",
            _cell(one.slots),
            _cell(one.running),
            _cell(one.mean_batch),
            _cell(one.tokens_per_second),
            _cell(one.audio_seconds_per_second),
            _cell(one.jobs_per_second),
            _cell(one.recovered),
            _cell(one.token_chunk_size),
            _cell(one.log_level),
        )
    return Group(head, table)


def _values(workers: Sequence[WorkerLoad]) -> Table:
    table = _table(*Tunable.model_fields, "slots")
    for one in workers:
        table.add_row(escape(one.name), *(_cell(getattr(one, name)) for name in (*Tunable.model_fields, "slots")))
    return table


def _table(*headings: str) -> Table:
    table = Table("worker", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _print_outcome(outcome: Tuned) -> None:
    """One line: each value before and after, or why there is no after."""
    name, before, after = outcome.before.name, outcome.before, outcome.after
    if outcome.error is not None:
        errors.print(f"[red]worker {escape(name)}:[/] {escape(outcome.error)}")
        return
    values = [f"{field} {getattr(before, field)} -> {getattr(after, field)}" for field in Tunable.model_fields]
    console.print(f"worker {name}: {', '.join(values)}", markup=False)
