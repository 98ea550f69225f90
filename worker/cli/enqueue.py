"""``rwkv-tts enqueue``: from a list of texts to jobs, or to audio files."""

import json
import platform
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rq.exceptions import DuplicateJobError

from rwkv_tts import JobFailedError, QueueFullError, RequestError, TTSClient
from rwkv_tts.results import ended, fetch_job
from worker.cli.common import with_worker
from worker.cli.console import Line, console, errors, jobs_table, progress_bar, save, summary
from worker.cli.lists import BadLine, Entry, read_list, spoken
from worker.cli.local import LocalWorker, outcome
from worker.cli.options import with_request, with_settings
from worker.settings import Settings

_FULL_SECONDS = 1.0


@with_settings
@with_request
def enqueue(
    *,
    file: Annotated[
        Path, typer.Argument(help="one JSON request or plain text a line; - is standard input", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="wait, and write audio files here that are not there yet")
    ] = None,
    fields: dict[str, Any],
    settings: Settings,
) -> None:
    """Queue many requests; prints their job ids, or waits and writes audio files (always so without a Redis).

    The options of a request are for lines that do not say otherwise.
    """
    listed = list(read_list(file, fields))
    entries = [one for one in listed if isinstance(one, Entry)]
    for bad in listed:
        if isinstance(bad, BadLine):
            _refuse(bad.number, bad.reason)
    refused = len(listed) - len(entries)

    def act(client: TTSClient, local: LocalWorker | None) -> int:
        folder = out if local is None else out or Path("out")
        if folder is None:
            return int(_queue(client, entries) + refused > 0)
        start, batch = time.monotonic(), Batch(client, local, folder)
        batch.speak(entries)
        console.print(jobs_table(batch.lines))
        console.print(summary(batch.lines, time.monotonic() - start, refused + batch.refused))
        return int(refused + batch.refused > 0 or any(line.path is None for line in batch.lines))

    with_worker(settings, act)


def _queue(client: TTSClient, entries: list[Entry]) -> int:
    """Queue each line and print its job's id; returns how many were refused."""
    refused = 0
    for entry in entries:
        try:
            job_id = client.submit(**_submitted(entry))
            console.print(json.dumps({"line": entry.number, "job_id": job_id}), markup=False)
        except RequestError as error:
            refused += 1
            _refuse(entry.number, error)
    return refused


class Batch:
    """Speaks a list into a folder, as many at once as the queue takes.

    Args:
        client: Of the queue.
        local: The worker that this command started, if it did.
        folder: Where audio files go; those that are there already are not spoken again.

    Attributes:
        lines: What became of each line.
        refused: Lines of which there is no job.
    """

    def __init__(self, client: TTSClient, local: LocalWorker | None, folder: Path) -> None:
        self._client, self._local, self._folder = client, local, folder
        self._pending: deque[tuple[Entry, str]] = deque()
        self.lines: list[Line] = []
        self.refused = 0

    def speak(self, entries: list[Entry]) -> None:
        """Return when all have been spoken, or have failed."""
        with progress_bar() as bar:
            task = bar.add_task("speaking", total=len(entries))
            try:
                for _ in self._steps(entries):
                    bar.update(task, completed=len(self.lines) + self.refused)
            except KeyboardInterrupt:
                done = sum(line.path is not None for line in self.lines)
                told = f"{done} of {len(entries)} are in {self._folder}; the same command goes on from there"
                errors.print(f"interrupted: {told}", markup=False)
                raise

    def _steps(self, entries: list[Entry]) -> Iterator[None]:
        there = spoken(self._folder)
        for entry in entries:
            if (path := there.get(entry.file)) is not None:
                self.lines.append(Line(str(entry.number), None, path))
            else:
                yield from self._submit(entry)
            yield
        while self._pending:
            self._collect()
            yield

    def _submit(self, entry: Entry) -> Iterator[None]:
        """Queue a line, when there is room."""
        while True:
            try:
                self._pending.append((entry, submit_once(self._client, entry, self._folder)))
                return
            except RequestError as error:
                self.refused += 1
                _refuse(entry.number, error)
                return
            except QueueFullError:
                if self._pending:
                    self._collect()
                else:  # with jobs of others
                    time.sleep(_FULL_SECONDS)
                yield

    def _collect(self) -> None:
        """Wait for the oldest job and write its file; its audio is not kept here."""
        entry, job_id = self._pending.popleft()
        line = Line(str(entry.number), outcome(self._client, job_id, self._local))
        if line.speech is not None:
            path = save(line.speech, self._folder, entry.stem)
            line = replace(line, outcome=replace(line.speech, audio=b""), path=path)
        self.lines.append(line)


def submit_once(client: TTSClient, entry: Entry, folder: Path) -> str:
    """The id of a line's job for a folder: of an interrupted run's, unless that has failed.

    Raises:
        RequestError: The request is not accepted.
        QueueFullError: Too many jobs wait already.
    """
    of = f"{platform.node()}:{folder.resolve()}:{entry.file}"
    job_id = sha256(of.encode()).hexdigest()[:32]
    try:
        return client.submit(**_submitted(entry), job_options={"job_id": job_id, "unique": True})
    except DuplicateJobError:
        try:
            ended(fetch_job(client.connection, job_id))
            return job_id
        except JobFailedError:
            return client.submit(**_submitted(entry))


def _submitted(entry: Entry) -> Mapping[str, Any]:
    return {"text": "", **entry.request}


def _refuse(number: int, reason: object) -> None:
    errors.print(f"[red]line {number}:[/] {escape(str(reason))}")
