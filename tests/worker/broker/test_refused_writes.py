"""A Redis that refuses to write: jobs and their results wait in the worker, and none is ever in no place."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import RedisError
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import Hand, enqueue, fetch, leftovers, status
from rwkv_tts.keys import audio_key, lease_key
from rwkv_tts.refusal import Cause, Refusal
from scripted import Script, ScriptedBackend
from servers import SERVERS
from threads import in_thread
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.claim import Claimer
from worker.broker.commit import Committer, ServerRefusalError
from worker.broker.connection import worker_connection
from worker.broker.jobs import HeldJob
from worker.broker.outcome import Fate, Outcome
from worker.broker.recovery import Recovery
from worker.broker.rules import Rules

AUDIO = b"a" * 4096
Refuse = Callable[[Redis], None]


def full(connection: Redis) -> None:
    connection.config_set("maxmemory", 1)


def too_few_replicas(connection: Redis) -> None:
    connection.config_set("min-replicas-to-write", 1)


def read_only(connection: Redis) -> None:
    connection.replicaof("127.0.0.1", "1")


def no_snapshot(connection: Redis) -> None:
    """A folder is where the snapshot belongs, so that saving fails, as on a full disk."""
    snapshot(connection).unlink(missing_ok=True)
    snapshot(connection).mkdir()
    connection.config_set("save", "3600 1")
    connection.bgsave()
    until(lambda: connection.info("persistence")["rdb_last_bgsave_status"] == "err")


def snapshot(connection: Redis) -> Path:
    settings: Any = connection.config_get("d*")
    return Path(settings["dir"], settings["dbfilename"])


def relent(connection: Redis) -> None:
    """Take writes again."""
    if snapshot(connection).is_dir():
        snapshot(connection).rmdir()
        connection.bgsave()
        until(lambda: connection.info("persistence")["rdb_last_bgsave_status"] == "ok")
        connection.config_set("save", "")
    connection.replicaof("NO", "ONE")
    connection.config_set("maxmemory", 0)
    connection.config_set("min-replicas-to-write", 0)


REFUSALS: dict[str, Refuse] = {
    "OOM": full,
    "NOREPLICAS": too_few_replicas,
    "READONLY": read_only,
    "MISCONF": no_snapshot,
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of its own, whose settings change."""
    folder = tmp_path_factory.mktemp("refusing")
    path = folder / "redis.sock"
    with SERVERS[request.param](folder, path):
        yield f"unix://{path}"


@pytest.fixture
def connection(server: str) -> Iterator[Redis]:
    one = Redis.from_url(server)
    one.config_set("maxmemory-policy", "noeviction")
    yield one
    relent(one)
    one.flushall()


@pytest.fixture
def hand(connection: Redis, queue: Queue) -> Hand:
    return make_hand(connection, queue)


def make_hand(connection: Redis, queue: Queue) -> Hand:
    name = uuid4().hex
    key = f"rq:worker:{name}"
    claimer = Claimer(connection, [queue], name, key, lease_key(name), 1 << 20, deadly=2)
    one = Hand(name, connection, queue, claimer, Committer(connection, name, key, 60, 600))
    one.live()
    return one


@pytest.fixture
def queue(connection: Redis) -> Queue:
    return Queue(f"q-{uuid4().hex}", connection=connection, job_class=HeldJob, serializer=JSONSerializer)


def outcomes(hand: Hand) -> list[Outcome]:
    """Of each kind one, for four jobs."""
    finished, failed, stopped, back = hand.claim()
    refusal = Refusal("row", Cause.INTERNAL, "told to fail")
    return [
        Outcome(finished, Fate.FINISHED, {"seconds": 1}, {audio_key(finished.id): AUDIO}),
        Outcome(failed, Fate.FAILED, refusal=refusal),
        Outcome(stopped, Fate.STOPPED, refusal=refusal),
        Outcome(back, Fate.PUT_BACK),
    ]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refused_commit_writes_nothing_and_is_repeated(
    hand: Hand, queue: Queue, connection: Redis, code: str
) -> None:
    jobs = [enqueue(queue) for _ in range(4)]
    waiting = outcomes(hand)
    before = connection.dbsize()
    REFUSALS[code](connection)
    for _ in range(3):
        with pytest.raises(ServerRefusalError, match=code) as caught:
            hand.committer.commit(waiting)
        assert caught.value.recorded == [None] * 4
    assert connection.dbsize() == before
    assert {status(queue, job) for job in jobs} == {JobStatus.STARTED}
    assert len(queue.started_job_registry.get_job_ids()) == 4
    relent(connection)
    assert hand.committer.commit(waiting) == [True] * 4
    assert [status(queue, job).value for job in jobs] == ["finished", "failed", "stopped", "queued"]
    assert connection.get(audio_key(jobs[0])) == AUDIO
    assert [len(fetch(queue, job).results()) for job in jobs] == [1, 1, 1, 0]
    assert leftovers(queue, hand) == []


@pytest.mark.parametrize("code", REFUSALS)
def test_dependents_follow_once_when_redis_writes_again(
    hand: Hand, queue: Queue, connection: Redis, code: str
) -> None:
    """A transaction may be taken where a script is not: then the job has ended, and its dependents are ready."""
    first = enqueue(queue)
    dependent = enqueue(queue, depends_on=first)
    (claimed,) = hand.claim()
    outcome = Outcome(claimed, Fate.FINISHED, {"seconds": 1}, {audio_key(first): AUDIO})
    REFUSALS[code](connection)
    with suppress(RedisError):
        hand.committer.commit([outcome])
    assert queue.count == 0
    relent(connection)
    hand.committer.commit([outcome])
    queue.ready_job_registry.cleanup()
    assert (status(queue, first), queue.job_ids) == (JobStatus.FINISHED, [dependent])
    assert len(fetch(queue, first).results()) == 1
    assert leftovers(queue, hand) == []


@pytest.mark.parametrize("right", ["-zrem", "-srem", "-del", "-rpush -lpush"])
def test_a_want_of_a_right_in_the_midst_of_a_job_ends_no_job_twice(
    server: str, connection: Redis, queue: Queue, right: str
) -> None:
    admin: Any = connection
    admin.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow", "+@all", "~*", "&*")
    narrow = Redis(unix_socket_path=server.removeprefix("unix://"), username="narrow", password="narrow")
    hand = make_hand(narrow, queue)
    jobs = [enqueue(queue) for _ in range(4)]
    waiting = outcomes(hand)
    admin.execute_command("ACL", "SETUSER", "narrow", *right.split())
    for _ in range(3):
        with pytest.raises(ServerRefusalError, match="NOPERM"):
            hand.committer.commit(waiting)
    admin.execute_command("ACL", "SETUSER", "narrow", "+@all")
    hand.committer.commit(waiting)
    assert [status(queue, job).value for job in jobs] == ["finished", "failed", "stopped", "queued"]
    assert [len(fetch(queue, job).results()) for job in jobs] == [1, 1, 1, 0]
    assert queue.job_ids == [jobs[3]]
    assert leftovers(queue, hand) == []
    admin.acl_deluser("narrow")


@pytest.mark.parametrize("right", ["-sadd", "-lpop", "-expire", "resetkeys ~rq:queue:* ~rq:job:* ~rq:wip:*"])
def test_a_want_of_a_right_in_the_midst_of_a_claim_starts_no_job(
    server: str, connection: Redis, queue: Queue, right: str
) -> None:
    admin: Any = connection
    admin.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow", "+@all", "~*", "&*")
    narrow = Redis(unix_socket_path=server.removeprefix("unix://"), username="narrow", password="narrow")
    hand = make_hand(narrow, queue)
    job, before = enqueue(queue), connection.dbsize()
    admin.execute_command("ACL", "SETUSER", "narrow", *right.split())
    with pytest.raises(RedisError):
        hand.claim()
    assert (status(queue, job), queue.job_ids, connection.dbsize()) == (JobStatus.QUEUED, [job], before)
    assert leftovers(queue, hand) == []
    admin.execute_command("ACL", "SETUSER", "narrow", "+@all", "~*")
    assert [claimed.id for claimed in hand.claim()] == [job]
    admin.acl_deluser("narrow")


@pytest.mark.parametrize("right", ["-lpush", "-incr", "-hset", "-del"])
def test_a_want_of_a_right_in_the_midst_of_a_recovery_loses_no_job(
    server: str, connection: Redis, queue: Queue, hand: Hand, right: str
) -> None:
    admin: Any = connection
    job = enqueue(queue)
    hand.claim()
    hand.die()
    admin.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow", "+@all", "~*", "&*", *right.split())
    narrow = Redis(unix_socket_path=server.removeprefix("unix://"), username="narrow", password="narrow")
    other = make_hand(narrow, queue)
    recovery = Recovery(narrow, other.name, lease_key(other.name), 3, other.claimer)
    with pytest.raises(RedisError):
        recovery.run(queue, 0.001)
    assert status(queue, job) == JobStatus.STARTED
    assert queue.started_job_registry.get_job_ids() == [job]
    admin.execute_command("ACL", "SETUSER", "narrow", "+@all")
    recovery.run(queue, 0.001)
    assert (status(queue, job), queue.job_ids, leftovers(queue, hand)) == (JobStatus.QUEUED, [job], [])
    admin.acl_deluser("narrow")


def test_a_queue_that_is_no_list_loses_no_job_of_a_dead_worker(
    connection: Redis, queue: Queue, hand: Hand
) -> None:
    job = enqueue(queue)
    hand.claim()
    hand.die()
    connection.hset(queue.key, "no", "list")
    other = make_hand(connection, queue)
    recovery = Recovery(connection, other.name, lease_key(other.name), 3, other.claimer)
    recovery.run(queue, 0.001)
    assert queue.started_job_registry.get_job_ids() == [job]
    connection.delete(queue.key)
    time.sleep(0.01)
    recovery.run(queue, 0.001)
    assert (status(queue, job), queue.job_ids, leftovers(queue, hand)) == (JobStatus.QUEUED, [job], [])


@contextmanager
def working(server: str, queue: Queue, script: Script) -> Iterator[BatchWorker]:
    """A worker that plays its jobs, in a thread, for the length of the block."""
    worker = BatchWorker(
        worker_connection(server),
        lambda ended, freed: ScriptedBackend(script, ended, freed, rows=8),
        Rules(queue=(queue.name,), lease_timeout=2),
        max_jobs=16,
    )
    with in_thread(worker):
        yield worker


@pytest.mark.parametrize("code", REFUSALS)
def test_results_wait_while_redis_refuses_and_nothing_new_is_claimed(
    server: str, connection: Redis, queue: Queue, code: str
) -> None:
    plain, script = Queue(queue.name, connection=connection, serializer=JSONSerializer), Script()

    def submit(number: int, **wishes: Any) -> str:
        request = {"text": f"job {number}", "metadata": wishes}
        return str(plain.enqueue_call("worker.tasks.synthesize", kwargs={"request": request}).id)

    running = [submit(number, held=True) for number in range(8)]
    later = [submit(number) for number in range(8, 20)]
    with working(server, queue, script) as worker:
        until(lambda: len(script.started) == 8)
        REFUSALS[code](connection)
        script.release.set()
        until(lambda: worker.trouble is not None and code in worker.trouble)
        time.sleep(1)
        assert len(script.started) == 8, "nothing was claimed meanwhile"
        assert {status(queue, job) for job in running} == {JobStatus.STARTED}
        relent(connection)
        until(lambda: {status(queue, job) for job in running + later} == {JobStatus.FINISHED})
        until(lambda: worker.trouble is None)
    assert all(len(fetch(queue, job).results()) == 1 for job in running + later)
    assert all(connection.get(audio_key(job)) for job in running + later)
    assert sorted(script.started) == sorted(f"job {number}" for number in range(20)), "each was done once"
    assert leftovers(queue) == []


def test_a_refusal_now_and_then_loses_and_fails_no_job(server: str, connection: Redis, queue: Queue) -> None:
    plain, script = Queue(queue.name, connection=connection, serializer=JSONSerializer), Script()
    requests = [{"text": f"job {number}", "metadata": {"seconds": 0.01}} for number in range(300)]
    jobs = [plain.enqueue_call("worker.tasks.synthesize", kwargs={"request": one}).id for one in requests]
    with working(server, queue, script):
        for refuse in [*REFUSALS.values()] * 3:
            time.sleep(0.05)
            refuse(connection)
            time.sleep(0.1)
            relent(connection)
        until(lambda: {status(queue, job) for job in jobs} == {JobStatus.FINISHED}, timeout=60)
    assert all(len(fetch(queue, job).results()) == 1 for job in jobs)
    assert leftovers(queue) == []


def test_a_worker_that_may_not_write_results_lives_on(server: str, connection: Redis, queue: Queue) -> None:
    """Rights that are too narrow refuse results only: its jobs are not taken for those of a dead worker."""
    names = ("lease", "presence", "deaths", "recovery", "holders", "cancelled", "watch", "bell", "kept")
    ours = [f"~rwkv-tts:{name}*" for name in names]
    rights = ("ACL", "SETUSER", "narrow", "on", ">narrow", "+@all", "&*", "~rq:*")
    admin: Any = connection
    admin.execute_command(*rights, *ours)
    script = Script()
    job = enqueue(queue)
    worker = BatchWorker(
        Redis(unix_socket_path=server.removeprefix("unix://"), username="narrow", password="narrow"),
        lambda ended, freed: ScriptedBackend(script, ended, freed, rows=1),
        Rules(queue=(queue.name,), lease_timeout=1),
        max_jobs=1,
    )
    with in_thread(worker):
        until(lambda: worker.trouble is not None)
        time.sleep(2)
        until(lambda: connection.exists(lease_key(worker.name)))
        assert status(queue, job) == JobStatus.STARTED
        admin.execute_command(*rights, "~*")
        until(lambda: status(queue, job) == JobStatus.FINISHED)
    assert len(script.started) == 1
    admin.acl_deluser("narrow")


@pytest.mark.parametrize("code", REFUSALS)
def test_a_worker_that_starts_while_redis_refuses_waits(
    server: str, connection: Redis, queue: Queue, code: str
) -> None:
    job = enqueue(queue)
    REFUSALS[code](connection)
    with working(server, queue, Script()) as worker:
        until(lambda: worker.trouble is not None)
        relent(connection)
        until(lambda: status(queue, job) == JobStatus.FINISHED)
        until(lambda: worker.trouble is None)
