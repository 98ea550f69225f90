"""The chaos test at its smallest: faults of several kinds, and no job lost or duplicated."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from redis import Redis
from rq.queue import Queue
from rq.results import Result
from rq.serializers import JSONSerializer

from chaos.audit import audit
from chaos.book import Book, Seen
from chaos.clock import HOUR, Clock, build_library, why_no_clocks
from chaos.command import parse
from chaos.faults.kind import Target
from chaos.faults.table import KINDS, available
from chaos.namespace import Namespace, why_no_namespaces
from chaos.network import Proxy
from chaos.objects import why_no_store
from chaos.plan import Fault, make_plan
from chaos.recovery import Case, Tracker, percentile
from chaos.seen import views
from rwkv_tts.keys import audio_key
from worker.cli.embedded import embedded_redis

ROOM = Path(__file__).parents[3] / "scripts" / "chaos"
PORTABLE = ",".join(name for name, kind in KINDS.items() if kind.tool is None)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", ["1", "2"])
def test_quick_run(seed: str) -> None:
    command = [sys.executable, str(ROOM), "--quick", "--seed", seed, "--kinds", PORTABLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert [figures[name] for name in ("lost", "nowhere", "duplicated", "wrong", "leftovers")] == [0] * 5
    assert figures["submitted"] == figures["finished_once"] + figures["failed_with_reason"] == 300
    assert figures["faults"] == len(figures["faults_by_kind"]) == 12


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.s3
def test_quick_run_with_a_store() -> None:
    if reason := why_no_store():
        pytest.skip(reason)
    kinds = "kill,claimed,worked,committed,refuse,crash,store-crash"
    command = [sys.executable, str(ROOM), "--quick", "--store", "--kinds", kinds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert [figures[name] for name in ("lost", "nowhere", "duplicated", "wrong", "orphans")] == [0] * 5
    assert figures["store_faults"] > 0


def plan(seed: int) -> list[Fault]:
    options, _, _ = parse(["--seed", str(seed), "--faults", "60", "--lease", "12", "--seconds", "240"])
    return make_plan(list(KINDS.values()), options)


def test_a_seed_decides_the_plan() -> None:
    assert plan(1) == plan(1) != plan(2)


def test_faults_are_drawn_from_all_kinds_evenly() -> None:
    kinds = Counter(fault.kind.name for fault in plan(1))
    assert kinds.total() == 60
    assert kinds.keys() == KINDS.keys()
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert all(fault.seconds > 12 for fault in plan(1) if fault.kind.name == "freeze"), "longer than a lease"


def test_faults_of_the_server_do_not_overlap() -> None:
    for seed in range(20):
        faults = [fault for fault in plan(seed) if fault.kind.target is Target.SERVER]
        assert all(a.at + a.seconds <= b.at for a, b in pairwise(faults))
        assert faults[-1].at + faults[-1].seconds <= 240


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kinds: flood unknown; accepted: kill, claimed"):
        available(["oom", "flood"])


def test_the_audit_finds_what_is_wrong() -> None:
    kinds = dict.fromkeys(("good", "twice", "running", "lost-place", "gone", "forgotten", "set-back"), "good")
    confirmed = {**dict.fromkeys(kinds, 10.0), "forgotten": 50.0}
    book = Book(kinds={**kinds, "poison": "bad request"}, confirmed=confirmed, again={"forgotten", "set-back"})
    with embedded_redis() as url:
        queue = Queue("audited", connection=Redis.from_url(url), serializer=JSONSerializer)
        for job_id in ("good", "poison", "lost-place", "forgotten", "set-back"):
            _end(queue, job_id, "finished", successes=1)
        _end(queue, "twice", "finished", successes=2)
        _end(queue, "running", "started", successes=0)
        queue.finished_job_registry.remove("lost-place")
        found = audit(queue.connection, queue, book, rollbacks=[(9.0, 11.0)], real=False)
    assert (found.submitted, found.duplicated, found.wrong) == (8, ["twice"], ["poison"])
    assert [line.split()[0] for line in found.lost] == ["forgotten", "running", "gone"]
    assert [line.split()[0] for line in found.nowhere] == ["running", "lost-place", "gone"]
    assert not found.holds


def _end(queue: Queue, job_id: str, status: str, successes: int) -> None:
    job = queue.enqueue_call("some.function", job_id=job_id)
    queue.remove(job_id)
    queue.connection.hset(job.key, "status", status)
    queue.connection.set(audio_key(job_id), job_id)
    for _ in range(successes):
        Result.create(job, Result.Type.SUCCESSFUL, -1, return_value={})
    if successes:
        queue.finished_job_registry.add(job)


def test_what_a_producer_saw_counts_for_the_one_kind_that_it_met() -> None:
    tracker = Tracker("registry")
    for kind, worker, at in (("oom", None, 10.0), ("kill", "w", 12.0), ("restart", None, 30.0)):
        tracker.add(Case(kind, worker, at, until=at + 5, jobs=1, done_at=at + 6))
    alone, with_a_kill, both = Seen(0, 13, 2, ["OOM"]), Seen(0, 16.5, 1, []), Seen(0, 14, 17, ["X"])
    found = views(Book(submits=[alone, both], results=[alone, with_a_kill]), tracker)
    assert (found["oom"].submit, found["oom"].result, found["oom"].errors) == (2, None, ["OOM"])
    assert (found["kill"].submit, found["kill"].result, found["kill"].recovery) == (None, 1, 1.0)
    assert (found["restart"].times, found["restart"].submit) == (1, None)


@pytest.mark.skipif(why_no_clocks() is not None, reason=str(why_no_clocks()))
def test_a_clock_is_stepped_while_its_process_runs(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "step", build_library(tmp_path))
    program = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for step in (0, HOUR, -HOUR):
            clock.step(step)
            process.stdin.write("now\n")
            process.stdin.flush()
            told, monotonic = map(float, process.stdout.readline().split())
            assert told - time.time() == pytest.approx(step, abs=2)
            assert monotonic == pytest.approx(time.monotonic(), abs=2)


def test_percentile() -> None:
    assert percentile([], 0.5) is None
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([float(i) for i in range(1, 101)], 0.99) == 99.0


@pytest.mark.skipif(why_no_namespaces() is not None, reason=str(why_no_namespaces()))
def test_packets_are_dropped_in_a_namespace_until_they_pass_again(tmp_path: Path) -> None:
    with embedded_redis() as url:
        namespace = Namespace(f"chaos-test-{os.getpid()}")
        proxy = Proxy(tmp_path / "unused", Path(url.removeprefix("unix://")), "default", namespace)
        ask = "import sys, redis; redis.Redis.from_url(sys.argv[1], socket_connect_timeout=0.5).ping()"
        command = [*namespace.command, sys.executable, "-c", ask, proxy.url]
        try:
            assert subprocess.run(command, check=False).returncode == 0
            namespace.drop(100)
            assert b"timed out" in subprocess.run(command, capture_output=True, check=False).stderr.lower()
            namespace.pass_all()
            assert subprocess.run(command, check=False).returncode == 0
        finally:
            proxy.close()
