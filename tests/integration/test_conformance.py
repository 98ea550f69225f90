"""The same jobs through a stock RQ worker and through ours end in the same way, as far as Redis shows.

A scenario is a few lines that submit jobs and run a worker. All that is in Redis after each run is compared: job
hashes, registries, queues, results, times to live; and nothing may be left that only running jobs have.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Callback, Queue, Repeat, Retry
from rq.command import send_command, send_shutdown_command, send_stop_execution_command, send_stop_job_command
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.exceptions import DuplicateJobError
from rq.group import Group
from rq.job import Dependency, Job, requeue_job
from rq.rate_limit import RateLimit
from rq.serializers import JSONSerializer, PickleSerializer
from rq.suspension import resume, suspend
from rq.webhook import Webhook
from rq.worker import BaseWorker

import scripted
from rwkv_tts.keys import FUNCTION
from scripted import ALWAYS, ScriptError
from stage import CALLBACKS, STARTED, Ours, Seconds, Stage, Stock, differences, leftovers, told
from waiting import until
from worker.broker.callbacks import CallbackError
from worker.broker.rules import Rules

TELL_SUCCESS, TELL_FAILURE, TELL_STOPPED, BREAK_DOWN, HANG, LOOK, TELL_LATER = (
    Callback(name, timeout=1 if name.endswith("hang") else 60) for name in CALLBACKS
)
RULES = Rules(
    lease_timeout=0.5, callbacks=CALLBACKS, webhook_hosts=("127.0.0.1",), failure_ttl=DEFAULT_FAILURE_TTL
)


@dataclass(frozen=True)
class Scenario:
    """What happens, and how each job must have ended; None: it is gone."""

    play: Callable[[Any], None]
    ends: dict[str, str | None]
    fork: bool


SCENARIOS: dict[str, Scenario] = {}


class _Anything:
    """Equal to all."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


ANYTHING = _Anything()


def scenario(fork: bool = False, **ends: str | None) -> Callable[[Callable[[Any], None]], None]:
    """Enter a function into the table; ``fork``: a SimpleWorker cannot do it."""

    def enter(play: Callable[[Any], None]) -> None:
        SCENARIOS[play.__name__] = Scenario(play, ends, fork)

    return enter


@scenario()
def empty_queue(stage: Stage) -> None:
    assert not stage.work()


@scenario(a="finished")
def success(stage: Stage) -> None:
    stage.submit("a")
    assert stage.work()


@scenario(a="finished")
def another_burst_finds_nothing(stage: Stage) -> None:
    stage.submit("a")
    stage.work()
    assert not stage.work()


@scenario(a="failed", b="finished")
def failure(stage: Stage) -> None:
    stage.submit("a", fails=ALWAYS)
    stage.submit("b")
    stage.work()


@scenario(a="failed", b="failed")
def failure_ttl(stage: Stage) -> None:
    stage.submit("a", fails=ALWAYS, failure_ttl=100)
    stage.submit("b", fails=ALWAYS, failure_ttl=-1)
    stage.work()


@scenario(a="finished", b="finished", c=None, d=None)
def result_ttl(stage: Stage) -> None:
    stage.submit("a", result_ttl=100)
    stage.submit("b", result_ttl=-1)
    stage.submit("c", result_ttl=0)
    stage.submit("d", result_ttl=0, fails=1, retry=Retry(max=1))
    stage.work()


@scenario(a="finished", b="failed", c="finished")
def ttl_of_a_waiting_job(stage: Stage) -> None:
    stage.submit("a", ttl=100)
    stage.submit("b", ttl=100, fails=ALWAYS)
    stage.submit("c", ttl=100, result_ttl=-1)
    stage.work()


@scenario(a="finished")
def meta(stage: Stage) -> None:
    stage.submit("a", held=True, meta={"old": 1})

    def change() -> None:
        stage.until_started("a")
        job = stage.job("a")
        job.meta["new"] = 2
        job.save_meta()  # type: ignore[no-untyped-call]
        stage.script.release.set()

    stage.work(change)
    assert stage.job("a").meta == {"old": 1, "new": 2}


@scenario(a="finished")
def retry_now(stage: Stage) -> None:
    stage.submit("a", fails=1, retry=Retry(max=3))
    stage.work()


@scenario(a="failed", b="finished")
def retries_run_out(stage: Stage) -> None:
    stage.submit("a", fails=ALWAYS, retry=Retry(max=2))
    stage.submit("b", fails=2, retry=Retry(max=2))
    stage.work()


@scenario(a="finished", b="finished")
def retry_at_front(stage: Stage) -> None:
    stage.submit("a", fails=1, retry=Retry(max=1, enqueue_at_front=True))
    stage.submit("b")
    stage.work()


@scenario(a="finished", b="failed")
def retry_with_intervals(stage: Stage) -> None:
    stage.submit("a", fails=2, retry=Retry(max=2, interval=[100, 200]))
    stage.submit("b", fails=ALWAYS, retry=Retry(max=1, interval=100))
    stage.work()
    for _ in range(2):
        stage.make_due()
        stage.work()


@scenario(a="finished", b="finished")
def retry_with_interval_at_front(stage: Stage) -> None:
    stage.submit("a", fails=1, retry=Retry(max=1, interval=100, enqueue_at_front=True))
    stage.work()
    stage.submit("b")
    stage.make_due()
    stage.work()


@scenario(a="finished", b="failed")
def repeat_now(stage: Stage) -> None:
    stage.submit("a", repeat=Repeat(times=2))
    stage.submit("b", repeat=Repeat(times=2), fails=ALWAYS)
    stage.work()


@scenario(a=None)
def repeat_without_a_result(stage: Stage) -> None:
    stage.submit("a", repeat=Repeat(times=2), result_ttl=0)
    stage.work()


@scenario(a="finished", b="finished")
def repeat_with_intervals(stage: Stage) -> None:
    stage.submit("a", repeat=Repeat(times=2, interval=[100, 200]))
    stage.submit("b", repeat=Repeat(times=2, interval=100), on_success=TELL_SUCCESS)
    stage.work()
    for _ in range(2):
        stage.make_due()
        stage.work()


@scenario(a="finished", b="failed")
def repeat_and_retry(stage: Stage) -> None:
    stage.submit("a", repeat=Repeat(times=1), retry=Retry(max=1), fails=1)
    stage.submit("b", repeat=Repeat(times=1), retry=Retry(max=1), fails=2)
    stage.work()


@scenario(a="finished", b="finished", c="finished")
def chain(stage: Stage) -> None:
    stage.submit("a")
    stage.submit("b", depends_on="a")
    stage.submit("c", depends_on="b")
    stage.work()


@scenario(a="finished", b="finished")
def dependent_of_a_finished_job(stage: Stage) -> None:
    stage.submit("a")
    stage.work()
    stage.submit("b", depends_on="a")
    stage.work()


@scenario(a="failed", b="deferred", c="finished", d="deferred")
def dependents_of_a_failed_job(stage: Stage) -> None:
    stage.submit("a", fails=ALWAYS)
    stage.submit("b", depends_on="a")
    stage.submit("c", depends_on=Dependency(["a"], allow_failure=True))
    stage.submit("d", depends_on="b")
    stage.work()


@scenario(a="finished", b="finished")
def dependent_of_a_retried_job(stage: Stage) -> None:
    stage.submit("a", fails=1, retry=Retry(max=1))
    stage.submit("b", depends_on="a")
    stage.work()


@scenario(a=None, b="finished")
def dependent_of_a_job_without_a_result(stage: Stage) -> None:
    stage.submit("a", result_ttl=0)
    stage.submit("b", depends_on="a")
    stage.work()


@scenario(a="finished", b="finished", c="finished", d="failed", e="deferred")
def two_dependencies(stage: Stage) -> None:
    for job_id in "ab":
        stage.submit(job_id)
    stage.submit("d", fails=ALWAYS)
    stage.submit("c", depends_on=["a", "b"])
    stage.submit("e", depends_on=["a", "d"])
    stage.work()


@scenario(a="finished", b="finished", c="finished", d="finished")
def dependents_at_front_and_elsewhere(stage: Stage) -> None:
    stage.submit("a")
    stage.submit("b")
    stage.submit("c", depends_on=Dependency("a", enqueue_at_front=True))
    stage.submit("d", queue="low", depends_on="a")
    stage.work(queues=("tts", "low"))


@scenario(a="finished", b="finished")
def dependent_of_a_repeated_job(stage: Stage) -> None:
    stage.submit("a", repeat=Repeat(times=2))
    stage.submit("b", depends_on="a")
    stage.work()


@scenario(a="canceled", b="deferred", c="canceled", d="finished", e="finished", f="finished")
def cancel_while_queued(stage: Stage) -> None:
    stage.submit("a")
    stage.submit("b", depends_on="a")
    stage.submit("c")
    stage.submit("d", depends_on="c")
    stage.submit("e", depends_on=Dependency("c", allow_failure=True))
    stage.submit("f")
    stage.job("a").cancel()
    stage.job("c").cancel(enqueue_dependents=True)
    stage.work()


@scenario(a="canceled", b="canceled")
def cancel_while_deferred_or_scheduled(stage: Stage) -> None:
    stage.submit("c", fails=ALWAYS)
    stage.submit("a", depends_on="c")
    stage.submit_later("b", 100)
    stage.job("a").cancel()
    stage.job("b").cancel()
    stage.make_due()
    stage.work()


@scenario(a="canceled")
def cancel_while_waiting_for_a_retry(stage: Stage) -> None:
    stage.submit("a", fails=1, retry=Retry(max=2, interval=100))
    stage.work()
    stage.job("a").cancel()
    stage.make_due()
    stage.work()


@scenario(a="canceled", b="finished")
def cancel_while_running(stage: Stage) -> None:
    stage.submit("a", held=True, on_success=TELL_SUCCESS, on_failure=TELL_FAILURE)
    stage.submit("b")
    stage.work(_after_start(stage, lambda: stage.job("a").cancel()))


@scenario(a=None, b="finished")
def delete_while_queued(stage: Stage) -> None:
    stage.submit("a")
    stage.submit("b")
    stage.job("a").delete()
    stage.connection.lpush("rq:queue:tts", "a")  # as if a pop and the delete had crossed
    stage.work()


@scenario(a=None, b="finished")
def delete_while_running(stage: Stage) -> None:
    stage.submit("a", held=True, on_success=TELL_SUCCESS, on_failure=TELL_FAILURE)
    stage.submit("b")
    stage.work(_after_start(stage, lambda: stage.job("a").delete()))


def _after_start(stage: Stage, action: Callable[[], object]) -> Callable[[], None]:
    """Do something to the running job ``a``; a stock worker's job goes on, ours is let go by itself."""

    def during() -> None:
        stage.until_started("a")
        action()
        if isinstance(stage, Stock):
            stage.script.release.set()

    return during


@scenario(a="stopped", b="finished", c="deferred", d="deferred", fork=True)
def stop(stage: Stage) -> None:
    stage.submit("a", held=True, retry=Retry(max=2), on_stopped=TELL_STOPPED, on_failure=TELL_FAILURE)
    stage.submit("b")
    stage.submit("c", depends_on=Dependency("a", allow_failure=True))
    stage.submit("d", depends_on="a")

    def stop_it() -> None:
        stage.until_started("a")
        send_stop_job_command(stage.connection, "a", serializer=JSONSerializer)

    stage.work(stop_it)


@scenario(a="failed", b="finished", c="failed")
def timeout(stage: Stage) -> None:
    stage.submit("a", held=True, job_timeout=1, on_failure=Callback(CALLBACKS[1]))
    stage.submit("b", job_timeout=-1)
    stage.submit("c", fails=ALWAYS, job_timeout=50)
    stage.work()


@scenario(a="finished", b="failed", c="finished", d="failed", e="finished")
def callbacks(stage: Stage) -> None:
    both: dict[str, Any] = {"on_success": TELL_SUCCESS, "on_failure": TELL_FAILURE}
    stage.submit("a", **both)
    stage.submit("b", fails=ALWAYS, **both)
    stage.submit("c", fails=1, retry=Retry(max=1), **both)
    stage.submit("d", on_failure=TELL_FAILURE, fails=ALWAYS, retry=Retry(max=1))
    stage.submit("e", on_failure=TELL_FAILURE, result_ttl=-1)
    stage.work()


@scenario(a="finished", b="failed", c="finished", d="finished", e=None)
def what_callbacks_see_and_change(stage: Stage) -> None:
    both: dict[str, Any] = {"on_success": LOOK, "on_failure": LOOK, "meta": {"old": 1}}
    stage.submit("a", **both)
    stage.submit("b", fails=ALWAYS, **both)
    stage.submit("c", fails=1, retry=Retry(max=1), **both)
    stage.submit("d", repeat=Repeat(times=1), **both)
    stage.submit("e", result_ttl=0, **both)
    stage.work()


@scenario(a="failed", b="failed", c="failed", d="finished")
def callbacks_that_raise(stage: Stage) -> None:
    stage.submit("a", on_success=BREAK_DOWN, on_failure=TELL_FAILURE)
    stage.submit("b", fails=ALWAYS, on_failure=BREAK_DOWN)
    stage.submit("c", on_success=BREAK_DOWN, on_failure=BREAK_DOWN)
    stage.submit("d")
    stage.work()


@scenario(a="failed", b="failed")
def callback_that_raises_at_each_try(stage: Stage) -> None:
    stage.submit("a", on_success=BREAK_DOWN, retry=Retry(max=1))
    stage.submit("b", on_failure=BREAK_DOWN, retry=Retry(max=1), fails=ALWAYS)
    stage.work()


@scenario(a="stopped", fork=True)
def stopped_callback_that_raises(stage: Stage) -> None:
    stage.submit("a", held=True, on_stopped=BREAK_DOWN)

    def stop_it() -> None:
        stage.until_started("a")
        send_stop_job_command(stage.connection, "a", serializer=JSONSerializer)

    stage.work(stop_it)


@scenario(a="failed")
def callback_that_hangs(stage: Stage) -> None:
    stage.submit("a", on_success=HANG)
    stage.work()


@scenario(a="finished", b="finished")
def unique(stage: Stage) -> None:
    stage.submit("a", unique=True)
    with pytest.raises(DuplicateJobError):
        stage.submit("a", unique=True)
    stage.work()
    with pytest.raises(DuplicateJobError):
        stage.submit("a", unique=True)
    stage.submit("b", unique=True)
    stage.work()


@scenario(a="finished")
def suspended(stage: Stage) -> None:
    stage.submit("a")
    suspend(stage.connection)
    stage.work()
    assert stage.status("a") == "queued"
    resume(stage.connection)
    stage.work()


@scenario(a="finished", b="finished", c="finished", d="finished")
def queues_by_priority(stage: Stage) -> None:
    stage.submit("a", queue="low")
    stage.submit("b", queue="high")
    stage.submit("c", queue="low")
    stage.submit("d", queue="high")
    stage.work(queues=("high", "low"))


@scenario(a="finished", b="finished", c="finished")
def at_front(stage: Stage) -> None:
    stage.submit("a")
    stage.submit("b")
    stage.submit("c", at_front=True)
    stage.work()


@scenario(a="finished", b="failed", c="finished", d="finished", e="canceled")
def rate_limit(stage: Stage) -> None:
    limit = RateLimit("gpu", concurrency=1)
    stage.submit("a", rate_limit=limit, seconds=0.05)
    stage.submit("b", rate_limit=limit, seconds=0.05, fails=ALWAYS, retry=Retry(max=1))
    stage.submit("c", rate_limit=limit, seconds=0.05)
    stage.submit("d", rate_limit=limit, result_ttl=-1, repeat=Repeat(times=1))
    stage.submit("e", rate_limit=limit)
    stage.job("e").cancel()
    stage.work()
    assert stage.script.most == 1


@scenario(a="finished", b="finished")
def rate_limit_and_schedule(stage: Stage) -> None:
    limit = RateLimit("gpu", concurrency=1)
    stage.submit_later("a", 100, rate_limit=limit)
    stage.submit("b", rate_limit=limit, fails=1, retry=Retry(max=1, interval=100))
    stage.work()
    stage.make_due()
    stage.work()
    assert stage.script.most == 1


@scenario(a="finished", b="failed", c="finished", d="finished")
def rate_limit_and_dependents(stage: Stage) -> None:
    """What waits since the same second starts in the order of ids; here that is the order of times, too."""
    limit = RateLimit("gpu", concurrency=1)
    stage.submit("a", rate_limit=limit)
    stage.submit("c", rate_limit=limit, depends_on="a")
    stage.submit("b", rate_limit=limit, fails=ALWAYS)
    stage.submit("d", rate_limit=limit, depends_on=Dependency("b", allow_failure=True))
    stage.work()
    assert stage.script.most == 1


@scenario(a="finished", b="finished")
def rate_limit_and_requeue(stage: Stage) -> None:
    limit = RateLimit("gpu", concurrency=1)
    stage.submit("a", rate_limit=limit, fails=1)
    stage.submit("b", rate_limit=limit)
    stage.work()
    requeue_job("a", stage.connection, serializer=JSONSerializer)
    stage.work()


@scenario(a="canceled", b="finished")
def rate_limit_and_cancel(stage: Stage) -> None:
    limit = RateLimit("gpu", concurrency=1)
    stage.submit("a", held=True, rate_limit=limit)
    stage.submit("b", rate_limit=limit)

    def cancel() -> None:
        stage.until_started("a")
        stage.job("a").cancel()
        stage.script.release.set()

    stage.work(cancel)


@scenario(a="finished", b="failed", c=None)
def group(stage: Stage) -> None:
    datas = [
        Queue.prepare_data(FUNCTION, kwargs={"request": stage.request(job_id, fails=fails)}, job_id=job_id)
        for job_id, fails in (("a", 0), ("b", ALWAYS))
    ]
    datas.append(Queue.prepare_data(FUNCTION, kwargs={"request": stage.request("c")}, job_id="c", result_ttl=0))
    Group.create(stage.connection, name="g").enqueue_many(stage.queue(), datas)
    stage.work()


@scenario(a="finished", b="finished", c="finished")
def scheduled(stage: Stage) -> None:
    stage.submit_later("a", 100)
    at = datetime.now(UTC) + timedelta(seconds=200)
    stage.queue().enqueue_at(at, FUNCTION, request=stage.request("b"), job_id="b", at_front=True)
    stage.work()
    assert (stage.status("a"), stage.status("b")) == ("scheduled", "scheduled")
    stage.submit("c")
    stage.make_due()
    stage.work()


@scenario(a="finished", b="queued")
def shutdown(stage: Stage) -> None:
    stage.submit("a", held=True)

    def shut_down() -> None:
        stage.until_started("a")
        stage.shut_down()
        stage.submit("b")
        stage.script.release.set()

    stage.work(shut_down, burst=False)


@scenario()
def shutdown_while_idle(stage: Stage) -> None:
    stage.work(stage.shut_down, burst=False)


@scenario(a="finished", b="finished")
def same_id_twice(stage: Stage) -> None:
    stage.submit("a")
    stage.submit("a")
    stage.submit("b")
    stage.work()


@scenario(a="finished")
def enqueue_again(stage: Stage) -> None:
    stage.submit("a", result_ttl=100)
    stage.work()
    stage.queue().enqueue_job(stage.job("a"))
    stage.work()


@scenario(a="finished", b="failed", c="finished")
def requeue(stage: Stage) -> None:
    stage.submit("a", fails=1, result_ttl=100)
    stage.submit("b", fails=2, failure_ttl=100)
    stage.submit("c", fails=1, on_success=TELL_SUCCESS)
    stage.work()
    for job_id in "abc":
        requeue_job(job_id, stage.connection, serializer=JSONSerializer)
    stage.work()


@scenario(a="finished")
def requeue_by_command(stage: Stage) -> None:
    stage.submit("a", fails=1)
    stage.work()
    rq = str(Path(sys.executable).with_name("rq"))
    subprocess.run(
        [rq, "requeue", "--url", stage.url, "--queue", "tts", "--serializer", "json", "a"],
        check=True,
        capture_output=True,
    )
    stage.work()


@contextmanager
def listener(connection: Redis, seconds: float = 0.0) -> Iterator[str]:
    """A web server that records what it is sent and takes its time to answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = {name: body[name] for name in ("job_id", "func_name", "status")}
            present = sorted(name for name, value in body.items() if value)
            time.sleep(seconds)
            connection.rpush(scripted.TOLD, json.dumps([self.path, known, present]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@scenario(a="finished", b="failed", c="finished")
def webhooks(stage: Stage) -> None:
    with listener(stage.connection) as url:
        hooks = [Webhook(f"{url}/{status}", status, method="POST") for status in ("finished", "failed")]
        stage.submit("a", webhooks=hooks)
        stage.submit("b", webhooks=hooks, fails=ALWAYS, retry=Retry(max=1))
        stage.submit("c", webhooks=hooks, result_ttl=-1)
        stage.work()


@scenario(a="failed", b="failed", c="failed")
def invalid_request(stage: Stage) -> None:
    stage.submit("a", refused="voice: unknown", retry=Retry(max=2))
    stage.queue().enqueue(FUNCTION, request={"text": ""}, job_id="b", retry=Retry(max=2))
    stage.queue().enqueue("os.getcwd.nothing", job_id="c")
    stage.work()


_FINISHED_ANYWAY: Mapping[str, Any] = {
    "rq:finished:tts a": (Seconds(3600), None),
    "rq:job:a TTL": (Seconds(3600), None),
    "rq:job:a ended_at": (True, False),
    "rq:job:a status": (b"finished", b"canceled"),
    "rq:results:a": (ANYTHING, None),
    "rwkv-tts:audio:a": (ANYTHING, None),
    "worker counts": ([b"2", None], [b"1", None]),
}
_PARENTS_VIEW: Mapping[str, Any] = {
    "rq:job:a ended_at": (False, True),
    "rq:job:a last_heartbeat": (False, True),
    "rq:job:a worker_name": (False, True),
    "rq:results:a": ([("FAILED", None, True, False)], [("FAILED", None, True, True)]),
}
_BROKEN = [f'["broken", "{job_id}"]' for job_id in "abcc"]

DIFFERENCES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "cancel_while_running": (
        "RQ's bug: the job finishes, and is in the canceled registry as well; ours ends at once, as canceled",
        {**_FINISHED_ANYWAY, "told": (ANYTHING, None)},
    ),
    "rate_limit_and_cancel": ("the same", _FINISHED_ANYWAY),
    "delete_while_running": (
        "RQ's bug: the job comes back from the dead; ours stays deleted",
        {
            "rq:finished:tts a": (Seconds(3600), None),
            "worker counts": ([b"2", None], [b"1", None]),
            **dict.fromkeys(["rq:job:a", "rq:results:a", "rwkv-tts:audio:a", "told"], (ANYTHING, None)),
        },
    ),
    "delete_while_queued": (
        "RQ leaves ids of deleted jobs in its intermediate queue",
        {"rq:queue:tts:intermediate": ({"": ["a"]}, None)},
    ),
    "stop": ("RQ's parent process writes the job as it was before its child started it", _PARENTS_VIEW),
    "stopped_callback_that_raises": ("the same", _PARENTS_VIEW),
    "timeout": (
        "our reason is one line that names the limit",
        {
            "told": (
                ['["failure", "a", "Task exceeded maximum timeout value (1 seconds)"]'],
                ['["failure", "a", "timeout: the job ran for more than 1 s"]'],
            )
        },
    ),
    "same_id_twice": (
        "an id that was queued twice is one job, which runs once",
        {
            "rq:results:a": (
                [("SUCCESSFUL", {"said": "a", "try": attempt}, False, True) for attempt in (1, 2)],
                [("SUCCESSFUL", {"said": "a", "try": 1}, False, True)],
            ),
            STARTED: (["a", "a", "b"], ["a", "b"]),
            "worker counts": ([b"3", None], [b"2", None]),
        },
    ),
    "callbacks_that_raise": (
        "audio is stored with the result, not before the callback; on_failure is told which callback failed",
        {
            "rwkv-tts:audio:a": (ANYTHING, None),
            "rwkv-tts:audio:c": (ANYTHING, None),
            "told": (
                [*_BROKEN, '["failure", "a", "the callback fails as asked"]'],
                [*_BROKEN, '["failure", "a", "on_success: ScriptError: the callback fails as asked"]'],
            ),
        },
    ),
    "callback_that_raises_at_each_try": ("the same", {"rwkv-tts:audio:a": (ANYTHING, None)}),
    "callback_that_hangs": ("the same", {"rwkv-tts:audio:a": (ANYTHING, None)}),
    "invalid_request": (
        "what is wrong with a request is wrong the next time, too, so it is not retried",
        {
            "rq:job:a retries_left": (b"0", b"2"),
            "rq:job:b retries_left": (b"0", b"2"),
            "worker counts": ([None, b"7"], [None, b"3"]),
        },
    ),
}
"""Scenario to the reason why ours differs, and what differs: what stock has and what ours has."""


@pytest.fixture(autouse=True)
def _quick_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ waits a second for the thread that listens for commands, because it stops it in another order."""

    def unsubscribe(worker: Any) -> None:
        worker.pubsub_thread.stop()
        worker.pubsub.unsubscribe()
        worker.pubsub_thread.join(timeout=1)
        worker.pubsub.close()

    monkeypatch.setattr(BaseWorker, "unsubscribe", unsubscribe)


PICKLED = (
    *("meta", "failure", "retry_with_intervals", "repeat_now", "chain", "scheduled"),
    *("callbacks", "what_callbacks_see_and_change", "stop", "requeue"),
)
"""Scenarios that are told apart by what a worker writes with a job's serializer, or writes anew."""


@pytest.mark.parametrize("name", PICKLED)
def test_ends_as_with_a_stock_worker_where_producers_pickle(
    name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stage.JSONSerializer", PickleSerializer)
    monkeypatch.setitem(globals(), "JSONSerializer", PickleSerializer)
    test_ends_as_with_a_stock_worker(name, redis_url, monkeypatch)


@pytest.mark.parametrize("name", SCENARIOS)
def test_ends_as_with_a_stock_worker(name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = SCENARIOS[name]
    stock = Stock(f"{redis_url}?db=1", RULES)
    stock.fork = chosen.fork
    monkeypatch.setattr("worker.tasks.synthesize", stock.script.synthesize)
    chosen.play(stock)
    _, expected = DIFFERENCES.get(name, ("", {}))
    for rows in (1, 4):
        ours = Ours(f"{redis_url}?db=2", RULES, rows)
        chosen.play(ours)
        # The order of starts is comparable where one job runs at a time, in this process.
        ignored = {STARTED} if rows > 1 or chosen.fork else set()
        found: dict[str, Any] = {}
        for theirs, mine in zip(stock.notes, ours.notes, strict=True):
            found |= {key: both for key, both in differences(theirs, mine).items() if key not in ignored}
        lines = [f"{key}: stock {theirs!r}, ours {mine!r}" for key, (theirs, mine) in found.items()]
        assert found == {key: both for key, both in expected.items() if key not in ignored}, "\n".join(lines)
        ends = {job_id: ours.notes[-1].get(f"rq:job:{job_id}", {}).get("status") for job_id in chosen.ends}
        assert ends == {job_id: end and end.encode() for job_id, end in chosen.ends.items()}
        assert leftovers(ours.connection) == []


# What a stock worker cannot do, or does not do.


@pytest.fixture
def ours(redis_url: str) -> Ours:
    return Ours(f"{redis_url}?db=2", RULES, rows=4)


def reason(stage: Stage, job_id: str) -> str:
    """Why a job failed: one line."""
    result = stage.job(job_id).latest_result()
    assert result is not None
    assert result.exc_string
    assert "\n" not in result.exc_string
    return str(result.exc_string)


def test_four_running_jobs_stop_at_once(ours: Ours) -> None:
    for job_id in "abcd":
        ours.submit(job_id, held=True, on_stopped=TELL_STOPPED)
    ours.submit("e")

    def stop_all() -> None:
        ours.until_started(*"abcd")
        for job_id in "abcd":
            send_stop_job_command(ours.connection, job_id, serializer=JSONSerializer)

    ours.work(stop_all)
    assert [ours.status(job_id) for job_id in "abcde"] == ["stopped"] * 4 + ["finished"]
    assert {reason(ours, job_id) for job_id in "abcd"} == {"stopped on request"}
    assert sorted(told(ours.connection)) == [["stopped", job_id] for job_id in "abcd"]
    assert ours.script.most == 4


def test_a_command_stops_one_execution(ours: Ours) -> None:
    ours.submit("a", held=True)
    ours.submit("b", held=True)

    def stop_one() -> None:
        ours.until_started("a", "b")
        (execution,) = ours.job("a").get_executions()
        send_stop_execution_command(ours.connection, "a", execution.id)
        until(lambda: ours.status("a") == "stopped")
        ours.script.release.set()

    ours.work(stop_one)
    assert (ours.status("a"), ours.status("b")) == ("stopped", "finished")


def test_commands_about_unknown_jobs_change_nothing(ours: Ours) -> None:
    ours.submit("a", held=True)

    def command() -> None:
        ours.until_started("a")
        assert ours.worker is not None
        for words in ({"job_id": "nobody"}, {"execution_id": "nothing"}, {}):
            for name in ("stop-job", "stop-execution", "kill-horse"):
                send_command(ours.connection, ours.worker.name, name, **words)
        ours.script.release.set()

    ours.work(command)
    assert ours.status("a") == "finished"


def test_what_is_no_command_does_not_end_the_listening(ours: Ours) -> None:
    ours.submit("a", held=True)

    def command() -> None:
        ours.until_started("a")
        assert ours.worker is not None
        for message in (b"\xff", b"{", b"[]", b"5", b"{}", b'{"command": ["stop-job"]}'):
            ours.connection.publish(ours.worker.pubsub_channel_name, message)
        send_stop_job_command(ours.connection, "a", serializer=JSONSerializer)

    ours.work(command)
    assert ours.status("a") == "stopped"


def test_a_worker_in_a_thread_obeys_the_command_to_stop(ours: Ours) -> None:
    ours.submit("a", held=True)
    worker = ours.worker = ours.make_worker(("tts",))
    thread = threading.Thread(target=worker.work, daemon=True)
    thread.start()
    ours.until_started("a")
    send_shutdown_command(ours.connection, worker.name)
    until(lambda: worker._stop_requested)
    ours.script.release.set()
    thread.join(60)
    assert not thread.is_alive()
    assert ours.status("a") == "finished"


def test_a_timeout_frees_its_row_at_once(redis_url: str) -> None:
    ours = Ours(f"{redis_url}?db=2", RULES)
    ours.submit("a", held=True, job_timeout=1)
    ours.submit("b")
    ours.work()
    assert reason(ours, "a").startswith("timeout: ")
    first, second = ours.job("a"), ours.job("b")
    assert first.started_at is not None
    assert second.started_at is not None
    assert 1.0 <= (second.started_at - first.started_at).total_seconds() < 15


def test_reasons_of_refused_requests_are_one_line(ours: Ours) -> None:
    ours.submit("a", refused="voice: unknown voice 'x'")
    ours.queue().enqueue(FUNCTION, request={"text": ""}, job_id="b")
    ours.queue().enqueue("os.getcwd", job_id="c")
    ours.submit("d", fails=ALWAYS)
    ours.work()
    assert reason(ours, "a") == "voice: unknown voice 'x'"
    assert reason(ours, "b").startswith("text: ")
    assert reason(ours, "c").startswith("function: 'os.getcwd'; accepted: ")
    assert reason(ours, "d") == "try 1 fails as asked"
    assert ours.script.started == ["d"]


@pytest.mark.parametrize("event", ["on_success", "on_failure", "on_stopped"])
def test_a_callback_that_is_not_listed_is_never_imported(
    ours: Ours, event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unlisted.py").write_text("def told(*_): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for job_id, name in (("a", "unlisted.told"), ("b", "os.getcwd")):
        options: dict[str, Any] = {event: Callback(name)}
        ours.submit(job_id, retry=Retry(max=1), **options)
    ours.work()
    accepted = f"is not on the worker's list; accepted: {', '.join(CALLBACKS)}"
    assert reason(ours, "a") == f"{event}: 'unlisted.told' {accepted}"
    assert reason(ours, "b") == f"{event}: 'os.getcwd' {accepted}"
    assert "unlisted" not in sys.modules
    assert ours.script.started == []


def test_a_callback_that_is_a_coroutine_is_awaited(ours: Ours) -> None:
    ours.submit("a", on_success=TELL_LATER)
    ours.submit("b", on_success=TELL_LATER, meta={"breaks": True})
    ours.work()
    assert sorted(told(ours.connection)) == [["stopped", "a"], ["stopped", "b"]]
    assert ours.status("a") == "finished"
    assert reason(ours, "b") == "on_success: ScriptError: the coroutine fails as asked"


class Handlers:
    """Exception handlers, as RQ calls them."""

    def __init__(self, answer: Any = None) -> None:
        self.told: list[tuple[str, str, str]] = []
        self._answer = answer

    def __call__(self, job: Job, kind: type[Exception], error: Exception, trace: Any) -> Any:
        assert isinstance(error, kind)
        assert trace is None
        self.told.append((job.id, job.get_status(refresh=False).value, str(error)))
        if self._answer is ScriptError:
            raise ScriptError("the handler fails as asked")
        return self._answer


def with_handlers(stage: Ours, *handlers: Handlers) -> None:
    worker = stage.make_worker(("tts",))
    for handler in handlers:
        worker.push_exc_handler(handler)  # type: ignore[no-untyped-call]
    assert worker.work(burst=True)


def test_handlers_are_told_of_every_failure_until_one_says_no(ours: Ours) -> None:
    ours.submit("a", fails=1, retry=Retry(max=1))
    ours.submit("b", on_success=BREAK_DOWN, on_failure=TELL_FAILURE)
    ours.submit("c", refused="no")
    first, second, third = Handlers(), Handlers(answer=False), Handlers()
    with_handlers(ours, first, second, third)
    assert sorted(first.told) == [
        ("a", "failed", "try 1 fails as asked"),
        ("b", "failed", "on_success: ScriptError: the callback fails as asked"),
        ("c", "failed", "no"),
    ]
    assert second.told == first.told
    assert third.told == []
    assert [ours.status(job_id) for job_id in "abc"] == ["finished", "failed", "failed"]


def test_a_handler_that_raises_is_named_in_the_reason(ours: Ours) -> None:
    ours.submit("a", fails=ALWAYS)
    with_handlers(ours, Handlers(answer=ScriptError))
    assert reason(ours, "a") == "try 1 fails as asked; exc_handler: ScriptError: the handler fails as asked"


def test_a_listed_callback_must_exist(redis_url: str) -> None:
    stage = Ours(f"{redis_url}?db=2", RULES.model_copy(update={"callbacks": ("scripted.nothing",)}))
    with pytest.raises(CallbackError, match=r"'scripted.nothing' cannot be imported"):
        stage.work()


def test_webhooks_go_to_listed_hosts_only(redis_url: str) -> None:
    stage = Ours(f"{redis_url}?db=2", RULES.model_copy(update={"webhook_hosts": ("example.org",)}))
    with listener(stage.connection) as url:
        stage.submit("a", webhooks=[Webhook(url, "failed", method="POST")])
        stage.work()
    assert reason(stage, "a") == "webhooks: host '127.0.0.1' is not on the worker's list; accepted: example.org"
    assert told(stage.connection) == []
    assert stage.script.started == []


def test_a_worker_that_ends_still_sends_its_webhooks(ours: Ours) -> None:
    with listener(ours.connection, seconds=0.05) as url:
        for number in range(12):
            ours.submit(f"job-{number}", webhooks=[Webhook(url, "finished", method="POST")])
        ours.work()
        assert len(told(ours.connection)) == 12


def test_suspended_workers_finish_what_runs_and_go_on_when_resumed(ours: Ours) -> None:
    ours.submit("a", held=True)

    def pause() -> None:
        ours.until_started("a")
        suspend(ours.connection)
        ours.submit("b")
        ours.script.release.set()
        until(lambda: ours.status("a") == "finished")
        assert ours.worker is not None
        key = ours.worker.key
        until(lambda: ours.connection.hget(key, "state") == b"suspended")
        assert leftovers(ours.connection, running=True) == []
        assert ours.status("b") == "queued"
        resume(ours.connection)
        until(lambda: ours.status("b") == "finished")
        ours.shut_down()

    ours.work(pause, burst=False)


def test_a_retry_is_started_when_its_time_has_come(ours: Ours) -> None:
    ours.submit("a", fails=1, retry=Retry(max=1, interval=1))

    def wait() -> None:
        until(lambda: ours.status("a") == "finished")
        ours.shut_down()

    begin = datetime.now(UTC)
    ours.work(wait, burst=False)
    again = ours.job("a").started_at
    assert again is not None
    assert 0.8 < (again - begin).total_seconds() < 15


def test_a_cancelled_job_frees_its_row(ours: Ours) -> None:
    for job_id in "abcd":
        ours.submit(job_id, held=True)
    ours.submit("e")

    def cancel() -> None:
        ours.until_started(*"abcd")
        ours.job("b").cancel()
        until(lambda: ours.status("e") == "finished")
        ours.script.release.set()

    ours.work(cancel)
    assert [ours.status(job_id) for job_id in "abcd"] == ["finished", "canceled", "finished", "finished"]


def test_a_worker_that_is_told_to_stop_finishes_all_that_runs(ours: Ours) -> None:
    for job_id in "abcd":
        ours.submit(job_id, held=True, on_success=TELL_SUCCESS)
    ours.submit("e")

    def shut_down() -> None:
        ours.until_started(*"abcd")
        ours.shut_down()
        ours.script.release.set()

    ours.work(shut_down, burst=False)
    assert [ours.status(job_id) for job_id in "abcde"] == ["finished"] * 4 + ["queued"]
    assert len(told(ours.connection)) == 4
