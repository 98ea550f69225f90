"""What an evaluation finds: marks to reach, numbers for the JSON line, tables for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Mark:
    """A figure and its limit: the least it must be, or the most when ``most`` is set; ``of`` says whose it is."""

    name: str
    value: float
    limit: float
    most: bool = False
    of: str = ""

    @property
    def ok(self) -> bool:
        """Whether the mark is reached; a value that is not a number reaches none."""
        return self.value <= self.limit if self.most else self.value >= self.limit

    def line(self) -> dict[str, Any]:
        return {"value": self.value, "most" if self.most else "least": self.limit, "ok": self.ok, "of": self.of}


@dataclass
class Findings:
    """Of one section of the evaluation."""

    data: dict[str, Any] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def least(self, name: str, value: float, limit: float, of: str = "") -> None:
        self.marks.append(Mark(name, float(value), limit, of=of))

    def most(self, name: str, value: float, limit: float, of: str = "") -> None:
        self.marks.append(Mark(name, float(value), limit, most=True, of=of))

    def worst(self, name: str, values: Mapping[str, float], limit: float) -> None:
        """A mark that the least of several values must reach."""
        lowest = min(values, key=lambda key: values[key])
        self.least(name, values[lowest], limit, lowest)

    def tabulate(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; numbers are shown with three digits."""
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=not number)
        for row in rows:
            table.add_row(*map(cell, row))
        self.tables.append(table)


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
    return str(value)


def marks_table(marks: Sequence[Mark]) -> Table:
    table = Table(title="marks", title_justify="left")
    for name in ("mark", "of"):
        table.add_column(name)
    for name in ("value", "limit", ""):
        table.add_column(name, justify="right")
    for mark in marks:
        verdict = "ok" if mark.ok else "[bold red]missed[/]"
        limit = ("<= " if mark.most else ">= ") + cell(mark.limit)
        table.add_row(mark.name, mark.of, cell(mark.value), limit, verdict)
    return table
