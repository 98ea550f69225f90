"""A master and replicas that do not always confirm: what counts as done outlives the master."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from chaos.sentinels import ReplicatedServer
from hands import Hand, enqueue, fetch, leftovers, status
from rwkv_tts import TTSClient, UnconfirmedError
from rwkv_tts.keys import audio_key, lease_key
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.claim import Claimed, Claimer
from worker.broker.commit import Committer, ServerRefusalError
from worker.broker.connection import worker_connection
from worker.broker.jobs import HeldJob
from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome
from worker.broker.replicas import Replicas
from worker.broker.rules import Rules

FAR = 60.0
"""Seconds of delay: what is on its way to replicas does not arrive during a test."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedServer]:
    one = ReplicatedServer(tmp_path_factory.mktemp("replicated"), replicas=1, sentinels=1, lags=True)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def connection(server: ReplicatedServer) -> Redis:
    return worker_connection(server.url)


@pytest.fixture
def queue(connection: Redis) -> Queue:
    return Queue(f"q-{uuid4().hex}", connection=connection, job_class=HeldJob, serializer=JSONSerializer)


@pytest.fixture
def hand(connection: Redis, queue: Queue) -> Hand:
    name = uuid4().hex
    key = f"rq:worker:{name}"
    claimer = Claimer(connection, [queue], name, key, lease_key(name), 1 << 20, deadly=2)
    committer = Committer(connection, name, key, 60, 60, Replicas(connection, name, key, 1, 0.3))
    one = Hand(name, connection, queue, claimer, committer)
    one.live()
    return one


@contextmanager
def silent_replica(server: ReplicatedServer) -> Iterator[None]:
    """For the length of a block it says nothing."""
    (replica,) = [node for node in server.nodes if node is not server.master()]
    replica.send(signal.SIGSTOP)
    try:
        yield
    finally:
        replica.send(signal.SIGCONT)


def outcome(claimed: Claimed) -> Outcome:
    return Outcome(claimed, Fate.FINISHED, {"seconds": 1}, {audio_key(claimed.id): b"audio"})


def test_an_end_counts_when_replicas_have_it(server: ReplicatedServer, hand: Hand, queue: Queue) -> None:
    first, second = enqueue(queue), enqueue(queue)
    (claimed, later) = hand.claim()
    until(lambda: confirmed(hand, outcome(claimed)))
    with silent_replica(server):
        for _ in range(2):
            with pytest.raises(ServerRefusalError, match="0 replicas have confirmed") as error:
                hand.committer.commit([outcome(later)])
            assert error.value.recorded == [None]
        assert status(queue, second) == JobStatus.FINISHED, "on the master"
    until(lambda: confirmed(hand, outcome(later)))
    assert [len(fetch(queue, job).results()) for job in (first, second)] == [1, 1]
    assert leftovers(queue, hand) == []


def confirmed(hand: Hand, end: Outcome, *, whether: bool = True) -> bool:
    """Whether a commit says that an end is recorded, or is not to be."""
    with suppress(RedisError):
        return hand.committer.commit([end]) == [whether]
    return False


def test_a_job_that_others_have_taken_is_lost_at_once(server: ReplicatedServer, hand: Hand, queue: Queue) -> None:
    enqueue(queue)
    (claimed,) = hand.claim()
    fetch(queue, claimed.id).cancel()
    with silent_replica(server):
        assert hand.committer.commit([outcome(claimed)]) == [False]


class Told(Observer):
    """Counts."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.taken: list[str] = []
        self.waited = 0

    def ended(self, outcome: Outcome, /) -> None:
        self.done.append(outcome.claimed.id)

    def lost(self, outcome: Outcome, /) -> None:
        self.taken.append(outcome.claimed.id)

    def refused(self, jobs: int, /) -> None:
        self.waited += jobs


def test_while_replicas_are_silent_results_wait_and_nothing_is_claimed(
    server: ReplicatedServer, queue: Queue
) -> None:
    script, told = Script(), Told()
    worker = BatchWorker(
        worker_connection(server.url),
        lambda ended, freed: ScriptedBackend(script, ended, freed, rows=4),
        Rules(queue=(queue.name,), lease_timeout=4, commit_replicas=1),
        max_jobs=4,
        observers=(told,),
    )
    client = TTSClient(server.url, queue.name)
    with in_thread(worker):
        running = [client.submit(f"job {number}", metadata={"held": True}) for number in range(4)]
        until(lambda: len(script.started) == 4)
        with silent_replica(server):
            later = [client.submit(f"job {number}") for number in range(4, 8)]
            script.release.set()
            until(lambda: worker.trouble is not None and "replicas have confirmed" in worker.trouble)
            until(lambda: told.waited > 8)
            assert (len(script.started), told.done) == (4, [])
        until(lambda: len(told.done) == 8)
        until(lambda: worker.trouble is None)
    assert (sorted(told.done), told.taken) == (sorted(running + later), [])
    assert all(len(fetch(queue, job).results()) == 1 for job in running + later)


@pytest.mark.slow
def test_a_submit_returns_when_replicas_have_the_job(server: ReplicatedServer, queue: Queue) -> None:
    client = TTSClient(server.url, queue.name, commit_replicas=1)
    job_id = client.submit("confirmed")
    with silent_replica(server):
        with pytest.raises(UnconfirmedError, match="may or may not be queued") as error:
            client.submit("unconfirmed")
        again = {"job_id": error.value.job_id, "unique": True}
        with pytest.raises(UnconfirmedError, match=error.value.job_id):
            client.submit("unconfirmed", job_options=again)
    with pytest.raises(DuplicateJobError):
        client.submit("unconfirmed", job_options=again)
    assert queue.job_ids == [job_id, error.value.job_id]


@pytest.mark.slow
def test_what_a_failover_forgets_is_done_again(server: ReplicatedServer, hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue)
    (claimed,) = hand.claim()
    late = enqueue(queue)
    until(lambda: hand.connection.wait(1, 1000) == 1)
    server.lag.seconds = FAR
    (claimed_late,) = hand.claim()
    client = TTSClient(server.url, queue.name, commit_replicas=1)
    with pytest.raises(UnconfirmedError) as error:
        client.submit("never heard of")
    with pytest.raises(ServerRefusalError):
        hand.committer.commit([outcome(claimed), outcome(claimed_late)])
    server.lag.seconds = 0.0
    server.crash()
    assert status(queue, job_id) == JobStatus.STARTED, "the new master does not know"
    until(lambda: confirmed(hand, outcome(claimed)))
    until(lambda: confirmed(hand, outcome(claimed_late), whether=False))
    assert (status(queue, job_id), len(fetch(queue, job_id).results())) == (JobStatus.FINISHED, 1)
    assert queue.connection.get(audio_key(job_id)) == b"audio"
    options = {"job_id": error.value.job_id, "unique": True}
    assert client.submit("never heard of", job_options=options) == error.value.job_id
    assert queue.job_ids == [late, error.value.job_id], "nobody has started the first, as far as anybody knows"
    assert leftovers(queue, hand) == []
