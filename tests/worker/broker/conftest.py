"""A queue of its own for each test, on a real server, and the parts of a worker around it."""

from uuid import uuid4

import pytest
from redis import Redis
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import Hand, MakeHand
from worker.broker.claim import Claimer
from worker.broker.commit import Committer
from worker.broker.jobs import SpeechJob
from worker.keys import lease_key


@pytest.fixture
def queue(connection: Redis) -> Queue:
    return Queue(f"q-{uuid4().hex}", connection=connection, job_class=SpeechJob, serializer=JSONSerializer)


@pytest.fixture
def make_hand(connection: Redis, queue: Queue) -> MakeHand:
    def make(*more: Queue, result_ttl: int = 60) -> Hand:
        name = uuid4().hex
        key = f"rq:worker:{name}"
        claimer = Claimer(connection, [queue, *more], name, key, lease_key(name), 1 << 20, deadly=2)
        hand = Hand(name, connection, queue, claimer, Committer(connection, name, key, result_ttl))
        hand.live()
        return hand

    return make


@pytest.fixture
def hand(make_hand: MakeHand) -> Hand:
    return make_hand()
