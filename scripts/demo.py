"""The main job on the embedded default: text into WAV files, through a real queue, in real batches.

    python scripts/demo.py [--model DIR] [--out DIR]

The same jobs are then run one at a time on the same worker, and their token traces are compared.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from rwkv_tts.client import TTSClient
from worker.cli.console import Line, console, errors, jobs_table, progress_bar, save, summary
from worker.cli.local import LocalWorker, local_worker, outcome, redis_server
from worker.settings import Settings
from worker.speech.config import ModelConfig, ModelError
from worker.speech.files import find_files

SHORT = "Hello, world."
MEDIUM = "Jobs wait in Redis; one worker drains many of them at once into a single running batch."
LONG = (
    "A speech service that batches in memory forgets its work when it dies, and a queue that hands out one job at "
    "a time leaves the processor idle. This one does both: every job is kept until its audio is stored, and all "
    "the jobs that are there share every step of the model."
)

WRITTEN = "On May 3rd, at 10:45, Dr. Lee paid $25.99 for 2 kg of tea."

JOBS: Mapping[str, Mapping[str, Any]] = {
    "female-short": {"text": SHORT, "gender": "female"},
    "male-short": {"text": SHORT, "gender": "male", "pitch": "low_pitch"},
    "female-high": {"text": MEDIUM, "age": "middle-aged", "pitch": "high_pitch"},
    "male-slow": {"text": MEDIUM, "gender": "male", "speed": "slow"},
    "fast-medium": {"text": MEDIUM, "speed": "very_fast"},
    "as-written": {"text": WRITTEN, "gender": "male", "age": "middle-aged"},
    "male-long": {"text": LONG, "gender": "male", "age": "middle-aged"},
    "child-happy": {"text": SHORT, "age": "child", "emotion": "happy"},
    "voice-short": {"text": SHORT, "voice": 0},
    "voice-medium": {"text": MEDIUM, "voice": 1},
}
"""``voice`` is the position of a stored voice of the model: zero-shot mode."""


def main() -> None:
    arguments = _arguments()
    settings = Settings(model=arguments.model)
    try:
        config = find_files(settings.model).config
    except ModelError as error:
        errors.print(f"[red]model:[/] {error}")
        sys.exit(1)
    requests = _requests(arguments.model)
    with redis_server(settings) as url, local_worker(settings, url) as local:
        with errors.status("starting a worker"):
            local.wait_until_ready()
        client = TTSClient(url, settings.queue[0])
        outcome(client, client.submit(SHORT, seed=0), local)  # warm-up, in no figure
        together, batched = _run(client, local, requests, arguments.out, at_once=len(requests))
        alone, sequential = _run(client, local, requests, None, at_once=1)
    console.print(jobs_table(together))
    _print_warnings(together)
    console.print(f"\nbatched:          {summary(together, batched)}")
    console.print(f"one at a time:    {summary(alone, sequential)}")
    console.print(
        f"batched is {sequential / batched:.2f} x as fast; "
        f"{_equal_traces(together, alone)} of {len(requests)} token traces are identical in both"
    )
    _say_what_it_is(config)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Settings.model_fields["model"].default)
    parser.add_argument("--out", type=Path, default=Path("out"))
    return parser.parse_args()


def _requests(model: Path) -> dict[str, dict[str, Any]]:
    """The jobs, each with its own seed, and the ids of the model's voices in place of their positions."""
    voices = sorted(path.name.removesuffix(".raf.json") for path in (model / "voices").glob("*.raf.json"))
    requests = {}
    for seed, (label, fields) in enumerate(JOBS.items(), start=1):
        requests[label] = {**fields, "seed": seed}
        if "voice" in fields:
            requests[label]["voice"] = voices[fields["voice"] % len(voices)]
    return requests


def _run(
    client: TTSClient,
    local: LocalWorker,
    requests: Mapping[str, Mapping[str, Any]],
    out: Path | None,
    at_once: int,
) -> tuple[list[Line], float]:
    """Speak all requests, ``at_once`` of them queued together; returns their lines and the wall time."""
    pending = list(requests.items())
    lines = []
    start = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task("batched" if at_once > 1 else "one at a time", total=len(requests))
        while pending:
            group, pending = pending[:at_once], pending[at_once:]
            for label, job_id in [(label, client.submit(**fields)) for label, fields in group]:
                lines.append(Line(label, outcome(client, job_id, local)))
                bar.advance(task)
    wall = time.monotonic() - start
    return [_saved(line, out) for line in lines], wall


def _saved(line: Line, out: Path | None) -> Line:
    if out is None or line.speech is None:
        return line
    return replace(line, path=save(line.speech, out, line.label))


def _print_warnings(lines: list[Line]) -> None:
    """What the model could not do, one line each."""
    for line in lines:
        for warning in () if line.speech is None else line.speech.result.warnings:
            console.print(f"[yellow]{line.label}:[/] {escape(warning)}", highlight=False)


def _equal_traces(first: list[Line], second: list[Line]) -> int:
    return sum(
        a.speech is not None
        and b.speech is not None
        and a.speech.result.trace_sha256 == b.speech.result.trace_sha256
        for a, b in zip(first, second, strict=True)
    )


def _say_what_it_is(config: ModelConfig) -> None:
    if not config.trained:
        console.print(
            f"\nThe model of this demo ({config.name}) has random weights: the files hold noise, not speech. The "
            "queue, the batches, the decoding and the codec are the real ones; put a trained model directory in "
            "--model to hear words."
        )


if __name__ == "__main__":
    main()
