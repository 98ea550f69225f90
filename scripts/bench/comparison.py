"""Two runs of one configuration: what has changed, and whether it is worse than the noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from worker.cli.console import errors


@dataclass(frozen=True)
class Change:
    """A figure in two runs; ``ratio`` is new over old."""

    condition: str
    name: str
    old: float
    new: float
    worse: bool

    @property
    def ratio(self) -> float:
        return self.new / self.old


MORE_IS_BETTER = {"audio_s_per_s": True, "latency_s p50": False, "latency_s p95": False, "memory_peak_mb": False}
NOT_JUDGED = ("open",)
"""Scenarios whose changes are shown only: the queue at a share of a capacity that is measured anew each time."""


def compare(old: Mapping[str, Any], new: Mapping[str, Any], noise: float) -> list[Change]:
    """What changed between two runs of one configuration; worse by a factor beyond 1 + ``noise`` is worse."""
    changes = []
    for scenario, conditions in new["scenarios"].items():
        for condition, figures in conditions.items():
            before = old["scenarios"][scenario][condition]
            for name, more in MORE_IS_BETTER.items():
                a, b = _value(before, name), _value(figures, name)
                worse = (a / b if more else b / a) > 1 + noise and scenario not in NOT_JUDGED
                changes.append(Change(f"{scenario} {condition}", name, a, b, worse))
    return changes


def _value(figures: Mapping[str, Any], name: str) -> float:
    first, _, second = name.partition(" ")
    return float(figures[first][second] if second else figures[first])


def changes_table(changes: Sequence[Change]) -> Table:
    table = Table(title="compared with the old run", title_justify="left")
    for column in ("condition", "figure"):
        table.add_column(column)
    for column in ("old", "new", "new / old", ""):
        table.add_column(column, justify="right")
    for c in changes:
        verdict = "[bold red]worse[/]" if c.worse else ""
        table.add_row(c.condition, c.name, f"{c.old:.3g}", f"{c.new:.3g}", f"{c.ratio:.2f}", verdict)
    return table


def judge(old: Mapping[str, Any], new: Mapping[str, Any], noise: float, console: Console) -> int:
    """Print the ratios; 0, or 1 when a figure is worse beyond the noise, or 2 when the runs are of two kinds."""
    if old["config_sha256"] != new["config_sha256"]:
        hashes = f"{old['config_sha256']} and {new['config_sha256']}"
        errors.print(
            f"[red]error:[/] configurations {hashes} differ; accepted: runs of the same options and model"
        )
        return 2
    if old["machine"] != new["machine"]:
        errors.print("[yellow]warning:[/] the two runs are of different machines or versions")
    changes = compare(old, new, noise)
    console.print(changes_table(changes))
    worse = sum(change.worse for change in changes)
    console.print(f"{worse} of {len(changes)} figures are worse by more than {noise:.0%}", highlight=False)
    return int(worse > 0)
