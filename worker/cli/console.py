"""What commands show: tables and summary lines."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rwkv_tts import JobFailedError, Speech, SpeechProgress, StoreError, TTSClient

# A pipe or a log file has no width of its own; tables there must not be folded to 80 columns.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Line:
    """One job as it is shown: where its audio went, or why there is none; no outcome means spoken before."""

    label: str
    outcome: Speech | JobFailedError | StoreError | None
    path: Path | None = None

    @property
    def speech(self) -> Speech | None:
        """What was spoken, if anything was."""
        return self.outcome if isinstance(self.outcome, Speech) else None


def progress_bar() -> Progress:
    """A bar that counts jobs; it is shown on standard error and vanishes when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=errors, transient=True)


@contextmanager
def speech_bar(client: TTSClient, job_id: str) -> Iterator[Callable[[], None]]:
    """On a terminal, a bar of how far a job has come; what is yielded looks again, once a second at most."""
    columns = (TextColumn("speaking"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    next_at = 0.0

    def look() -> None:
        nonlocal next_at
        if not errors.is_terminal or time.monotonic() < next_at:
            return
        next_at = time.monotonic() + 1
        if (found := client.progress(job_id)) is not None:
            bar.update(task, total=1, completed=found.share, description=_told(found))

    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield look


def _told(progress: SpeechProgress) -> str:
    parts = f"{progress.parts}/{progress.of or '?'} parts"
    return f"{parts}, {progress.seconds:.1f} s of audio, RTF {progress.rtf:.3f}"


def save(speech: Speech, directory: Path, label: str) -> Path:
    """Write the audio file of a finished job, whole or not at all, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{label}.{speech.result.format}"
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(speech.audio)
    return part.replace(path)


def jobs_table(lines: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("job", no_wrap=True)
    for heading in ("queued ms", "total ms", "audio s", "RTF", "mean batch"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("finish", no_wrap=True)
    table.add_column("file", overflow="fold")
    for line in lines:
        table.add_row(line.label, *_cells(line))
    return table


def _cells(line: Line) -> list[str]:
    if line.outcome is None:
        return ["-", "-", "-", "-", "-", "spoken before", str(line.path)]
    if line.speech is None:
        return ["-", "-", "-", "-", "-", "failed", str(line.outcome)]
    result = line.speech.result
    return [
        f"{result.timings.queued * 1000:.0f}",
        f"{result.timings.total * 1000:.0f}",
        f"{result.seconds:.2f}",
        f"{result.rtf:.3f}",
        f"{result.mean_batch:.1f}",
        result.finish_reason,
        str(line.path),
    ]


def summary(lines: Sequence[Line], wall: float, refused: int = 0) -> str:
    """Seconds of audio, wall time and their ratio; RTF here is wall time over all audio."""
    spoken = [line.speech for line in lines if line.speech is not None]
    seconds = sum(speech.result.seconds for speech in spoken)
    before = sum(line.outcome is None for line in lines)
    others = {"spoken before": before, "failed": len(lines) - len(spoken) - before, "refused": refused}
    text = f"{len(spoken)} jobs, {seconds:.2f} s of audio in {wall:.2f} s"
    if seconds:
        text += f" (RTF {wall / seconds:.3f}, {seconds / wall:.1f} audio-s/s)"
    return text + "".join(f", {count} {what}" for what, count in others.items() if count)
