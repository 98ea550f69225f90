"""The audit after a chaos run: what the producers submitted against what RQ says of every job."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.results import Result
from rq.serializers import JSONSerializer

from chaos.producer import PHANTOM, POISON, TWICE
from rwkv_tts.keys import audio_key
from worker.broker.claim import EXECUTION_PREFIX, EXECUTIONS_PREFIX

AT_ONCE = 500
RESULTS_PREFIX = "rq:results:"
LEGITIMATE = {"abandoned"}
"""First words of reasons why a good job may fail: too many of its workers have died."""

OF_THE_MODEL = {"model"}
"""More of them, with the real model: for some seeds, random weights end speech before its first token."""


@dataclass
class Audit:
    """What became of the submitted jobs.

    Attributes:
        finished: With exactly one successful result, and its audio.
        failed: With a reason, counted by the reason's first word.
        lost: Not ended, gone, or ended without what an end must have; the ids.
        duplicated: With more than one end; the ids.
        wrong: Ended in another way than such a job must; the ids.
        leftovers: Traces of executions that nobody holds any more.
    """

    submitted: int = 0
    finished: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost_replies: int = 0
    phantoms: int = 0
    leftovers: int = 0

    @property
    def holds(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)


@dataclass(frozen=True)
class Found:
    """One job in Redis."""

    id: str
    kind: str
    status: str
    audio: bytes | None
    results: Sequence[Result]

    def count(self, kind: Result.Type) -> int:
        return sum(result.type == kind for result in self.results)

    @property
    def reason(self) -> str:
        return (self.results[-1].exc_string or "") if self.results else ""


def audit(connection: Redis, queue: Queue, ledgers: Iterable[Path], real: bool) -> Audit:
    """Look at every job that a ledger names; ``real``: the model has run them, no no-op rows."""
    result = Audit()
    entries = []
    for line in (json.loads(text) for ledger in ledgers for text in ledger.read_text().splitlines()):
        if "lost_replies" in line:
            result.lost_replies += line["lost_replies"]
        elif line["kind"] == PHANTOM:
            result.phantoms += 1
        else:
            entries.append((line["id"], line["kind"]))
    result.submitted = len(entries)
    for i in range(0, len(entries), AT_ONCE):
        for found in _look(connection, entries[i : i + AT_ONCE]):
            _judge(found, result, real)
    result.leftovers = _leftovers(connection, queue)
    return result


def _look(connection: Redis, entries: Sequence[tuple[str, str]]) -> list[Found]:
    with connection.pipeline(transaction=False) as pipeline:
        for job_id, _ in entries:
            pipeline.hget(Job.key_for(job_id), "status")
            pipeline.get(audio_key(job_id))
            pipeline.xrange(RESULTS_PREFIX + job_id)
        replies: list[Any] = pipeline.execute()
    return [
        Found(job_id, kind, (status or b"missing").decode(), audio, _results(connection, job_id, stream))
        for (job_id, kind), status, audio, stream in zip(
            entries, replies[::3], replies[1::3], replies[2::3], strict=True
        )
    ]


def _results(connection: Redis, job_id: str, stream: Sequence[tuple[bytes, Any]]) -> list[Result]:
    return [
        Result.restore(job_id, entry.decode(), payload, connection, JSONSerializer) for entry, payload in stream
    ]


def _judge(found: Found, result: Audit, real: bool) -> None:
    """Finished once with its own audio, or failed with a reason; poison must fail, others may not just so."""
    legitimate = LEGITIMATE | OF_THE_MODEL if real else LEGITIMATE
    successes = found.count(Result.Type.SUCCESSFUL)
    ends = successes if found.kind == TWICE else len(found.results)
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
        result.lost.append(f"{found.id} ({found.kind}, {found.status}, {len(found.results)} results)")


def _leftovers(connection: Redis, queue: Queue) -> int:
    """Executions, and entries in lists, that have outlived all jobs."""
    keys = sum(
        1
        for prefix in (EXECUTION_PREFIX, EXECUTIONS_PREFIX)
        for _ in connection.scan_iter(prefix + "*", count=1000)
    )
    return keys + connection.llen(queue.key) + connection.zcard(queue.started_job_registry.key)
