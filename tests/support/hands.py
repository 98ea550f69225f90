"""The parts of a worker, to take jobs step by step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from rwkv_tts.keys import ARGUMENT, FUNCTION, lease_key
from worker.broker.claim import Claimed, Claimer
from worker.broker.commit import Committer


@dataclass
class Hand:
    """What a worker named ``name`` does to jobs, step by step."""

    name: str
    connection: Redis
    queue: Queue
    claimer: Claimer
    committer: Committer

    def claim(self, count: int = 100) -> list[Claimed]:
        return list(self.claimer.claim(count).claimed)

    def live(self) -> None:
        self.connection.set(lease_key(self.name), "{}")

    def die(self) -> None:
        self.connection.delete(lease_key(self.name))


MakeHand = Callable[..., Hand]
_FAILURE_TTL = 7 * 86400


def new_hand(connection: Redis, queue: Queue, *more: Queue, result_ttl: int = 60) -> Hand:
    """A living worker of these queues."""
    name = uuid4().hex
    key = f"rq:worker:{name}"
    claimer = Claimer(connection, [queue, *more], name, key, lease_key(name), 1 << 20, deadly=2)
    hand = Hand(name, connection, queue, claimer, Committer(connection, name, key, result_ttl, _FAILURE_TTL))
    hand.live()
    return hand


def enqueue(queue: Queue, **options: Any) -> str:
    """Queue a good request; its job id."""
    plain = Queue(queue.name, connection=queue.connection, serializer=JSONSerializer)
    return str(plain.enqueue_call(FUNCTION, kwargs={ARGUMENT: {"text": "hello"}}, **options).id)


def fetch(queue: Queue, job_id: str) -> Job:
    return Job.fetch(job_id, connection=queue.connection, serializer=JSONSerializer)


def status(queue: Queue, job_id: str) -> JobStatus:
    return fetch(queue, job_id).get_status()


def leftovers(queue: Queue, *hands: Hand) -> list[bytes]:
    """Keys of executions that should be gone when nothing runs."""
    connection, found = queue.connection, []
    if connection.zcard(queue.started_job_registry.key):
        found.append(queue.started_job_registry.key.encode())
    for hand in hands:
        found += connection.smembers(f"rq:worker:{hand.name}:executions")
    return found
