"""Committing: once, only by the owner, each job for itself, and safe to repeat."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest
from redis import Redis
from rq.job import Dependency, Job, JobStatus, Retry
from rq.queue import Queue
from rq.repeat import Repeat
from rq.serializers import JSONSerializer

from hands import Hand, MakeHand, enqueue, fetch, leftovers, new_hand, status
from rwkv_tts.keys import ARGUMENT, FUNCTION, audio_key, tokens_key
from rwkv_tts.refusal import Cause, Refusal
from worker.broker.jobs import HeldJob
from worker.broker.outcome import Fate, Outcome
from worker.cli.embedded import embedded_redis

RESULT = {"seconds": 1.5, "text": "é"}
AUDIO = bytes(range(256)) * 10


def finished(claimed: object) -> Outcome:
    job_id = claimed.id  # type: ignore[attr-defined]
    return Outcome(claimed, Fate.FINISHED, RESULT, {audio_key(job_id): AUDIO})  # type: ignore[arg-type]


def failed(claimed: object, cause: Cause = Cause.INTERNAL) -> Outcome:
    return Outcome(claimed, Fate.FAILED, refusal=Refusal("", cause, "it broke"))  # type: ignore[arg-type]


@pytest.fixture
def quiet() -> Iterator[Redis]:
    """A server of its own, whose calls can be counted: nobody else makes any."""
    with embedded_redis() as url:
        yield Redis.from_url(url)


def test_many_outcomes_in_one_round_trip(quiet: Redis) -> None:
    queue = Queue("quiet", connection=quiet, job_class=HeldJob, serializer=JSONSerializer)
    connection, hand = quiet, new_hand(quiet, queue)
    jobs = [enqueue(queue) for _ in range(5)]
    outcomes = [finished(c) if i % 2 else failed(c) for i, c in enumerate(hand.claim())]
    before = connection.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    assert hand.committer.commit(outcomes) == [True] * 5
    assert connection.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 2  # the script is loaded once
    assert [status(queue, i) for i in jobs] == [JobStatus.FAILED, JobStatus.FINISHED] * 2 + [JobStatus.FAILED]
    assert set(queue.finished_job_registry.get_job_ids()) == {jobs[1], jobs[3]}
    assert set(queue.failed_job_registry.get_job_ids()) == {jobs[0], jobs[2], jobs[4]}
    assert connection.get(audio_key(jobs[1])) == AUDIO
    assert fetch(queue, jobs[1]).return_value() == RESULT
    assert fetch(queue, jobs[0]).latest_result().exc_string == "it broke"  # type: ignore[union-attr]
    assert leftovers(queue, hand) == []


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_producer_reads_what_is_left_of_its_job(hand: Hand, queue: Queue, serializer: str) -> None:
    """Whichever of RQ's serializers it uses; a large call is not kept."""
    request = {"text": "a" * (1 << 18)}
    theirs = Queue(queue.name, connection=queue.connection, serializer=serializer)
    job = theirs.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}, meta={"order": 7})
    queue.connection.hset(job.key, "data", job.data)  # not compressed, as other recordings are in effect
    (claimed,) = hand.claim()
    assert claimed.request == request
    assert hand.committer.commit([finished(claimed)]) == [True]
    found = Job.fetch(job.id, connection=queue.connection, serializer=serializer)
    assert (found.func_name, found.args, found.kwargs) == (FUNCTION, type(found.args)(), {})
    assert (found.meta, found.return_value()) == ({"order": 7}, RESULT)


def test_the_same_outcome_twice_counts_once(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue)
    (claimed,) = hand.claim()
    assert hand.committer.commit([finished(claimed)]) == [True]
    assert hand.committer.commit([finished(claimed)]) == [True], "as when the first reply was lost"
    assert len(fetch(queue, job_id).results()) == 1


def test_who_lost_the_job_writes_nothing(hand: Hand, make_hand: MakeHand, queue: Queue) -> None:
    """The fence: another worker has taken the job over and finished it meanwhile."""
    job_id = enqueue(queue)
    (late,) = hand.claim()
    queue.connection.zrem(queue.started_job_registry.key, late.member)  # declared dead ...
    queue.connection.delete(f"rq:executions:{job_id}")
    queue.connection.lpush(queue.key, job_id)  # ... and the job went back
    other = make_hand()
    (theirs,) = other.claim()
    assert other.committer.commit(
        [Outcome(theirs, Fate.FINISHED, {"by": "other"}, {audio_key(job_id): b"o"})]
    ) == [True]
    assert hand.committer.commit([finished(late)]) == [False]
    job = fetch(queue, job_id)
    assert (job.return_value(), len(job.results())) == ({"by": "other"}, 1)
    assert queue.connection.get(audio_key(job_id)) == b"o"
    assert leftovers(queue, hand, other) == []


def test_a_cancelled_job_stays_cancelled(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue)
    (claimed,) = hand.claim()
    fetch(queue, job_id).cancel()
    assert hand.committer.commit([finished(claimed)]) == [False]
    assert status(queue, job_id) == JobStatus.CANCELED
    assert queue.finished_job_registry.count == 0
    assert not queue.connection.exists(audio_key(job_id), f"rq:executions:{job_id}")
    assert leftovers(queue, hand) == []


def test_a_deleted_job_stays_deleted(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue)
    (claimed,) = hand.claim()
    fetch(queue, job_id).delete()
    assert hand.committer.commit([finished(claimed)]) == [False]
    assert not queue.connection.exists(Job.key_for(job_id), audio_key(job_id))


def test_storage_that_refuses_one_outcome_fails_that_job_only(hand: Hand, queue: Queue) -> None:
    bad, good = enqueue(queue), enqueue(queue)
    queue.connection.rpush(f"rq:results:{bad}", "not a stream")
    assert hand.committer.commit([finished(c) for c in hand.claim()]) == [True, True]
    assert (status(queue, bad), status(queue, good)) == (JobStatus.FAILED, JobStatus.FINISHED)
    assert b"WRONGTYPE" in queue.connection.hget(Job.key_for(bad), "exc_info")  # type: ignore[operator]
    assert bad in queue.failed_job_registry.get_job_ids()
    assert leftovers(queue, hand) == []


def test_put_back_goes_to_the_front_and_uses_no_retry(hand: Hand, queue: Queue) -> None:
    jobs = [enqueue(queue, retry=Retry(max=2)) for _ in range(3)]
    claimed = hand.claim(2)
    hand.committer.commit([Outcome(c, Fate.PUT_BACK) for c in reversed(claimed)])
    assert queue.job_ids == jobs
    assert [fetch(queue, i).retries_left for i in jobs] == [2, 2, 2]
    assert {status(queue, i) for i in jobs} == {JobStatus.QUEUED}
    assert leftovers(queue, hand) == []
    assert [c.id for c in hand.claim()] == jobs


def test_retry_takes_one_of_the_retries(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue, retry=Retry(max=1))
    hand.committer.commit([failed(c) for c in hand.claim()])
    assert (queue.job_ids, fetch(queue, job_id).retries_left) == ([job_id], 0)
    hand.committer.commit([failed(c) for c in hand.claim()])
    assert status(queue, job_id) == JobStatus.FAILED


def test_what_no_retry_can_help_is_not_retried(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue, retry=Retry(max=5))
    hand.committer.commit([failed(c, Cause.INVALID) for c in hand.claim()])
    assert (status(queue, job_id), queue.count) == (JobStatus.FAILED, 0)


def test_a_repeated_commit_after_an_error_takes_one_retry_or_repeat_only(hand: Hand, queue: Queue) -> None:
    """The commands are composed anew for each try; composing must not use anything up."""
    jobs = enqueue(queue, retry=Retry(max=3)), enqueue(queue, repeat=Repeat(times=3))
    first, second = hand.claim()
    for outcome in (failed(first), finished(second)):
        hand.committer._recorder.commands(outcome)
        hand.committer.commit([outcome])
    assert fetch(queue, jobs[0]).retries_left == 2
    assert fetch(queue, jobs[1]).repeats_left == 2


@pytest.mark.parametrize("allow", [False, True])
def test_dependents_follow_in_the_same_transaction(hand: Hand, queue: Queue, allow: bool) -> None:
    first = enqueue(queue)
    dependent = enqueue(queue, depends_on=Dependency([first], allow_failure=allow))
    assert status(queue, dependent) == JobStatus.DEFERRED
    (claimed,) = hand.claim()
    assert hand.committer.commit([failed(claimed)]) == [True]
    assert status(queue, first) == JobStatus.FAILED
    assert queue.job_ids == ([dependent] if allow else [])


def test_dependents_of_a_job_that_was_lost_stay(hand: Hand, queue: Queue) -> None:
    first = enqueue(queue)
    dependent = enqueue(queue, depends_on=first)
    (claimed,) = hand.claim()
    queue.connection.zrem(queue.started_job_registry.key, claimed.member)
    assert hand.committer.commit([finished(claimed)]) == [False]
    assert status(queue, dependent) == JobStatus.DEFERRED
    assert queue.count == 0


def test_a_dependent_that_cannot_be_read_does_not_stop_the_others(hand: Hand, queue: Queue) -> None:
    first = enqueue(queue)
    bad, good = enqueue(queue, depends_on=first), enqueue(queue, depends_on=first)
    queue.connection.hset(Job.key_for(bad), mapping={"created_at": b"\xff", "status": b"\xff"})
    assert hand.committer.commit([finished(c) for c in hand.claim()]) == [True]
    assert status(queue, first) == JobStatus.FINISHED
    assert good in queue.job_ids


@pytest.mark.parametrize(("ttl", "left"), [(-1, -1), (30, 30), (None, 60)])
def test_result_ttl(hand: Hand, queue: Queue, ttl: int | None, left: int) -> None:
    job_id = enqueue(queue, result_ttl=ttl)
    hand.committer.commit([finished(c) for c in hand.claim()])
    for key in (Job.key_for(job_id), f"rq:results:{job_id}", audio_key(job_id)):
        assert left - 2 <= queue.connection.ttl(key) <= left


def test_result_ttl_of_zero_leaves_nothing(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue, result_ttl=0)
    hand.committer.commit([finished(c) for c in hand.claim()])
    assert [key for key in queue.connection.keys("*") if job_id.encode() in key] == []


def test_binary_audio_and_large_results_survive(hand: Hand, queue: Queue) -> None:
    job_id = enqueue(queue)
    audio = bytes(range(256)) * 4096
    (claimed,) = hand.claim()
    value = {"list": list(range(5000))}
    hand.committer.commit([Outcome(claimed, Fate.FINISHED, value, {audio_key(job_id): audio})])
    assert queue.connection.get(audio_key(job_id)) == audio
    assert fetch(queue, job_id).return_value() == value


@pytest.mark.parametrize(("ttl", "lives"), [(60, True), (-1, True), (0, False)])
def test_attachments_live_as_long_as_the_result(
    hand: Hand, queue: Queue, connection: Redis, ttl: int, lives: bool
) -> None:
    job_id = enqueue(queue, result_ttl=ttl)
    (claimed,) = hand.claim()
    assert hand.committer.commit(
        [replace(finished(claimed), attachments={audio_key(job_id): AUDIO, tokens_key(job_id): b"{}"})]
    ) == [True]
    assert connection.get(tokens_key(job_id)) == (b"{}" if lives else None)
    assert connection.ttl(tokens_key(job_id)) == connection.ttl(audio_key(job_id))


def test_nothing_is_stored_that_was_not_attached(hand: Hand, queue: Queue, connection: Redis) -> None:
    job_id = enqueue(queue)
    hand.committer.commit([finished(claimed) for claimed in hand.claim()])
    assert connection.exists(audio_key(job_id), tokens_key(job_id)) == 1


# How long failed jobs stay.

WEEK, HOUR = 7 * 86400, 3600
RECORDING = token_hex(200_000)
"""As large as a recording, and as hard to compress."""


def brings_recording(queue: Queue, **options: Any) -> str:
    plain = Queue(queue.name, connection=queue.connection, serializer=JSONSerializer)
    request = {"text": "hello", "reference": RECORDING}
    return str(plain.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}, **options).id)


@pytest.mark.parametrize("fate", [Fate.FAILED, Fate.STOPPED])
@pytest.mark.parametrize(
    ("submit", "options", "seconds"),
    [
        (enqueue, {}, WEEK),
        (enqueue, {"failure_ttl": 60}, 60),
        (brings_recording, {}, HOUR),
        (brings_recording, {"failure_ttl": 2 * WEEK}, 2 * WEEK),
        (brings_recording, {"failure_ttl": -1}, -1),
    ],
)
def test_a_failed_job_goes_when_its_time_is_over(
    hand: Hand, queue: Queue, submit: Callable[..., str], options: dict[str, int], seconds: int, fate: Fate
) -> None:
    job_id, connection = submit(queue, **options), queue.connection
    (claimed,) = hand.claim()
    assert hand.committer.commit([replace(failed(claimed), fate=fate)]) == [True]
    for key in (f"rq:job:{job_id}", f"rq:results:{job_id}"):
        assert connection.ttl(key) == pytest.approx(seconds, abs=5), key
    listed = connection.zscore(queue.failed_job_registry.key, job_id)
    assert listed == pytest.approx(seconds if seconds < 0 else time.time() + seconds, abs=5)


def test_a_failed_job_with_a_recording_can_be_queued_again(hand: Hand, queue: Queue) -> None:
    job_id = brings_recording(queue)
    (claimed,) = hand.claim()
    hand.committer.commit([failed(claimed)])
    fetch(queue, job_id).requeue()
    (again,) = hand.claim()
    assert again.request == claimed.request
    assert queue.connection.ttl(f"rq:job:{job_id}") == -1, "it does not expire while it runs"


def test_the_recording_of_a_finished_job_goes_and_the_job_stays(hand: Hand, queue: Queue) -> None:
    job_id, light = brings_recording(queue), enqueue(queue)
    hand.committer.commit([finished(claimed) for claimed in hand.claim()])
    job = fetch(queue, job_id)
    assert (job.func_name, job.kwargs, job.return_value()) == (FUNCTION, {}, RESULT)
    assert fetch(queue, light).kwargs == {ARGUMENT: {"text": "hello"}}
    assert int(queue.connection.memory_usage(f"rq:job:{job_id}") or 0) < 5000


def test_a_job_that_repeats_keeps_its_recording(hand: Hand, queue: Queue) -> None:
    brings_recording(queue, repeat=Repeat(times=1))
    (claimed,) = hand.claim()
    hand.committer.commit([finished(claimed)])
    (again,) = hand.claim()
    assert again.request == claimed.request


def test_a_job_whose_outcome_cannot_be_stored_does_not_stay_for_ever(hand: Hand, queue: Queue) -> None:
    job_id, connection = brings_recording(queue), queue.connection
    (claimed,) = hand.claim()
    connection.set(f"rq:results:{job_id}", "no stream")
    assert hand.committer.commit([failed(claimed)]) == [True]
    assert status(queue, job_id) == JobStatus.FAILED
    assert connection.ttl(f"rq:job:{job_id}") == pytest.approx(HOUR, abs=5)
    assert connection.zscore(queue.failed_job_registry.key, job_id) == pytest.approx(time.time() + HOUR, abs=5)


def test_a_job_with_an_id_that_no_job_may_have_does_not_stay_for_ever(hand: Hand, queue: Queue) -> None:
    enqueue(queue, job_id="order-1")
    queue.connection.rename("rq:job:order-1", "rq:job:order.1")
    queue.connection.delete(queue.key)
    queue.connection.rpush(queue.key, "order.1")
    assert hand.claim() == []
    assert 0 < queue.connection.ttl("rq:job:order.1") <= 86400
