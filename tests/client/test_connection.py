"""Connections from URLs, by way of real Sentinels."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError

from chaos.sentinels import NAME, ReplicatedServer, free_ports
from rwkv_tts.connection import connect, connect_async
from worker.broker.connection import worker_connection
from worker.settings import Settings

PASSWORD = "s3n/t@nel:w%rd"  # noqa: S105 - of the test's own server


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedServer]:
    """A lone master with a user ``speaker``, and one Sentinel."""
    server = ReplicatedServer(tmp_path_factory.mktemp("watched"), replicas=0, sentinels=1)
    server.start()
    server.nodes[0].connection.acl_setuser(
        "speaker", enabled=True, passwords=f"+{PASSWORD}", keys="*", channels="*", categories=["+@all"]
    )
    yield server
    server.stop()


@pytest.fixture
def hosts(watched: ReplicatedServer) -> str:
    """A Sentinel that is away, and the one that is there."""
    return ",".join(f"127.0.0.1:{port}" for port in (*free_ports(1), *watched.sentinel_ports))


def with_login(hosts: str, options: str = "") -> str:
    return f"redis+sentinel://speaker:{quote(PASSWORD, safe='')}@{hosts}/{NAME}/3{options}"


def test_a_master_is_found_with_login_database_and_options(hosts: str) -> None:
    connection = connect(with_login(hosts, "?socket_timeout=4"), socket_connect_timeout=2)
    assert connection.acl_whoami() == "speaker"
    assert connection.client_info()["db"] == 3
    kwargs = connection.connection_pool.connection_kwargs
    assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (4, 2)


def test_asyncio_finds_it_too(hosts: str) -> None:
    async def who() -> object:
        connection = connect_async(with_login(hosts))
        both = await asyncio.gather(connection.acl_whoami(), connection.acl_whoami())
        await connection.aclose()
        return both

    assert asyncio.run(who()) == ["speaker", "speaker"]


def test_sentinels_may_want_a_login(watched: ReplicatedServer, hosts: str) -> None:
    sentinel = Redis(port=watched.sentinel_ports[0])
    sentinel.acl_setuser("asker", enabled=True, passwords=f"+{PASSWORD}", channels="*", categories=["+@all"])
    sentinel.acl_setuser("default", enabled=False)
    try:
        assert connect(with_login(hosts, "?sentinel_username=asker")).ping()
        assert connect(f"{watched.url}?sentinel_username=asker&sentinel_password={quote(PASSWORD)}").ping()
        reasons = {
            "": "(Authentication required|already authenticated)",
            "?sentinel_username=asker&sentinel_password=wrong": "invalid user",
        }
        for login, reason in reasons.items():
            with pytest.raises(RedisError, match=reason) as refused:
                worker_connection(with_login(hosts, login)).ping()
            assert PASSWORD not in str(refused.value)
    finally:
        Redis(port=watched.sentinel_ports[0], username="asker", password=PASSWORD).acl_setuser(
            "default", enabled=True
        )


def test_the_password_may_come_from_a_file(hosts: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    url = Settings(redis=f"redis+sentinel://speaker@{hosts}/{NAME}", redis_password_file=secret).redis_url({})
    assert url is not None
    assert worker_connection(url).acl_whoami() == "speaker"


def test_a_name_that_no_sentinel_watches_is_told_in_one_line(watched: ReplicatedServer) -> None:
    url = watched.url.replace(f"/{NAME}", "/other")
    with pytest.raises(MasterNotFoundError) as missing:
        worker_connection(url).ping()
    told = f"sentinel: no master 'other' at 127.0.0.1:{watched.sentinel_ports[0]}; accepted: the name of a master"
    assert str(missing.value).startswith(told)
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "worker", f"--redis={url}?socket_timeout=1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert told in " ".join(done.stderr.split())


def test_sentinels_that_are_away_are_named() -> None:
    (port,) = free_ports(1)
    with pytest.raises(MasterNotFoundError) as missing:
        worker_connection(with_login(f"127.0.0.1:{port}")).ping()
    assert f"no master '{NAME}' at 127.0.0.1:{port}; Error 111 connecting" in str(missing.value)
    assert quote(PASSWORD, safe="") not in str(missing.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u:secret@host:26379",
        "redis+sentinel://u:secret@host:26379/",
        "redis+sentinel://u:secret@host:26379/name/none",
        "redis+sentinel://u:secret@host:port/name",
        "redis+sentinel://u:secret@host,/name",
        "unix+sentinel://u:secret@host/name",
    ],
)
def test_a_url_that_names_no_master_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="accepted: redis\\+sentinel://") as refused:
        connect(url)
    assert "secret" not in str(refused.value)


def test_addresses_may_lack_the_port_and_may_be_of_ipv6() -> None:
    connection = connect("rediss+sentinel://one,[::1]:5,[::2]/name%2Fx")
    sentinels = connection.connection_pool.sentinel_manager.sentinels  # type: ignore[attr-defined]
    kwargs = [one.connection_pool.connection_kwargs for one in sentinels]
    assert [(one["host"], one["port"]) for one in kwargs] == [("one", 26379), ("::1", 5), ("::2", 26379)]
    assert connection.connection_pool.service_name == "name/x"  # type: ignore[attr-defined]
