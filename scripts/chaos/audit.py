"""The audit after a chaos run: what the producers submitted against what RQ says of every job."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.results import Result
from rq.serializers import JSONSerializer

from chaos.book import Book
from chaos.producer import POISON, TWICE
from rwkv_tts.audio_store import AudioStore, NotStoredError, StoreError
from rwkv_tts.keys import audio_key
from worker.broker.claim import EXECUTION_PREFIX, EXECUTIONS_PREFIX

AT_ONCE = 500
SWEEP_SECONDS = 60.0
RESULTS_PREFIX = "rq:results:"
LEGITIMATE = {"abandoned"}
"""First words of reasons why a good job may fail: too many of its workers have died."""

OF_THE_MODEL = {"model"}
"""More of them, with the real model: for some seeds, random weights end speech before its first token."""

CONFIRMATION_SECONDS = 3.0
"""For so long the confirmation of a submit may have been under way."""

Places = Mapping[str, Sequence[str]]
"""By id of a job, where it is: the queue, or registries by the status that they stand for."""


@dataclass
class Audit:
    """What became of the submitted jobs.

    Attributes:
        finished: With exactly one successful result, and its audio.
        failed: With a reason, counted by the reason's first word.
        lost: Not ended, gone, ended without what an end must have, or forgotten by a Redis that was not set back
            just then; the ids.
        nowhere: Not in the one place that its status stands for, or in another as well; the ids.
        duplicated: With more than one end; the ids.
        wrong: Ended in another way than such a job must; the ids.
        leftovers: Traces of executions that nobody holds any more.
        orphans: Objects in the store that no finished job names, and that the workers have not swept.
    """

    submitted: int = 0
    finished: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leftovers: int = 0
    orphans: int = 0

    @property
    def holds(self) -> bool:
        return not (self.lost or self.nowhere or self.duplicated or self.wrong or self.orphans)


@dataclass(frozen=True)
class Found:
    """One job in Redis."""

    id: str
    kind: str
    status: str
    audio: bytes | None
    results: Sequence[Result]
    places: Sequence[str]

    def count(self, kind: Result.Type) -> int:
        return sum(result.type == kind for result in self.results)

    @property
    def reason(self) -> str:
        return (self.results[-1].exc_string or "") if self.results else ""

    def __str__(self) -> str:
        return f"{self.id} ({self.kind}, {self.status}, {len(self.results)} results, in {', '.join(self.places)})"


def audit(
    connection: Redis,
    queue: Queue,
    book: Book,
    rollbacks: Sequence[tuple[float, float]],
    real: bool,
    store: AudioStore | None = None,
) -> Audit:
    """Look at every job that the producers submitted.

    Args:
        connection: Redis.
        queue: The queue of the jobs.
        book: What the producers have written down.
        rollbacks: When Redis was set back.
        real: The model has run the jobs, no no-op rows.
        store: Where audio is, when not in Redis.
    """
    result = Audit(submitted=len(book.kinds))
    result.lost += [f"{one} (forgotten)" for one in book.again if not _covered(book.confirmed[one], rollbacks)]
    entries, places = list(book.kinds.items()), _places(queue)
    for i in range(0, len(entries), AT_ONCE):
        for found in _look(connection, entries[i : i + AT_ONCE], places, store):
            _judge(found, result, real)
    result.leftovers = _leftovers(connection, queue)
    if store is not None:
        result.orphans = _orphans(store, result.finished)
    return result


def _orphans(store: AudioStore, finished: int) -> int:
    """Objects that the workers have not swept in time; s3rver may stumble over what goes beneath a listing."""
    orphans, deadline = 0, time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < deadline:
        with suppress(StoreError):
            orphans = sum(map(len, store.pages())) - finished
            if orphans <= 0:
                break
        time.sleep(1.0)
    return orphans


def _covered(confirmed: float, rollbacks: Sequence[tuple[float, float]]) -> bool:
    return any(start <= confirmed <= end + CONFIRMATION_SECONDS for start, end in rollbacks)


def _places(queue: Queue) -> Places:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for job_id in queue.job_ids:
        places[job_id].append(JobStatus.QUEUED)
    registries = {
        JobStatus.STARTED: queue.started_job_registry,
        JobStatus.FINISHED: queue.finished_job_registry,
        JobStatus.FAILED: queue.failed_job_registry,
        JobStatus.DEFERRED: queue.deferred_job_registry,
        JobStatus.SCHEDULED: queue.scheduled_job_registry,
        JobStatus.CANCELED: queue.canceled_job_registry,
    }
    for status, registry in registries.items():
        for job_id in registry.get_job_ids(cleanup=False):
            places[job_id].append(status.value)
    return places


def _look(
    connection: Redis, entries: Sequence[tuple[str, str]], places: Places, store: AudioStore | None
) -> list[Found]:
    with connection.pipeline(transaction=False) as pipeline:
        for job_id, _ in entries:
            pipeline.hget(Job.key_for(job_id), "status")
            pipeline.get(audio_key(job_id))
            pipeline.xrange(RESULTS_PREFIX + job_id)
        replies: list[Any] = pipeline.execute()
    found = []
    for (job_id, kind), status, audio, stream in zip(
        entries, replies[::3], replies[1::3], replies[2::3], strict=True
    ):
        results = _results(connection, job_id, stream)
        content = audio if store is None else _fetch(store, results)
        state = (status or b"missing").decode()
        found.append(Found(job_id, kind, state, content, results, places.get(job_id, ())))
    return found


def _fetch(store: AudioStore, results: Sequence[Result]) -> bytes | None:
    """The audio that the last result names; None without any."""
    address = (results[-1].return_value or {}).get("address") if results else None
    if address is None:
        return None
    try:
        return store.get(address)
    except NotStoredError:
        return None


def _results(connection: Redis, job_id: str, stream: Sequence[tuple[bytes, Any]]) -> list[Result]:
    return [
        Result.restore(job_id, entry.decode(), payload, connection, JSONSerializer) for entry, payload in stream
    ]


def _judge(found: Found, result: Audit, real: bool) -> None:
    """Finished once with its own audio, or failed with a reason; poison must fail, others may not just so."""
    legitimate = LEGITIMATE | OF_THE_MODEL if real else LEGITIMATE
    successes = found.count(Result.Type.SUCCESSFUL)
    ends = successes if found.kind == TWICE else len(found.results)
    if found.places != [found.status]:
        result.nowhere.append(str(found))
    if ends > 1:
        result.duplicated.append(found.id)
    elif found.status == JobStatus.FINISHED and successes == 1 and found.audio:
        result.finished += 1
        if found.kind in POISON or (not real and found.audio != found.id.encode()):
            result.wrong.append(found.id)
    elif found.status == JobStatus.FAILED and found.reason:
        first = found.reason.split(":")[0]
        result.failed[first] += 1
        if found.kind not in POISON and first not in legitimate:
            result.wrong.append(found.id)
    else:
        result.lost.append(str(found))


def _leftovers(connection: Redis, queue: Queue) -> int:
    """Executions, and entries in lists, that have outlived all jobs."""
    keys = sum(
        1
        for prefix in (EXECUTION_PREFIX, EXECUTIONS_PREFIX)
        for _ in connection.scan_iter(prefix + "*", count=1000)
    )
    return keys + connection.llen(queue.key) + connection.zcard(queue.started_job_registry.key)
