"""Makes a connection from a URL: one of redis-py's, or the addresses of Sentinels, which know who the master is.

    redis+sentinel://user:password@host:26379,host2:26379/master_name/0?sentinel_username=…&sentinel_password=…
    rediss+sentinel://…    with TLS, to the Sentinels as well

User, password, database and the other options are those of redis-py's URLs and meant for Redis. The Sentinels are
asked without a login, unless there is a ``sentinel_password`` or a ``sentinel_username``; for a user without a
password of its own it is that of Redis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

try:
    from redis.driver_info import DriverInfo

    _SHARED: dict[str, Any] = {"driver_info": DriverInfo()}
    """Each connection would read the version of redis-py anew, from files: 2 ms of its 3."""
except ImportError:  # before redis-py 7.1
    _SHARED = {}

_SENTINEL = "+sentinel"
_PORT = "26379"
_CONNECTIONS = 10_000
"""Of a client at most: whoever waits for a result or listens to a stream holds one; redis-py allows 100."""

_ACCEPTED = "redis+sentinel:// or rediss+sentinel://host:26379,host2:26379/master_name/db"


def connect(url: str, **options: Any) -> Redis:
    """A connection for a URL; ``options`` are those of ``Redis.from_url``, over which the URL's have precedence.

    Raises:
        ValueError: The URL is none; the message does not quote it.
    """
    if not _names_sentinels(url):
        return Redis.from_url(url, **{**_SHARED, "max_connections": _CONNECTIONS, **options})
    watched = _read(url, {**_SHARED, "max_connections": _CONNECTIONS, **options})
    sentinels = _Sentinels(watched.hosts, sentinel_kwargs={**watched.asking, "retry": Retry(NoBackoff(), 0)})
    master: Redis = sentinels.master_for(watched.name, **watched.options)
    return master


def connect_async(url: str, **options: Any) -> redis_asyncio.Redis:
    """As ``connect``, for asyncio."""
    if not _names_sentinels(url):
        return redis_asyncio.Redis.from_url(url, **{**_SHARED, "max_connections": _CONNECTIONS, **options})
    watched = _read(url, {**_SHARED, "max_connections": _CONNECTIONS, **options})
    retry = AsyncRetry(NoBackoff(), 0)
    sentinels = _AsyncSentinels(watched.hosts, sentinel_kwargs={**watched.asking, "retry": retry})
    master: redis_asyncio.Redis = sentinels.master_for(watched.name, **watched.options)
    return master


@dataclass(frozen=True)
class _Watched:
    """A master that Sentinels watch.

    Attributes:
        hosts: Their addresses.
        name: Their name for it.
        asking: How to connect to them.
        options: How to connect to the master.
    """

    hosts: list[tuple[str, int]]
    name: str
    asking: dict[str, Any]
    options: dict[str, Any]


def _names_sentinels(url: str) -> bool:
    return url.partition("://")[0].endswith(_SENTINEL)


def _read(url: str, options: Mapping[str, Any]) -> _Watched:
    parts = urlsplit(url)
    plain = parts.scheme.removesuffix(_SENTINEL)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, db = parts.path.strip("/").partition("/")
    if not name or (db and not db.isdecimal()) or plain not in ("redis", "rediss"):
        raise ValueError(f"redis: the URL names no master of Sentinels; accepted: {_ACCEPTED}")
    told = {**options, **parse_url(f"redis://{login}@sentinels/{db}?{parts.query}")}
    del told["host"]
    told["ssl"] = plain == "rediss"
    user, password = told.pop("sentinel_username", None), told.pop("sentinel_password", None)
    asking = {key: value for key, value in told.items() if key.startswith(("socket_", "ssl"))}
    asking |= {"username": user, "password": password or (user and told.get("password"))}
    return _Watched([_address(host) for host in hosts.split(",")], unquote(name), asking, told)


def _address(text: str) -> tuple[str, int]:
    """Host and port; an IPv6 address is in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, _PORT
    if not host.strip("[]") or not port.isdecimal():
        raise ValueError(f"redis: the URL has an address of a Sentinel that is none; accepted: {_ACCEPTED}")
    return unquote(host.strip("[]")), int(port)


class _Sentinels(Sentinel):
    """Tells why there is no master, and keeps no connection: it would be stale when it is needed."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        answers = []
        for sentinel in self.sentinels:
            answers.append(self._ask(sentinel, service_name))
            state = answers[-1]
            if isinstance(state, dict) and self.check_master_state(state, service_name):
                others = [one for one in self.sentinels if one is not sentinel]
                self.sentinels = [sentinel, *others]  # the first to be asked next time
                return state["ip"], state["port"]
        raise _no_master(service_name, self.sentinels, answers)

    @staticmethod
    def _ask(sentinel: Redis, name: str) -> "_Answer":
        try:
            masters: dict[str, Any] = sentinel.sentinel_masters()  # type: ignore[assignment]
        except RedisError as error:
            return error
        finally:
            sentinel.connection_pool.disconnect(inuse_connections=False)
        return masters.get(name)


class _AsyncSentinels(AsyncSentinel):
    """As ``_Sentinels``."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        answers = []
        for sentinel in self.sentinels:
            answers.append(await self._ask(sentinel, service_name))
            state = answers[-1]
            if isinstance(state, dict) and self.check_master_state(state, service_name):
                others = [one for one in self.sentinels if one is not sentinel]
                self.sentinels = [sentinel, *others]  # the first to be asked next time
                return state["ip"], state["port"]
        raise _no_master(service_name, self.sentinels, answers)

    @staticmethod
    async def _ask(sentinel: redis_asyncio.Redis, name: str) -> "_Answer":
        try:
            masters: dict[str, Any] = await sentinel.sentinel_masters()  # type: ignore[assignment]
        except RedisError as error:
            return error
        finally:
            await sentinel.connection_pool.disconnect(inuse_connections=False)
        return masters.get(name)


_Answer = dict[str, Any] | RedisError | None
"""What a Sentinel knows of a master, or why it did not say."""


def _no_master(name: str, sentinels: Sequence[Any], answers: Sequence[_Answer]) -> MasterNotFoundError:
    """In one line; that of redis-py shows its objects, in some versions with passwords, and hides the reason."""
    asked = [one.connection_pool.connection_kwargs for one in sentinels]
    hosts = ", ".join(f"{options['host']}:{options['port']}" for options in asked)
    errors = [answer for answer in answers if isinstance(answer, RedisError)]
    why = errors[-1] if errors else "accepted: the name of a master that they watch, and it must be up"
    return MasterNotFoundError(f"sentinel: no master {name!r} at {hosts}; {why}")
