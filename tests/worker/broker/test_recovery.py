"""Jobs of dead workers: back in their order, failed after too many deaths, never taken from the living."""

import time

import pytest
from redis import Redis
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import Hand, MakeHand, enqueue, fetch, leftovers, new_hand, status
from rwkv_tts import TTSClient
from rwkv_tts.keys import PRESENCE_KEY, RECOVERY_PREFIX, lease_key
from rwkv_tts.refusal import Cause, Refusal
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.broker.backend import BackendBrokenError
from worker.broker.batch_worker import BatchWorker, ExitCode
from worker.broker.claim import HORIZON_SECONDS
from worker.broker.connection import worker_connection
from worker.broker.jobs import HeldJob
from worker.broker.lease import Lease
from worker.broker.outcome import Fate, Outcome
from worker.broker.recovery import Recovery
from worker.broker.rules import Rules
from worker.cli.embedded import embedded_redis


def gone(reason: str) -> Refusal:
    return Refusal("", Cause.ABANDONED, reason)


def recover(hand: Hand, max_attempts: int = 3) -> tuple[int, list[str]]:
    """One look; how many went back, and the ids that are to fail (their executions are the hand's)."""
    recovery = Recovery(hand.connection, hand.name, lease_key(hand.name), max_attempts, hand.claimer)
    hand.connection.delete(RECOVERY_PREFIX + hand.queue.name)
    back, exhausted = recovery.run(hand.queue, 1.0)
    hand.committer.commit([Outcome(one.claimed, Fate.FAILED, refusal=gone(one.last_worker)) for one in exhausted])
    return back, [one.claimed.id for one in exhausted]


def test_jobs_of_a_dead_worker_go_back_to_the_front_in_their_order(make_hand: MakeHand, queue: Queue) -> None:
    jobs = [enqueue(queue) for _ in range(5)]
    dead, alive = make_hand(), make_hand()
    dead.claim(3)
    assert recover(alive) == (0, [])
    dead.die()
    assert recover(alive) == (3, [])
    assert queue.job_ids == jobs
    assert {status(queue, i) for i in jobs} == {JobStatus.QUEUED}
    assert leftovers(queue, dead, alive) == []
    assert [c.id for c in alive.claim()] == jobs


def test_jobs_of_the_living_are_left_alone(make_hand: MakeHand, queue: Queue) -> None:
    jobs = [enqueue(queue) for _ in range(4)]
    dead, alive, looker = make_hand(), make_hand(), make_hand()
    alive.claim(2)
    dead.claim(2)
    dead.die()
    assert recover(looker)[0] == 2
    assert queue.job_ids == jobs[2:]
    assert queue.started_job_registry.get_job_ids() == jobs[:2]


def test_a_late_result_of_a_worker_that_was_declared_dead_is_dropped(make_hand: MakeHand, queue: Queue) -> None:
    job_id = enqueue(queue)
    zombie, alive = make_hand(), make_hand()
    (late,) = zombie.claim()
    zombie.die()
    recover(alive)
    assert zombie.committer.commit([Outcome(late, Fate.FINISHED, result={"by": "zombie"})]) == [False]
    (again,) = alive.claim()
    assert alive.committer.commit([Outcome(again, Fate.FINISHED, result={"by": "alive"})]) == [True]
    assert zombie.committer.commit([Outcome(late, Fate.FINISHED, result={"by": "zombie"})]) == [False]
    assert fetch(queue, job_id).return_value() == {"by": "alive"}
    assert len(fetch(queue, job_id).results()) == 1


def test_too_many_deaths_fail_the_job_with_its_last_worker(make_hand: MakeHand, queue: Queue) -> None:
    job_id = enqueue(queue)
    alive = make_hand()
    for attempt in range(3):
        victim = make_hand()
        assert [c.id for c in victim.claim()] == [job_id]
        victim.die()
        assert recover(alive) == ((1, []) if attempt < 2 else (0, [job_id]))
    assert status(queue, job_id) == JobStatus.FAILED
    assert fetch(queue, job_id).latest_result().exc_string == victim.name  # type: ignore[union-attr]
    assert leftovers(queue, alive) == []


def test_a_job_on_its_last_attempt_runs_alone(make_hand: MakeHand, queue: Queue) -> None:
    """Otherwise a job that kills workers would take its companions along, three times."""
    jobs = [enqueue(queue) for _ in range(3)]
    alive = make_hand()
    for _ in range(2):
        victim = make_hand()
        assert [c.id for c in victim.claim(2)] == jobs[:2]
        victim.die()
        assert recover(alive)[0] == 2
    busy = alive.claimer.claim(4, running=1)
    assert (busy.blocked, busy.claimed) == (True, [])
    first = alive.claimer.claim(4)
    assert (first.alone, [c.id for c in first.claimed]) == (True, jobs[:1])
    alive.committer.commit([Outcome(first.claimed[0], Fate.PUT_BACK)])
    assert alive.claimer.claim(4).alone, "put back is no sign that it is harmless"
    alive.die()
    last = make_hand()
    assert recover(last) == (0, jobs[:1])
    second = last.claimer.claim(4)
    assert (second.alone, [c.id for c in second.claimed]) == (True, jobs[1:2])
    last.committer.commit([Outcome(second.claimed[0], Fate.FINISHED, result={})])
    third = last.claimer.claim(4)
    assert (third.alone, [c.id for c in third.claimed]) == (False, jobs[2:])


def test_a_job_that_ends_starts_counting_anew(make_hand: MakeHand, queue: Queue) -> None:
    job_id = enqueue(queue)
    victim, alive = make_hand(), make_hand()
    victim.claim()
    victim.die()
    recover(alive, max_attempts=2)
    (claimed,) = alive.claim()
    alive.committer.commit([Outcome(claimed, Fate.FAILED, refusal=gone("for another reason"))])
    fetch(queue, job_id).requeue()
    victim = make_hand()
    victim.claim()
    victim.die()
    assert recover(alive, max_attempts=2) == (1, [])


def test_who_dies_while_failing_an_exhausted_job_loses_it_to_the_next(make_hand: MakeHand, queue: Queue) -> None:
    job_id = enqueue(queue)
    victim, failer, alive = make_hand(), make_hand(), make_hand()
    victim.claim()
    victim.die()
    recovery = Recovery(failer.connection, failer.name, lease_key(failer.name), 1, failer.claimer)
    assert len(recovery.run(queue, 0.001)[1]) == 1  # dies before it has failed the job
    failer.die()
    time.sleep(0.01)
    assert recover(alive, max_attempts=1) == (0, [job_id])
    assert status(queue, job_id) == JobStatus.FAILED


def test_cancelled_jobs_of_a_dead_worker_do_not_come_back(make_hand: MakeHand, queue: Queue) -> None:
    job_id = enqueue(queue)
    dead, alive = make_hand(), make_hand()
    (claimed,) = dead.claim()
    queue.connection.hset(fetch(queue, job_id).key, "status", "canceled")
    dead.die()
    assert recover(alive) == (0, [])
    assert queue.count == 0
    assert leftovers(queue, dead, alive) == []
    assert not queue.connection.exists(claimed.execution.key)


def test_one_worker_at_a_time_looks(make_hand: MakeHand, queue: Queue) -> None:
    enqueue(queue)
    dead, one, two = make_hand(), make_hand(), make_hand()
    dead.claim()
    dead.die()
    looks = [Recovery(h.connection, h.name, lease_key(h.name), 3, h.claimer) for h in (one, two)]
    assert [look.run(queue, 5.0)[0] for look in looks] == [1, 0]
    two_again = looks[1].run(queue, 5.0)
    assert two_again == (0, [])


def test_executions_of_other_workers_are_dead_when_their_time_is_over(make_hand: MakeHand, queue: Queue) -> None:
    """A stock worker has no lease; RQ's own limit counts."""
    fresh, stale = enqueue(queue), enqueue(queue)
    alive = make_hand()
    queue.connection.delete(queue.key)
    for job_id, age in ((fresh, -60), (stale, 60)):
        queue.connection.hset(fetch(queue, job_id).key, "status", "started")
        queue.connection.zadd(queue.started_job_registry.key, {f"{job_id}:0123": time.time() - age})
    assert recover(alive) == (1, [])
    assert queue.job_ids == [stale]
    assert status(queue, fresh) == JobStatus.STARTED


def test_what_a_stock_worker_never_started_is_rescued_after_a_minute(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue)
    queue.connection.lmove(queue.key, queue.intermediate_queue_key, "LEFT", "RIGHT")
    recovery = Recovery(hand.connection, hand.name, lease_key(hand.name), 3, hand.claimer)
    recovery.rescue(queue)
    assert queue.count == 0
    queue.connection.set(queue.intermediate_queue.get_first_seen_key(job_id), time.time() - 61)
    recovery.rescue(queue)
    recovery.rescue(queue)
    assert queue.job_ids == [job_id]
    assert queue.intermediate_queue.get_job_ids() == []


def test_rubbish_in_the_started_registry_is_removed(hand: Hand, queue: Queue) -> None:
    queue.connection.zadd(queue.started_job_registry.key, {"no execution at all": 1})
    assert recover(hand) == (0, [])
    assert leftovers(queue) == []


def renew(lease: Lease, connection: Redis) -> None:
    with connection.pipeline() as pipeline:
        lease.renew({"running": 0}, pipeline)
        lease.renewed(*pipeline.execute())


def test_nobody_is_judged_before_every_living_worker_had_time_to_renew(connection: Redis) -> None:
    connection.delete(PRESENCE_KEY)
    lease = Lease("judge", 0.4)
    assert not lease.may_judge
    renew(lease, connection)
    assert not lease.may_judge
    begin = time.monotonic()
    until(lambda: judges(lease, connection))
    assert time.monotonic() - begin > 0.3
    time.sleep(0.5)  # an outage: the lease runs out, and so does everybody else's
    assert not lease.may_judge
    renew(lease, connection)
    assert not lease.may_judge
    lease.release(connection)
    assert not connection.exists(lease.key)


def judges(lease: Lease, connection: Redis) -> bool:
    """Whether a lease may judge when it is renewed."""
    renew(lease, connection)
    return lease.may_judge


def test_a_new_worker_may_judge_at_once_where_others_were_never_silent(connection: Redis) -> None:
    connection.delete(PRESENCE_KEY)
    old = Lease("old", 0.4)
    until(lambda: judges(old, connection))  # now and then anew, where the machine was silent for too long
    until(lambda: judges(old, connection) and judges(Lease("new", 0.4), connection))


def test_a_forgotten_job_is_found_on_the_queue_it_was_on_whatever_its_hash_names(
    make_hand: MakeHand, queue: Queue
) -> None:
    second = Queue(f"{queue.name}-2", connection=queue.connection)
    hand, job_id = make_hand(second), enqueue(second)
    queue.connection.hset(f"rq:job:{job_id}", "origin", queue.name)
    (claimed,) = hand.claim()
    (found,) = hand.claimer.read_members([claimed.member])
    assert found.queue.name == second.name
    assert hand.committer.commit([Outcome(found, Fate.PUT_BACK)]) == [True]


@pytest.mark.parametrize("seconds", [0.5, 12.0, 600.0])
def test_a_lease_is_renewed_several_times_before_it_ends(seconds: float) -> None:
    assert Lease("w", seconds).interval <= seconds / 4


def test_jobs_that_a_living_worker_does_not_count_as_its_own_go_back(make_hand: MakeHand, queue: Queue) -> None:
    """As when Redis was set back between two writes: the registry has an execution, its worker's set has not."""
    hand, alive = make_hand(), make_hand()
    jobs = [enqueue(queue) for _ in range(3)]
    forgotten, known, fresh = hand.claim(3)
    silent = time.time() + HORIZON_SECONDS - 61
    queue.connection.zadd(queue.started_job_registry.key, {one.member: silent for one in (forgotten, known)})
    queue.connection.srem(f"rq:worker:{hand.name}:executions", forgotten.member, fresh.member)
    assert recover(alive) == (1, [])
    assert queue.job_ids == jobs[:1]
    assert sorted(queue.started_job_registry.get_job_ids()) == sorted([known.id, fresh.id])


def test_a_worker_without_a_trace_is_missed_by_the_silence_of_its_jobs(make_hand: MakeHand, queue: Queue) -> None:
    jobs = [enqueue(queue) for _ in range(3)]
    dead, alive = make_hand(), make_hand()
    registry, claimed = queue.started_job_registry.key, dead.claim()
    queue.connection.delete(f"rwkv-tts:holders:{queue.name}")
    dead.die()
    assert recover(alive) == (0, [])
    for place, one in enumerate(claimed):
        queue.connection.zadd(registry, {one.member: time.time() + HORIZON_SECONDS - 70 + place})
    assert recover(alive) == (3, [])
    assert queue.job_ids == jobs


def test_a_look_costs_as_much_whatever_runs() -> None:
    with embedded_redis() as url:  # nobody else's, whose commands would count, too
        connection = Redis.from_url(url)
        queue = Queue("quiet", connection=connection, job_class=HeldJob, serializer=JSONSerializer)
        assert_looks_cost_as_much(new_hand(connection, queue), new_hand(connection, queue), queue)


def assert_looks_cost_as_much(busy: Hand, alive: Hand, queue: Queue) -> None:
    costs = []
    for jobs in (1, 300):
        for _ in range(jobs):
            enqueue(queue)
        busy.claim(jobs)
        recover(alive)
        before = commands(queue.connection)
        recover(alive)
        costs.append(commands(queue.connection) - before)
    assert costs[0] == costs[1] < 20


def commands(connection: Redis) -> int:
    """Commands that the server has executed, inside scripts too."""
    return sum(one["calls"] for one in connection.info("commandstats").values())


def test_many_jobs_of_dead_workers_go_back_in_their_order_in_small_bites(
    make_hand: MakeHand, queue: Queue
) -> None:
    jobs = [enqueue(queue) for _ in range(1300)]
    dead, alive = make_hand(), make_hand()
    dead.claim(1200)
    dead.die()
    assert recover(alive) == (1200, [])
    assert queue.job_ids == jobs
    recover(alive)
    assert not queue.connection.exists(f"rwkv-tts:holders:{queue.name}")


class LosesItsDevice(ScriptedBackend):
    """Gives up while it has jobs."""

    def progress(self) -> int | None:
        if self._running:
            raise BackendBrokenError("the device is lost")
        return None


def test_jobs_of_a_worker_that_gives_up_are_taken_over_at_once(redis_url: str, queue: Queue) -> None:
    """RQ forgets the jobs of a worker that says goodbye; they were found a minute later."""
    jobs = [TTSClient(redis_url, queue.name).submit("hello", metadata={"held": True}) for _ in range(2)]
    rules = Rules(queue=(queue.name,), lease_timeout=2)
    script = Script()
    worker = BatchWorker(
        worker_connection(redis_url), lambda *told: LosesItsDevice(script, *told), rules, max_jobs=8
    )
    worker.work()
    assert worker.exit_code == ExitCode.BROKEN
    assert [status(queue, job_id) for job_id in jobs] == [JobStatus.STARTED] * 2
    script.release.set()
    next_one = BatchWorker(
        worker_connection(redis_url), lambda *told: ScriptedBackend(script, *told), rules, max_jobs=8
    )
    with in_thread(next_one):
        until(lambda: [status(queue, job_id) for job_id in jobs] == [JobStatus.FINISHED] * 2, timeout=20)
    assert leftovers(queue) == []
