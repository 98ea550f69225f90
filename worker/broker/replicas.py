"""Waits until replicas have what was written, so that it outlives the master."""

from collections.abc import Sequence

from redis import Redis

from worker.broker.claim import Claimed


class Replicas:
    """Those of the master that this worker writes to.

    Args:
        connection: Redis.
        worker_key: Redis key of the worker's hash.
        count: How many must have it.
        seconds: How long they may take.
    """

    def __init__(self, connection: Redis, worker_key: str, count: int, seconds: float) -> None:
        self._connection, self._worker_key = connection, worker_key
        self.count, self.seconds = count, seconds

    def have(self, ended: Sequence[Claimed]) -> tuple[int, list[bool]]:
        """How many replicas have all that the master has, and whether executions have ended there.

        All of it goes over one connection: the replicas that answer are then those of the master that is asked.
        WAIT counts those that have the last write of its own connection, so there must be one: a worker that ends
        jobs is busy, as its hash says already. When too few answer, the next command goes over a new connection: a
        master that has been replaced does not end those that it has for seconds.
        """
        with self._connection.pipeline(transaction=False) as pipeline:
            for claimed in ended:
                pipeline.zscore(claimed.queue.started_job_registry.key, claimed.member)
            pipeline.hset(self._worker_key, "state", "busy")
            pipeline.wait(self.count, round(1000 * self.seconds))
            *scores, _, replicas = pipeline.execute()
        if replicas < self.count:
            self._connection.connection_pool.disconnect(inuse_connections=False)
        return replicas, [score is None for score in scores]
