"""Runs the same jobs through a stock RQ worker and through ours, and writes down what Redis holds afterwards."""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis
from rq.command import send_shutdown_command
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, SimpleWorker, Worker

import scripted
from rwkv_tts.keys import FUNCTION
from scripted import RESULT_TTL, Script, ScriptedBackend
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules

CALLBACKS = tuple(
    f"{scripted.__name__}.{function.__name__}"
    for function in (
        scripted.tell_success,
        scripted.tell_failure,
        scripted.tell_stopped,
        scripted.break_down,
        scripted.hang,
        scripted.look,
        scripted.tell_later,
    )
)
TOLERANCE = 10.0
_DATES = {"created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "worker_name"}
_OTHER_FIELDS = {"result", "webhooks"}
"""RQ also copies a repeated job's last result into its hash, for nobody to read; webhooks name a random port."""

_OURS = tuple(f"rwkv-tts:{name}" for name in ("lease", "presence", "recovery", "holders", "watch", "bell"))
_NOT_COMPARED = ("rq:worker", "rq:clean", "rq:scheduler", *_OURS)
_OF_JOBS = ("rq:wip:", "rq:execution", ":intermediate", ":executions")
_OF_WORKERS = ("rq:workers", "rq:scheduler", "rwkv-tts:lease")
"""Parts of the names of keys that are there only as long as jobs run, and workers live."""


@dataclass
class Seconds:
    """A time from now; equal to others within the tolerance."""

    value: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seconds) and abs(self.value - other.value) <= TOLERANCE


STARTED = "started"
Observation = dict[str, dict[str, Any]]
"""What Redis holds, by key and part of it, without ids of executions, times of day and names of workers."""


def observe(connection: Any) -> Observation:
    """Write down everything that is comparable; RQ keeps the reason of a failed job longer than the job."""
    seen: Observation = {}
    for raw_key in connection.scan_iter(count=1000):
        key = raw_key.decode()
        if not key.startswith(_NOT_COMPARED) or key.endswith(":executions"):
            ttl = connection.ttl(key)
            forever = ttl == -1 or (key.startswith("rq:results:") and ttl > DEFAULT_FAILURE_TTL - TOLERANCE)
            seen[key] = _content(connection, key) | ({} if forever else {"TTL": Seconds(ttl)})
    return seen


def _content(connection: Any, key: str) -> dict[str, Any]:
    kind = connection.type(key)
    if kind == b"hash":
        fields = {name.decode(): raw for name, raw in connection.hgetall(key).items()}
        return {name: _field(name, raw) for name, raw in fields.items() if name not in _OTHER_FIELDS}
    if kind == b"zset":
        moment = time.time()
        pairs = connection.zrange(key, 0, -1, withscores=True)
        return {member.decode(): _score(score, moment) for member, score in pairs}
    if kind == b"list":
        items = [item.decode() for item in connection.lrange(key, 0, -1)]
        return {"": sorted(items) if key == scripted.TOLD else items}
    if kind == b"set":
        return {"": sorted(item.decode() for item in connection.smembers(key))}
    if kind == b"stream":
        return {"": [_result(connection, key, *entry) for entry in connection.xrange(key)]}
    return {"": connection.get(key)}


def _field(name: str, raw: bytes) -> Any:
    """Of dates and names of workers, whether there are any."""
    return bool(raw) if name in _DATES else raw


def _score(score: float, moment: float) -> Any:
    return Seconds(score - moment) if 1e9 < score < 1e11 else score


def _result(connection: Any, key: str, entry: bytes, payload: dict[bytes, bytes]) -> tuple[Any, ...]:
    """Type and return value; of a reason, whether there is one."""
    result = Result.restore(key, entry.decode(), payload, connection, serializer=JSONSerializer)
    stamped = bool(result.worker_name and result.execution_id and result.execution_ended_at)
    return result.type.name, result.return_value, bool(result.exc_string), stamped


def differences(stock: Observation, ours: Observation) -> dict[str, tuple[Any, Any]]:
    """What differs, as ``key`` or ``key part``: stock's value and ours, None where there is none."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(stock.keys() | ours.keys()):
        theirs, mine = stock.get(key), ours.get(key)
        if theirs is None or mine is None:
            found[key] = theirs, mine
            continue
        for part in sorted(theirs.keys() | mine.keys()):
            if theirs.get(part) != mine.get(part):
                found[f"{key} {part}".strip()] = theirs.get(part), mine.get(part)
    return found


def leftovers(connection: Any, *, running: bool = False) -> list[str]:
    """Keys that only running jobs have, and, unless a worker is still ``running``, only workers."""
    keys = [key.decode() for key in connection.scan_iter(count=1000)]
    parts = _OF_JOBS if running else _OF_JOBS + _OF_WORKERS
    return sorted(key for key in keys if any(part in key for part in parts))


class Stage:
    """One kind of worker on an empty database.

    Args:
        url: Of the database, which is emptied.
        rules: Of our worker.
        rows: Jobs that our worker runs at once.

    Attributes:
        notes: What Redis held after each run of a worker, and what had started by then.
    """

    def __init__(self, url: str, rules: Rules, rows: int = 1) -> None:
        self.url, self.rules, self.rows = url, rules, rows
        self.script = Script()
        self.connection = Redis.from_url(url)
        self.connection.flushdb()
        self.notes: list[Observation] = []
        self.worker: BaseWorker | None = None

    # Producers.

    def queue(self, name: str = "tts") -> Queue:
        return Queue(name, connection=self.connection, serializer=JSONSerializer)

    def request(self, text: str, **metadata: Any) -> dict[str, Any]:
        return {"text": text, "metadata": metadata}

    def submit(self, job_id: str, queue: str = "tts", **options: Any) -> Job:
        """Queue a request whose text is the job's id; options of RQ and metadata may be mixed."""
        metadata = {name: options.pop(name) for name in ("fails", "seconds", "held", "refused") if name in options}
        return self.queue(queue).enqueue(
            FUNCTION, request=self.request(job_id, **metadata), job_id=job_id, description=job_id, **options
        )

    def submit_later(self, job_id: str, seconds: float, **options: Any) -> Job:
        job: Job = self.queue().enqueue_in(
            timedelta(seconds=seconds),
            FUNCTION,
            request=self.request(job_id),
            job_id=job_id,
            description=job_id,
            **options,
        )
        return job

    def job(self, job_id: str) -> Job:
        return Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)

    def status(self, job_id: str) -> JobStatus:
        return self.job(job_id).get_status()

    def until_started(self, *job_ids: str) -> None:
        """Wait until jobs run, and what runs them listens for commands."""
        until(lambda: all(self.status(job_id) == JobStatus.STARTED for job_id in job_ids))
        self.until_listening()

    def until_listening(self) -> None:
        until(lambda: self.worker and self.connection.pubsub_numsub(self.worker.pubsub_channel_name)[0][1])

    def shut_down(self) -> None:
        """Ask the worker to stop, and wait until it knows, or is gone."""
        assert self.worker is not None
        worker = self.worker
        self.until_listening()
        until(lambda: signal.getsignal(signal.SIGINT) == worker.request_stop)
        send_shutdown_command(self.connection, worker.name)
        until(lambda: worker._stop_requested or self.connection.hexists(worker.key, "death"))

    def make_due(self) -> None:
        """Let the time of everything that is scheduled have come."""
        connection: Any = self.connection
        for key in connection.scan_iter("rq:scheduled:*"):
            connection.zadd(key, dict.fromkeys(connection.zrange(key, 0, -1), 1))

    # The worker.

    def work(
        self, during: Callable[[], None] | None = None, *, queues: tuple[str, ...] = ("tts",), burst: bool = True
    ) -> bool:
        """Run a worker here until it ends, with ``during`` in another thread; then write down what there is."""
        self.worker = self.make_worker(queues)
        with _signals_kept(), _beside(during):
            worked = self.worker.work(burst=burst, logging_level="CRITICAL", with_scheduler=burst)
        self.note()
        return worked

    def make_worker(self, queues: tuple[str, ...]) -> BaseWorker:
        raise NotImplementedError

    def note(self) -> None:
        """Write down what Redis holds now; called at the end of every ``work``."""
        assert self.worker is not None
        counts = self.connection.hmget(self.worker.key, ["successful_job_count", "failed_job_count"])
        self.notes.append(
            observe(self.connection) | {STARTED: {"": list(self.script.started)}, "worker": {"counts": counts}}
        )


class Stock(Stage):
    """RQ's own worker: SimpleWorker, or the one that forks."""

    fork = False

    def make_worker(self, queues: tuple[str, ...]) -> BaseWorker:
        return (Worker if self.fork else SimpleWorker)(
            list(queues),
            connection=self.connection,
            serializer=JSONSerializer,
            default_result_ttl=RESULT_TTL,
        )


class Ours(Stage):
    """``BatchWorker`` with a scripted backend."""

    def make_worker(self, queues: tuple[str, ...]) -> BatchWorker:
        return BatchWorker(
            worker_connection(self.url),
            lambda ended, freed: ScriptedBackend(self.script, ended, freed, self.rows),
            self.rules.model_copy(update={"queue": queues}),
            max_jobs=self.rows,
        )


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _beside(action: Callable[[], None] | None) -> Iterator[None]:
    """Run an action in another thread; its error is the block's."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if action is not None:
                action()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def told(connection: Redis) -> list[list[Any]]:
    """What callbacks were told, in order."""
    return [json.loads(line) for line in connection.lrange(scripted.TOLD, 0, -1)]
