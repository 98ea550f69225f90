"""A run of the system's bench as people read it."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.machine import told

BUSY_CLIENTS = 60.0
"""Percent of a core, from which on the clients' own work is worth a remark."""

STEADY_JOBS = 1000
"""The allocator is still taking memory for the first few hundred."""


def show(run: Mapping[str, Any], console: Console) -> None:
    for title, part in (("machine", run["machine"]), ("worker", run["config"]["worker"])):
        console.print(f"{title}: {told(part)}", highlight=False)
    model = run["config"]["model"]
    console.print(
        f"model: {model['name']} {model['sha256']}; configuration {run['config_sha256']}", highlight=False
    )
    console.print(f"plan: {run['config']['plan']}; {run['date']}", highlight=False)
    for scenario, conditions in run["scenarios"].items():
        console.print(figures_table(scenario, conditions))
        for name, figures in conditions.items():
            for line in remarks(figures):
                console.print(f"{name}: {line}", highlight=False)
        console.print()


def figures_table(scenario: str, conditions: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, collapse_padding=True, pad_edge=False)
    table.add_column(f"\n{scenario}", no_wrap=True)
    heads = ["jobs", "audio\ns / s", "req\n/ s", "wall /\naudio", "RTF", "P50\ns", "P90\ns", "P95\ns", "P99\ns"]
    gpu = any("gpu_percent" in figures for figures in conditions.values())
    heads += ["first\naudio", "batch", "eff", "mean\nMB", "peak\nMB", "CPU\n%"]
    for head in heads + (["GPU\n%", "GPU\nMB"] if gpu else []):
        table.add_column(head, justify="right")
    for name, f in conditions.items():
        numbers = [f["audio_s_per_s"], f["requests_per_s"], f["wall_over_audio"], f["rtf"]["p50"]]
        numbers += [
            *f["latency_s"].values(),
            f["first_audio_s"]["p50"],
            f["mean_batch"],
            f.get("batch_efficiency"),
        ]
        whole = [f["memory_mean_mb"], f["memory_peak_mb"], f["cpu_percent"]]
        whole += [f["gpu_percent"], f["gpu_memory_peak_mb"]] if "gpu_percent" in f else []
        cells = ["" if number is None else f"{number:.3g}" for number in numbers]
        table.add_row(name, str(f["jobs"]), *cells, *(f"{number:.0f}" for number in whole))
    return table


def remarks(figures: Mapping[str, Any]) -> list[str]:
    """What does not fit into the table."""
    lines = []
    if "batched_over_this" in figures:
        lines.append(f"batched is {figures['batched_over_this']:.2f} x as fast")
    if "offered_per_s" in figures:
        lines.append(f"{figures['offered_per_s']:.2f} requests per second were offered")
    if "busy_s" in figures:
        stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in figures["busy_s"].items())
        lines.append(f"of {figures['wall_s'] / figures['turns']:.2f} s, stages worked: {stages}")
    if "memory_slope" in figures:
        slope = figures["memory_slope"]
        lines.append(
            f"memory grows by {slope['mb_per_1000_jobs']:.2f} MB per 1000 jobs "
            f"(95 %: {slope['low']:.2f} to {slope['high']:.2f})"
            + ("; so few jobs show the warm-up and no slope" if figures["jobs"] < STEADY_JOBS else "")
        )
    if figures["client_cpu_percent"] > BUSY_CLIENTS:
        lines.append(
            f"the clients used {figures['client_cpu_percent']:.0f} % of a core and may have been the limit"
        )
    if figures["failed"]:
        lines.append(f"{figures['failed']} of {figures['jobs']} jobs failed: {figures['first_failure']}")
    return lines
