"""Draws a benchmark's curves for the README and the documentation."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_SIZE = (9.0, 3.4)
_DOTS_PER_INCH = 110
Conditions = Mapping[str, Mapping[str, Any]]


def draw(run: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a PNG file for each scenario that has a curve, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for scenario, (name, drawing) in _DRAWINGS.items():
        if scenario in run["scenarios"]:
            figure = Figure(figsize=_SIZE, dpi=_DOTS_PER_INCH, layout="constrained")
            drawing(figure, run["scenarios"][scenario])
            figure.suptitle(_caption(run), fontsize=8, color="0.4")
            written.append(folder / name)
            figure.savefig(written[-1])
    return written


def _caption(run: Mapping[str, Any]) -> str:
    machine = run["machine"]
    hardware = machine.get("gpu") or f"{machine['cores']} cores of {machine['cpu']}"
    return f"{run['config']['model']['name']} on {hardware}, {run['date'][:10]}, {run['config_sha256']}"


def _concurrency(figure: Figure, conditions: Conditions) -> None:
    x = [int(clients) for clients in conditions]
    _throughput(figure, x, conditions, "clients, each with one job at a time")


def _chunk_sizes(figure: Figure, conditions: Conditions) -> None:
    x = [int(size) for size in conditions]
    _throughput(figure, x, conditions, "token_chunk_size, prompt tokens per step")


def _throughput(figure: Figure, x: list[int], conditions: Conditions, label: str) -> None:
    """Throughput beside latency over numbers that double."""
    left, right = figure.subplots(1, 2)
    left.plot(x, [figures["audio_s_per_s"] for figures in conditions.values()], marker="o")
    _label(left, label, "audio seconds per second")
    _latencies(right, [float(value) for value in x], conditions, label)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, labels=[str(value) for value in x])
        axes.minorticks_off()


def _arrivals(figure: Figure, conditions: Conditions) -> None:
    rates = [figures["offered_per_s"] for figures in conditions.values()]
    _latencies(figure.subplots(), rates, conditions, "Poisson arrivals, requests per second")


def _latencies(axes: Axes, x: list[float], conditions: Conditions, label: str) -> None:
    for share in ("p50", "p95", "p99"):
        values = [figures["latency_s"][share] for figures in conditions.values()]
        axes.plot(x, values, marker="o", label=share.upper())
    _label(axes, label, "submit to audio, seconds")
    axes.legend(frameon=False)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_ylim(0, 1.08 * axes.dataLim.ymax)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


_DRAWINGS: dict[str, tuple[str, Callable[[Figure, Conditions], None]]] = {
    "closed": ("bench-concurrency.png", _concurrency),
    "open": ("bench-latency.png", _arrivals),
    "chunks": ("bench-chunks.png", _chunk_sizes),
}
