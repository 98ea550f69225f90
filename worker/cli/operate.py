"""``rwkv-tts top``, ``tune`` and ``load``: how workers do, and changing them while they run."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from rwkv_tts import TTSClient, Tuned, WorkerLoad
from rwkv_tts.tuning import Tunable
from worker.cli.common import client_of, shared_client
from worker.cli.console import console, errors
from worker.cli.options import QueueOption, RedisOption, with_settings, with_values
from worker.settings import Settings

_REFRESH_SECONDS = 1.0


def top(
    once: Annotated[bool, typer.Option("--once", help="print one table and exit")] = False,
    queue: QueueOption = None,
    redis: RedisOption = None,
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


@with_values
def tune(
    *,
    worker: Annotated[str | None, typer.Option("--worker", help="name of one worker; default all")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="back to the values of the start first")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="seconds to wait for confirmations")] = 10.0,
    queue: QueueOption = None,
    redis: RedisOption = None,
    values: dict[str, Any],
) -> None:
    """Change values of running workers at once; without a value, show those that they work with."""
    client = client_of(redis, queue)
    if not reset and not values:
        console.print(_values(client.busyness().workers))
        return
    outcomes = client.tune(worker, reset=reset, timeout=timeout, **values)
    for outcome in outcomes:
        _print_outcome(outcome)
    raise typer.Exit(int(any(outcome.error for outcome in outcomes)))


@with_settings
def load(*, settings: Settings) -> None:
    """Show how busy the queues are: one JSON line each, with the estimated wait."""
    connection = shared_client(settings).connection
    for name in settings.queue:
        load = TTSClient(connection, name).load()
        console.print_json(
            json.dumps({"queue": name, **asdict(load), "estimated_wait_seconds": load.estimated_wait}), indent=None
        )


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
