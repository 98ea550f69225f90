"""The jobs inside a worker: what is kept of them, and for how long."""

import gc
import weakref

from rq.queue import Queue

from hands import MakeHand, enqueue
from rwkv_tts.refusal import Cause, Refusal
from worker.broker.running import Deadlines, RunningJobs

LATE = Refusal("timeout", Cause.TIMEOUT, "late")


def test_a_job_that_has_left_is_not_kept_until_its_deadline(make_hand: MakeHand, queue: Queue) -> None:
    """Its request may hold a recording, and deadlines may be hours away."""
    for _ in range(3):
        enqueue(queue)
    first, second, third = make_hand().claim(3)
    jobs, deadlines, kept = RunningJobs({}), Deadlines(), []
    stays = jobs.enter(first)
    deadlines.add(stays, 3600.0, LATE)
    for _ in range(5000):
        running = jobs.enter(second)
        deadlines.add(running, 180.0, LATE)
        kept.append(weakref.ref(running))
        jobs.leave(running.claimed)
    del running
    gc.collect()
    assert sum(one() is not None for one in kept) <= 64
    soon = jobs.enter(third)
    deadlines.add(soon, 0.0, LATE)
    assert [deadline.running for deadline in deadlines.due()] == [soon]
    assert deadlines.next_at() < float("inf")
    assert not stays.left
