"""Puts jobs on a queue, unless too many wait already."""

import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from uuid import uuid4

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.exceptions import DuplicateJobError
from rq.job import Job
from rq.queue import Queue

from rwkv_tts.keys import ARGUMENT, FUNCTION, SCHEMA, SCHEMA_META
from rwkv_tts.load import busyness

_LIMIT_SECONDS = 5.0
_SHORT_TEXT = 2_000
_SECONDS_PER_CHARACTER = 0.1
"""That a longer text adds to a job's timeout: a loaded worker without a GPU speaks it in less."""
_ENQUEUED_ELSEWHERE = {"depends_on", "rate_limit", "unique"}
"""Options with which RQ writes more than a queue's list, so that the limit is checked before and not within."""

_CONFIRM_SECONDS = 2.5
"""That replicas may take; less than the socket timeout of redis-py, which is 5 seconds by default."""

_ENQUEUE = files(__package__).joinpath("lua/enqueue.lua").read_text()
_TOUCH = files(__package__).joinpath("lua/touch.lua").read_text()


class QueueFullError(RuntimeError):
    """The queue is at its limit; nothing was queued."""


class UnconfirmedError(RuntimeError):
    """A job may or may not be queued; submitting it again under its id is safe.

    Attributes:
        job_id: The job.
    """

    def __init__(self, job_id: str, reason: object) -> None:
        super().__init__(
            f"job {job_id}: {reason}; it may or may not be queued; to be sure, submit it again with "
            f"job_options={{'job_id': '{job_id}', 'unique': True}}: DuplicateJobError then says that it is"
        )
        self.job_id = job_id


class Submission:
    """Enqueues the one function that speaks.

    Args:
        queue: Where to.
        limit: Jobs that may wait; what the workers announce when None.
        replicas: Those of Redis that must have a job before it counts as queued.
    """

    def __init__(self, queue: Queue, limit: int | None, replicas: int = 0) -> None:
        self._queue = queue
        self._replicas = replicas
        self._own_limit = limit
        self._limit, self._limit_until = limit, 0.0

    def enqueue(self, request: Any, result_ttl: int | None, job_options: Mapping[str, Any]) -> str:
        """Queue a request as it is, for the worker to judge, and return its job id.

        Raises:
            QueueFullError: Too many jobs wait already; nothing was queued.
            UnconfirmedError: Replicas that must have the job did not confirm, or Redis went away meanwhile.
        """
        meta = {**(job_options.get("meta") or {}), SCHEMA_META: SCHEMA}
        given = {"timeout": _timeout(self._queue, request), **job_options}
        options = {"description": "speech", "result_ttl": result_ttl, **given, "meta": meta}
        if not self._replicas:
            return self._within_limit(request, options)
        job_id = str(options.setdefault("job_id", str(uuid4())))
        try:
            self._within_limit(request, options)
        except DuplicateJobError:
            self._confirm(job_id)
            raise
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise UnconfirmedError(job_id, f"redis: {error}") from error
        self._confirm(job_id)
        return job_id

    def _confirm(self, job_id: str) -> None:
        """Return when replicas have the job; all over one connection, and thus one master.

        When too few answer, the next command goes over a new connection: it may be time for another master.
        """
        try:
            with self._queue.connection.pipeline(transaction=False) as pipeline:
                pipeline.eval(_TOUCH, 1, Job.key_for(job_id))
                pipeline.wait(self._replicas, round(1000 * _CONFIRM_SECONDS))
                is_there, replicas = pipeline.execute()
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise UnconfirmedError(job_id, f"redis: {error}") from error
        if not is_there:
            raise UnconfirmedError(job_id, "redis: it is gone, as after a failover")
        if replicas < self._replicas:
            self._queue.connection.connection_pool.disconnect(inuse_connections=False)
            told = f"{replicas} replicas have confirmed it within {_CONFIRM_SECONDS} s, {self._replicas} must"
            raise UnconfirmedError(job_id, told)

    def _within_limit(self, request: Any, options: Mapping[str, Any]) -> str:
        """Queue a request, unless too many wait, and return its job id."""
        limit = self._current_limit()
        if limit is None:
            return self._enqueue(request, options)
        if _ENQUEUED_ELSEWHERE & options.keys():
            self._within(limit, [])
            return self._enqueue(request, options)
        with self._queue.connection.pipeline() as pipeline:
            job_id = self._enqueue(request, {**options, "pipeline": pipeline})
            self._within(limit, [args for args, _ in pipeline.command_stack])
            pipeline.command_stack.clear()
        return job_id

    def _enqueue(self, request: Any, options: Mapping[str, Any]) -> str:
        return str(self._queue.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}, **options).id)

    def _current_limit(self) -> int | None:
        """Our own limit, else the one that the workers announce, asked for every few seconds."""
        if self._own_limit is None and time.monotonic() >= self._limit_until:
            self._limit, self._limit_until = busyness(self._queue).queue.limit, time.monotonic() + _LIMIT_SECONDS
        return self._limit

    def _within(self, limit: int, commands: Sequence[Sequence[Any]]) -> None:
        """Run commands that enqueue a job, unless ``limit`` jobs wait already."""
        arguments: list[Any] = [limit]
        for command in commands:
            arguments += [len(command), *command]
        if self._queue.connection.eval(_ENQUEUE, 1, self._queue.key, *arguments):
            return
        load = busyness(self._queue).queue
        wait = "unknown" if load.estimated_wait is None else f"{load.estimated_wait:.0f} s"
        raise QueueFullError(
            f"queue {self._queue.name}: {load.depth} jobs wait, {limit} may; "
            f"estimated wait {wait}; try again later"
        )


def _timeout(queue: Queue, request: Any) -> int | None:
    """Seconds that a job may run, where nobody says; RQ's own for all but long texts."""
    text = request.get("text") if isinstance(request, dict) else None
    beyond = len(text) - _SHORT_TEXT if isinstance(text, str) else 0
    return None if beyond <= 0 else round(queue._default_timeout + _SECONDS_PER_CHARACTER * beyond)
