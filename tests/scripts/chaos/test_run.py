"""The chaos test at its smallest: every kind of fault once or twice, and no job lost or duplicated."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from redis import Redis
from rq.queue import Queue
from rq.results import Result
from rq.serializers import JSONSerializer

from chaos.ledger import audit
from chaos.plan import OF_THE_SERVER, Amounts, Kind, make_plan
from chaos.recovery import percentile
from rwkv_tts.keys import audio_key
from worker.cli.embedded import embedded_redis

ROOM = Path(__file__).parents[3] / "scripts" / "chaos"
AMOUNTS = Amounts(kills=30, zombies=4, cuts=4, restarts=5, pauses=3)


@pytest.mark.slow
def test_quick_run() -> None:
    done = subprocess.run([sys.executable, str(ROOM), "--quick"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["lost"], figures["duplicated"], figures["wrong"], figures["leftovers"]) == (0, 0, 0, 0)
    assert figures["submitted"] == figures["finished_once"] + figures["failed_with_reason"] == 500
    assert figures["kills"] == {"total": 4, "random": 1, "claimed": 1, "worked": 1, "committed": 1}
    assert figures["redis_restarts"] == {"sigterm": 1, "sigkill": 1}
    assert (figures["zombies"], figures["cuts"], figures["redis_pauses"]) == (1, {"refuse": 1, "deaf": 1}, 1)


def test_a_seed_decides_the_plan() -> None:
    plans = [make_plan(AMOUNTS, seconds=240, workers=3, lease=12, seed=seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    kinds = Counter(fault.kind for fault in plans[0])
    assert sum(kinds[kind] for kind in (Kind.KILL, Kind.CLAIMED, Kind.WORKED, Kind.COMMITTED)) == 30
    assert (kinds[Kind.RESTART] + kinds[Kind.CRASH], kinds[Kind.PAUSE], kinds[Kind.ZOMBIE]) == (5, 3, 4)
    assert all(fault.seconds > 12 for fault in plans[0] if fault.kind is Kind.ZOMBIE)


def test_faults_of_the_server_do_not_overlap() -> None:
    for seed in range(20):
        plan = make_plan(AMOUNTS, seconds=240, workers=3, lease=12, seed=seed)
        faults = [fault for fault in plan if fault.kind in OF_THE_SERVER]
        assert all(a.at + a.seconds <= b.at for a, b in pairwise(faults))
        assert faults[-1].at + faults[-1].seconds <= 240


def test_the_audit_finds_what_is_wrong(tmp_path: Path) -> None:
    with embedded_redis() as url:
        queue = Queue("audited", connection=Redis.from_url(url), serializer=JSONSerializer)
        _end(queue, "good", "finished", successes=1)
        _end(queue, "twice", "finished", successes=2)
        _end(queue, "running", "started", successes=0)
        _end(queue, "poison", "finished", successes=1)
        ledger = tmp_path / "ledger"
        kinds = {"good": "good", "twice": "good", "running": "good", "poison": "bad request", "gone": "good"}
        lines = [json.dumps({"id": job_id, "kind": kind}) for job_id, kind in kinds.items()]
        ledger.write_text("\n".join([*lines, json.dumps({"lost_replies": 3})]))
        found = audit(queue.connection, queue, [ledger], real=False)
    assert (found.submitted, found.lost_replies, found.duplicated, found.wrong) == (5, 3, ["twice"], ["poison"])
    assert [line.split()[0] for line in found.lost] == ["running", "gone"]
    assert not found.holds


def _end(queue: Queue, job_id: str, status: str, successes: int) -> None:
    job = queue.enqueue_call("some.function", job_id=job_id)
    queue.remove(job_id)
    queue.connection.hset(job.key, "status", status)
    queue.connection.set(audio_key(job_id), job_id)
    for _ in range(successes):
        Result.create(job, Result.Type.SUCCESSFUL, -1, return_value={})


def test_percentile() -> None:
    assert percentile([], 0.5) is None
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([float(i) for i in range(1, 101)], 0.99) == 99.0
