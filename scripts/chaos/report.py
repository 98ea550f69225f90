"""What a chaos run says in the end: a table for people, and figures for the line of JSON."""

import os
import platform
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos.ledger import Audit
from chaos.plan import CUTS, FAULT_POINTS, Kind, counted
from chaos.recovery import spread
from chaos.run import Run


def report(run: Run, result: Audit, seconds: float) -> dict[str, Any]:
    happened, tracker = run.fleet.happened, run.tracker
    kills = counted(happened, (Kind.KILL, *FAULT_POINTS))
    return {
        "seed": run.options.seed,
        "submitted": result.submitted,
        "finished_once": result.finished,
        "failed_with_reason": result.failed.total(),
        "failed_by_reason": dict(result.failed.most_common()),
        "lost": len(result.lost),
        "duplicated": len(result.duplicated),
        "wrong": len(result.wrong),
        "kills": {"total": sum(kills.values()), "random": kills.pop("kill"), **kills},
        "zombies": happened[Kind.ZOMBIE],
        "cuts": counted(happened, CUTS),
        "redis_restarts": {"sigterm": happened[Kind.RESTART], "sigkill": happened[Kind.CRASH]},
        "redis_pauses": happened[Kind.PAUSE],
        "other_deaths": dict(run.fleet.deaths),
        "fenced_results": run.fleet.fenced,
        "submits_with_lost_reply": result.lost_replies,
        "phantom_ids": result.phantoms,
        "leftovers": result.leftovers,
        "recovered_workers": len(tracker.seconds(net=True)),
        "recovery": spread(tracker.seconds(net=True)),
        "recovery_wall": spread(tracker.seconds(net=False)),
        "seconds": round(seconds, 1),
        "jobs_per_second": round(result.submitted / seconds, 1),
        "workers": run.options.workers,
        "rows": run.options.rows,
        "lease_timeout": run.options.lease,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "rq": version("rq")},
    }


def show(figures: dict[str, Any], result: Audit) -> None:
    console, table = Console(), Table(show_header=False)
    for name, value in figures.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), shown or "none")
    console.print(table)
    for title in ("lost", "duplicated", "wrong"):
        for job in getattr(result, title)[:20]:
            console.print(f"{title}: {job}", style="red", highlight=False)
