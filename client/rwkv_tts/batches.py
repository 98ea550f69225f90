"""Batches: many requests under one name. All that is known of one is in Redis, so that any process may ask.

The id of a job follows from the name of its batch and the id of its line, so that a line that is sent again is not
spoken again: whoever was interrupted sends all of them anew, and only what is missing is queued.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus

from rwkv_tts.client import TTSClient
from rwkv_tts.keys import BATCH_PREFIX
from rwkv_tts.results import results_key
from rwkv_tts.schema import SynthesisRequest

_KEPT_SECONDS = 7 * 24 * 3600
"""That a batch is known after somebody has asked for it last."""

_AT_ONCE = 500
_BEGUN, _CANCELLED = ":begun", ":cancelled"
"""Fields beside the lines, whose ids have no colon."""

_STATES = {
    JobStatus.STARTED: "running",
    JobStatus.FINISHED: "finished",
    JobStatus.FAILED: "failed",
    JobStatus.STOPPED: "cancelled",
    JobStatus.CANCELED: "cancelled",
}
_AGAIN = ("failed", "cancelled")


class BatchError(ValueError):
    """A batch that there is not, or a line that contradicts it; one line."""


@dataclass(frozen=True)
class BatchLine:
    """A line of a batch.

    Attributes:
        id: Of the line; without a colon.
        job_id: Of its job.
        format: Of its audio.
        state: ``queued``, ``running``, ``finished``, ``failed``, ``cancelled``, or ``missing`` where there is no
            job, because it was not queued yet or its result has expired.
    """

    id: str
    job_id: str
    format: str
    state: str


@dataclass(frozen=True)
class Batch:
    """What is known of a batch.

    Attributes:
        begun: When it was, in Unix seconds.
        cancelled: Whether it was.
        lines: In their order.
    """

    begun: float
    cancelled: bool
    lines: list[BatchLine]

    @property
    def counts(self) -> Counter[str]:
        """Lines by their state."""
        return Counter(line.state for line in self.lines)


class BatchStore:
    """The batches of one queue.

    Args:
        client: Of the queue.
        result_ttl: Seconds that results and audio are kept.
    """

    def __init__(self, client: TTSClient, result_ttl: int) -> None:
        self._client, self._redis, self._ttl = client, client.connection, result_ttl

    def begin(self, name: str, requests: Sequence[tuple[str, SynthesisRequest]]) -> None:
        """Note lines, by their ids, under the name of a batch; nothing is queued yet.

        Raises:
            BatchError: A line is there with another request; nothing was noted.
        """
        known = self._read(name)
        first = len(known)
        told = {one: [_digest(request), request.format] for one, request in requests}
        for line_id, line in told.items():
            if line_id in known and json.loads(known[line_id])[1:] != line:
                raise BatchError(f"{line_id!r} is in the batch already, with another request")
        new = {one: json.dumps([first + at, *line]) for at, (one, line) in enumerate(told.items())}
        fields = {_BEGUN: time.time(), **new} | known | {_CANCELLED: ""}
        self._redis.hset(self._key(name), mapping=cast("dict[Any, Any]", fields))
        self._redis.expire(self._key(name), _KEPT_SECONDS)

    def submit(self, name: str, requests: Sequence[tuple[str, SynthesisRequest]]) -> int:
        """Queue the lines that are not queued, running or finished, and return how many.

        Raises:
            QueueFullError: Too many jobs wait already; the lines before are queued.
        """
        count = 0
        states = list(self._states([self.job_id(name, line_id) for line_id, _ in requests]))
        for (line_id, request), state in zip(requests, states, strict=True):
            if state in _AGAIN:
                job_id = self.job_id(name, line_id)
                self._redis.delete(Job.key_for(job_id), results_key(job_id))
            if state in (*_AGAIN, "missing"):
                count += self._submit(self.job_id(name, line_id), request)
        return count

    def _submit(self, job_id: str, request: SynthesisRequest) -> bool:
        """Queue a line, unless somebody else just did."""
        try:
            options = {"job_id": job_id, "unique": True}
            self._client.enqueue(request, result_ttl=self._ttl, job_options=options)
        except DuplicateJobError:
            return False
        return True

    def get(self, name: str) -> Batch:
        """What is known of a batch.

        Raises:
            BatchError: There is none of this name.
        """
        fields = self._read(name)
        if _BEGUN not in fields:
            raise BatchError("there is no such batch, or nobody has asked for it for a week")
        self._redis.expire(self._key(name), _KEPT_SECONDS)
        told = {line: json.loads(fields[line]) for line in fields if not line.startswith(":")}
        ids = sorted(told, key=lambda line: int(told[line][0]))
        job_ids = [self.job_id(name, line_id) for line_id in ids]
        states = zip(ids, job_ids, self._states(job_ids), strict=True)
        lines = [BatchLine(line_id, job_id, told[line_id][2], state) for line_id, job_id, state in states]
        return Batch(float(fields[_BEGUN]), bool(fields.get(_CANCELLED)), lines)

    def cancel(self, name: str) -> None:
        """Cancel all of its jobs that have not ended.

        Raises:
            BatchError: There is none of this name.
        """
        batch = self.get(name)
        self._redis.hset(self._key(name), _CANCELLED, "1")
        for line in batch.lines:
            if line.state in ("queued", "running"):
                try:
                    self._client.cancel(line.job_id)
                except NoSuchJobError:
                    continue

    def job_id(self, name: str, line_id: str) -> str:
        """The id of a line's job."""
        return "batch-" + hashlib.sha256(f"{self._key(name)}\n{line_id}".encode()).hexdigest()[:40]

    def _key(self, name: str) -> str:
        return f"{BATCH_PREFIX}{self._client.queue}:{name}"

    def _read(self, name: str) -> dict[str, str]:
        fields = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(name)))
        return {field.decode(): value.decode() for field, value in fields.items()}

    def _states(self, job_ids: Sequence[str]) -> Iterator[str]:
        """What is known of jobs, some hundreds in one round trip."""
        for at in range(0, len(job_ids), _AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipeline:
                for job_id in job_ids[at : at + _AT_ONCE]:
                    pipeline.hget(Job.key_for(job_id), "status")
                for status in pipeline.execute():
                    yield "missing" if status is None else _STATES.get(status.decode(), "queued")


def _digest(request: SynthesisRequest) -> str:
    told = json.dumps(request.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]
