"""Puts jobs on a queue, unless too many wait already."""

import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from rq.queue import Queue

from rwkv_tts.keys import ARGUMENT, FUNCTION, SCHEMA, SCHEMA_META
from rwkv_tts.load import busyness

_LIMIT_SECONDS = 5.0
_ENQUEUED_ELSEWHERE = {"depends_on", "rate_limit", "unique"}
"""Options with which RQ writes more than a queue's list, so that the limit is checked before and not within."""

_ENQUEUE = files(__package__).joinpath("lua/enqueue.lua").read_text()


class QueueFullError(RuntimeError):
    """The queue is at its limit; nothing was queued."""


class Submission:
    """Enqueues the one function that speaks.

    Args:
        queue: Where to.
        limit: Jobs that may wait; what the workers announce when None.
    """

    def __init__(self, queue: Queue, limit: int | None) -> None:
        self._queue = queue
        self._own_limit = limit
        self._limit, self._limit_until = limit, 0.0

    def enqueue(self, request: Any, result_ttl: int | None, job_options: Mapping[str, Any]) -> str:
        """Queue a request as it is, for the worker to judge, and return its job id.

        Raises:
            QueueFullError: Too many jobs wait already; nothing was queued.
        """
        meta = {**(job_options.get("meta") or {}), SCHEMA_META: SCHEMA}
        options = {"description": "speech", "result_ttl": result_ttl, **job_options, "meta": meta}
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
