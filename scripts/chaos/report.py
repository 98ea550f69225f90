"""What a chaos run says in the end: tables for people, and figures for the line of JSON."""

import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos.audit import Audit
from chaos.book import Book
from chaos.recovery import spread
from chaos.run import Run
from chaos.seen import rows, views


def report(run: Run, book: Book, result: Audit, seconds: float, left_out: Mapping[str, str]) -> dict[str, Any]:
    tracker = run.tracker
    happened = Counter(case.kind for case in tracker.cases if case.kind != "death")
    return {
        "seed": run.options.seed,
        "server": run.server.version(),
        "submitted": result.submitted,
        "finished_once": result.finished,
        "failed_with_reason": result.failed.total(),
        "failed_by_reason": dict(result.failed.most_common()),
        "lost": len(result.lost),
        "duplicated": len(result.duplicated),
        "nowhere": len(result.nowhere),
        "wrong": len(result.wrong),
        "faults": happened.total(),
        "store_faults": run.store_faults,
        "faults_by_kind": dict(sorted(happened.items())),
        "left_out": dict(left_out),
        "other_deaths": dict(run.fleet.deaths),
        "fenced_results": run.fleet.fenced,
        "submits_with_lost_reply": book.lost_replies,
        "submitted_again_after_a_rollback": len(book.again),
        "phantom_ids": book.phantoms,
        "leftovers": result.leftovers,
        "orphans": result.orphans,
        "recovered": len(tracker.all_seconds(net=True)),
        "recovery": spread(tracker.all_seconds(net=True)),
        "recovery_wall": spread(tracker.all_seconds(net=False)),
        "seen": {kind: asdict(view) for kind, view in views(book, tracker).items()},
        "seconds": round(seconds, 1),
        "jobs_per_second": round(result.submitted / seconds, 1),
        "workers": run.options.workers,
        "rows": run.options.rows,
        "lease_timeout": run.options.lease,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "rq": version("rq")},
    }


def show(run: Run, book: Book, figures: dict[str, Any], result: Audit) -> None:
    console, table = Console(), Table(show_header=False)
    for name, value in figures.items():
        if name != "seen":
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(name.replace("_", " "), shown or "none")
    console.print(table)
    seen = Table("fault", "times", "lasted, s", "submit, s", "result, s", "a producer is told", "recovery, s")
    for row in rows(views(book, run.tracker)):
        seen.add_row(*row)
    console.print(seen)
    for title in ("lost", "nowhere", "duplicated", "wrong"):
        for job in getattr(result, title)[:20]:
            console.print(f"{title}: {job}", style="red", highlight=False)
