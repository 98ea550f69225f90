"""Claiming: a job is on a queue or it runs, whatever lies on the queue."""

from typing import Any

import pytest
from redis import Redis
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import Hand, MakeHand, enqueue, fetch, status


def test_a_claimed_job_is_started_and_off_its_queue(hand: Hand, queue: Queue) -> None:
    jobs = [enqueue(queue) for _ in range(3)]
    claimed = hand.claim(2)
    assert [c.id for c in claimed] == jobs[:2]
    assert queue.job_ids == jobs[2:]
    assert [status(queue, i) for i in jobs] == [JobStatus.STARTED, JobStatus.STARTED, JobStatus.QUEUED]
    assert queue.started_job_registry.get_job_ids() == jobs[:2]
    for one in claimed:
        execution = Execution.fetch(one.execution.id, one.id, hand.connection)
        assert execution.worker_name == hand.name
        assert fetch(queue, one.id).worker_name == hand.name
        assert fetch(queue, one.id).get_executions() == [execution]
        assert one.request is not None


def test_queues_are_served_by_priority(connection: Redis, make_hand: MakeHand, queue: Queue) -> None:
    low = Queue(queue.name + "-low", connection=connection, serializer=JSONSerializer)
    hand = make_hand(low)
    jobs = {name: enqueue(q) for name, q in (("low", low), ("high", queue), ("second", queue))}
    claimed = hand.claim(2) + hand.claim(2)
    assert [c.id for c in claimed] == [jobs["high"], jobs["second"], jobs["low"]]
    assert [c.queue.name for c in claimed] == [queue.name, queue.name, low.name]


def test_two_claims_never_share_a_job(make_hand: MakeHand, queue: Queue) -> None:
    jobs = {enqueue(queue) for _ in range(20)}
    one, two = make_hand(), make_hand()
    mine = [c.id for _ in range(5) for hand in (one, two) for c in hand.claim(2)]
    assert len(mine) == 20
    assert set(mine) == jobs


def test_nothing_is_claimed_while_workers_are_suspended(hand: Hand, queue: Queue) -> None:
    enqueue(queue)
    hand.connection.set("rq:suspended", 1)
    try:
        claim = hand.claimer.claim(5)
    finally:
        hand.connection.delete("rq:suspended")
    assert (claim.suspended, list(claim.claimed)) == (True, [])
    assert queue.count == 1


def _break_status(queue: Queue, value: str) -> Any:
    def make() -> str:
        job_id = enqueue(queue)
        queue.connection.hset(Job.key_for(job_id), "status", value)
        return job_id

    return make


@pytest.mark.parametrize("state", ["canceled", "finished"])
def test_jobs_that_have_ended_are_dropped(hand: Hand, queue: Queue, state: str) -> None:
    job_id = _break_status(queue, state)()
    claim = hand.claimer.claim(5)
    assert (claim.dropped, list(claim.claimed)) == (1, [])
    assert status(queue, job_id) == JobStatus(state)
    assert queue.count == 0


@pytest.mark.parametrize("raw_id", [b"gone", b"\xff\x00", b"a b", b"", b"a:b", "é".encode()])
def test_ids_that_name_nothing_are_dropped(hand: Hand, queue: Queue, raw_id: bytes) -> None:
    good = enqueue(queue)
    hand.connection.lpush(queue.key, raw_id)
    claim = hand.claimer.claim(5)
    assert claim.dropped == 1
    assert [c.id for c in claim.claimed] == [good]


def test_an_id_that_was_pushed_twice_runs_once(hand: Hand, make_hand: MakeHand, queue: Queue) -> None:
    job_id = enqueue(queue)
    hand.connection.rpush(queue.key, job_id, job_id)
    assert [c.id for c in hand.claim()] == [job_id]
    hand.connection.rpush(queue.key, job_id)
    assert make_hand().claim() == []


@pytest.mark.parametrize("key", ["rq:job:{}", "rq:executions:{}"])
@pytest.mark.parametrize("kind", ["string", "list", "stream"])
def test_keys_of_a_wrong_type_harm_only_their_job(hand: Hand, queue: Queue, key: str, kind: str) -> None:
    bad, good = enqueue(queue), enqueue(queue)
    key = key.format(bad)
    queue.connection.delete(key)
    if kind == "string":
        queue.connection.set(key, "x")
    elif kind == "list":
        queue.connection.rpush(key, "x")
    else:
        queue.connection.xadd(key, {"x": "y"})
    assert good in [c.id for c in hand.claim()]
    assert queue.count == 0


def test_a_job_keeps_its_hash_while_it_runs(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue, ttl=5)
    assert hand.connection.ttl(Job.key_for(job_id)) > 0
    hand.claim()
    assert hand.connection.ttl(Job.key_for(job_id)) == -1
