"""Waits until replicas have what was written, so that it outlives the master."""

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from worker.broker.outcome import Fate, Outcome


class Replicas:
    """Those of the master that this worker writes to.

    Args:
        connection: Redis.
        worker_name: RQ's name of the worker.
        worker_key: Redis key of the worker's hash.
        count: How many must have it.
        seconds: How long they may take.
    """

    def __init__(self, connection: Redis, worker_name: str, worker_key: str, count: int, seconds: float) -> None:
        self._connection, self._worker, self._worker_key = connection, worker_name.encode(), worker_key
        self.count, self.seconds = count, seconds

    def have(self, ends: Sequence[Outcome]) -> tuple[int, list[bool | None]]:
        """How many replicas have all that the master has, and what it knows of ends that were recorded.

        All of it goes over one connection: the replicas that answer are then those of the master that is asked.
        WAIT counts those that have the last write of its own connection, so there must be one: the worker's hash
        says how many it waits for. When too few answer, the next command goes over a new connection: a
        master that has been replaced does not end those that it has for seconds.

        Returns:
            The replicas, and for each end whether it stands; None where the job is still started. A master that
            took another's place may know neither end nor start: there the job is not ours any more.
        """
        with self._connection.pipeline(transaction=False) as pipeline:
            for outcome in ends:
                pipeline.zscore(outcome.claimed.queue.started_job_registry.key, outcome.claimed.member)
                pipeline.hmget(outcome.claimed.job.key, "status", "worker_name")
            pipeline.hset(self._worker_key, "commit_replicas", self.count)
            pipeline.wait(self.count, round(1000 * self.seconds))
            *known, wrote, replicas = pipeline.execute(raise_on_error=False)
        for reply in (*known[::2], wrote, replicas):
            if isinstance(reply, RedisError):
                raise reply
        if replicas < self.count:
            self._connection.connection_pool.disconnect(inuse_connections=False)
        looks = zip(ends, known[::2], known[1::2], strict=True)
        return replicas, [self._stands(end, job) if score is None else None for end, score, job in looks]

    def _stands(self, outcome: Outcome, job: Any) -> bool:
        """Whether a job that is not started by us any more has ended as we say.

        One that goes back or tries again may be anybody's by now. One that is over still has our name, unless it
        is gone or has keys that no RQ writes.
        """
        if outcome.fate is Fate.PUT_BACK or outcome.tries_again or isinstance(job, RedisError):
            return True
        status, worker = job
        return status is None or worker == self._worker
