"""A run of the system's bench: its configuration, what the scenarios find, and how it is read again."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.figures import digest
from bench.machine import machine
from bench.scenarios import SCENARIOS
from bench.stations import Bench, Plan
from bench.usage import gpu_name
from bench.workload import Workload
from worker.broker.rules import Rules
from worker.cli.console import errors
from worker.cli.local import redis_server
from worker.settings import Settings

Run = dict[str, Any]


class RunError(ValueError):
    """It cannot be made, or a file is none."""


def model_digest(directory: Path) -> str:
    """12 digits of the SHA-256 over all files of a model directory."""
    total = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(directory)}\n{path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def configuration(scenarios: Sequence[str], plan: Plan, settings: Settings, workload: Workload) -> dict[str, Any]:
    """All that decides what is measured, but for the machine."""
    return {
        "scenarios": list(scenarios),
        "plan": asdict(plan),
        "model": {"name": settings.model.resolve().name, "sha256": model_digest(settings.model)},
        "worker": settings.model_dump(mode="json", exclude={*Rules.model_fields, "models", "model", "redis"}),
        "texts": digest([workload.jobs(100), workload.prefill_heavy(100)]),
    }


def measure(scenarios: Sequence[str], plan: Plan, settings: Settings) -> Run:
    """Run the scenarios.

    Raises:
        WorkerDiedError: A worker cannot start or has ended.
        NoAudioError: All jobs of a condition failed.
        RunError: The model has no voices.
    """
    voices = sorted(path.name.removesuffix(".raf.json") for path in (settings.model / "voices").glob("*.raf.json"))
    if not voices:
        raise RunError(f"model: {settings.model} has no stored voice; accepted: a directory with voices/")
    workload = Workload(voices, plan.seed)
    config = configuration(scenarios, plan, settings, workload)
    run: Run = {
        "config": config,
        "config_sha256": digest(config),
        "machine": machine(gpu_name(settings.device)),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "scenarios": {},
    }
    with redis_server(settings) as url:
        for name in scenarios:
            errors.print(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}", highlight=False)
            run["scenarios"][name] = SCENARIOS[name](Bench(url, settings, workload, plan))
    return run


def read_run(path: Path) -> Run:
    """A run from a file whose last line is its JSON; the whole output will do.

    Raises:
        RunError: It is no such file.
    """
    try:
        run: Run = json.loads(path.read_text(encoding="utf-8").strip().splitlines()[-1])
        run["config_sha256"], run["scenarios"], run["machine"]
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: {error!r}; accepted: a file that ends in a JSON line of this bench") from None
    return run
