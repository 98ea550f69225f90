"""Keys that hold what RQ never writes: they cost the job that they belong to, never the worker."""

from collections.abc import Callable

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from rq.job import Dependency, Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimit

from hands import Hand, enqueue, leftovers, status
from rwkv_tts.keys import RECOVERY_PREFIX, lease_key
from rwkv_tts.refusal import Cause, Refusal
from worker.broker.batch_worker import BatchWorker
from worker.broker.outcome import Fate, Outcome
from worker.broker.recovery import Recovery
from worker.broker.rules import Rules
from worker.broker.scheduled import Scheduler
from worker.broker.tolerance import is_malformed, tolerant

LIMIT = RateLimit("limit", 5)


def finish(hand: Hand) -> list[bool]:
    """Run everything that is queued."""
    return hand.committer.commit([Outcome(one, Fate.FINISHED, result={}) for one in hand.claim()])


def raw_status(connection: Redis, job_id: str) -> bytes | None:
    return connection.hget(Job.key_for(job_id), "status")  # type: ignore[return-value]


@pytest.mark.parametrize("part", ["rq:rl:bad", "rq:rl:bad:allowed", "rq:rl:bad:rate_limited"])
def test_the_rate_limit_of_a_finished_job(hand: Hand, queue: Queue, connection: Redis, part: str) -> None:
    job_id = enqueue(queue)
    connection.hset(Job.key_for(job_id), mapping={"rate_limit_key": "bad", "rate_limit_concurrency": 1})
    connection.set(part, "x")
    assert finish(hand) == [True]
    connection.delete(part)
    assert status(queue, job_id) == JobStatus.FINISHED
    assert leftovers(queue, hand) == []


def _no_set(connection: Redis, parent: str, child: str) -> None:
    connection.delete(f"rq:job:{parent}:dependents")
    connection.set(f"rq:job:{parent}:dependents", "x")


BREAK: dict[str, Callable[[Redis, str, str], object]] = {
    "no set": _no_set,
    "no text": lambda connection, parent, _: connection.sadd(f"rq:job:{parent}:dependents", b"\xff"),
    "no hash": lambda connection, parent, _: (
        connection.set("rq:job:no-hash", "x"),
        connection.sadd(f"rq:job:{parent}:dependents", "no-hash"),
    ),
    "no ids": lambda connection, _, child: connection.hset(f"rq:job:{child}", "dependency_ids", "[]"),
}


@pytest.mark.parametrize("how", BREAK)
def test_the_dependents_of_a_finished_job(hand: Hand, queue: Queue, connection: Redis, how: str) -> None:
    parent = enqueue(queue)
    child = enqueue(queue, depends_on=Dependency(jobs=[parent]))
    BREAK[how](connection, parent, child)
    assert finish(hand) == [True]
    assert status(queue, parent) == JobStatus.FINISHED
    assert leftovers(queue, hand) == []
    assert raw_status(connection, child) == b"deferred"
    connection.delete("rq:job:no-hash")


@pytest.mark.parametrize(
    "fields",
    [
        {"repeats_left": "-1"},
        {"repeats_left": "1", "repeat_intervals": "[]"},
        {"repeats_left": "1", "repeat_intervals": "[-5]"},
    ],
)
def test_repeats_of_a_finished_job(hand: Hand, queue: Queue, connection: Redis, fields: dict[str, str]) -> None:
    job_id = enqueue(queue)
    connection.hset(Job.key_for(job_id), mapping=fields)  # type: ignore[arg-type]
    assert finish(hand) == [True]
    assert raw_status(connection, job_id) in (b"finished", b"queued", b"scheduled")
    assert leftovers(queue, hand) == []


def test_what_rq_stumbles_over_fails_the_job(hand: Hand, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = enqueue(queue)
    [claimed] = hand.claim()
    claimed.job.repeats_left, claimed.job.repeat_intervals = 1, [10**30]  # restoring would have refused it
    assert hand.committer.commit([Outcome(claimed, Fate.FINISHED, result={})]) == [True]
    assert raw_status(queue.connection, job_id) == b"failed"
    assert leftovers(queue, hand) == []


@pytest.mark.parametrize("member", [b"\xff:e", b"a b:e", b"", b":", b"id:\xff", b"id", b"id:a b"])
@pytest.mark.parametrize("execution", ["none", "wrong type", "odd fields"])
def test_entries_of_the_started_registry(hand: Hand, queue: Queue, member: bytes, execution: str) -> None:
    connection, key = queue.connection, b"rq:execution:" + member
    connection.zadd(queue.started_job_registry.key, {member: 1})
    job = b"rq:job:" + member.rpartition(b":")[0] if b":" in member else b"rq:job:" + member
    connection.hset(job, mapping={"status": "started", "data": "x"})
    if execution == "wrong type":
        connection.set(key, "x")
    elif execution == "odd fields":
        connection.set(b"rq:worker:\xff:executions", "x")
        fields = {"lease": queue.started_job_registry.key, "worker_name": b"\xff"}
        connection.hset(key, mapping=fields)  # type: ignore[arg-type]
    recovery = Recovery(connection, hand.name, lease_key(hand.name), 1, hand.claimer)
    connection.delete(RECOVERY_PREFIX + queue.name)
    _, exhausted = recovery.run(queue, 1.0)
    hand.committer.commit(
        [Outcome(one.claimed, Fate.FAILED, refusal=Refusal("", Cause.ABANDONED, "dead")) for one in exhausted]
    )
    found = raw_status(connection, "id")
    connection.delete(key, job, b"rq:worker:\xff:executions")
    assert leftovers(queue, hand) == []
    if member.startswith(b"id"):
        assert found == b"failed"


def test_entries_of_the_scheduled_registry(connection: Redis, queue: Queue) -> None:
    fields = {"data": "x", "rate_limit_key": "late", "rate_limit_concurrency": "1"}
    connection.hset(b"rq:job:\xff", mapping=fields)  # type: ignore[arg-type]
    connection.hset("rq:job:late", mapping=fields)  # type: ignore[arg-type]
    connection.set("rq:rl:late", "not a hash")
    connection.zadd(queue.scheduled_job_registry.key, {b"\xff": 1, b"late": 1})
    scheduler = Scheduler(connection, [queue])
    scheduler.start()
    scheduler.run()
    scheduler.stop()
    connection.delete(b"rq:job:\xff", "rq:rl:late", "rq:rl:late:allowed", "rq:rl-keys")
    assert connection.zcard(queue.scheduled_job_registry.key) == 0
    assert queue.job_ids == ["late"]


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"command":' * 50_000, b"\xff", b"[]", b'{"command": [[]]}'])
def test_messages_of_the_workers_channel(connection: Redis, queue: Queue, data: bytes) -> None:
    rules = Rules(queue=(queue.name,))
    worker = BatchWorker(connection, lambda *_: None, rules, max_jobs=1)  # type: ignore[arg-type]
    worker._crew.commands.handle_command({"data": data})


def test_an_error_of_redis_is_not_the_data() -> None:
    assert is_malformed(ResponseError("WRONGTYPE Operation against a key"))
    assert is_malformed(OverflowError())
    for error in (RedisConnectionError(), ResponseError("MISCONF no disk"), ConnectionResetError()):
        assert not is_malformed(error)
        with pytest.raises(type(error)), tolerant("a test"):
            raise error
