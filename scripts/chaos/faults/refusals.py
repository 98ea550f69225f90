"""A server that is there and refuses: writes, connections, or all that it had promised."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chaos.faults.kind import Scene
from chaos.server import WORKER

RIGHTS = ("-@write", "-xadd", "-zrem", "-sadd", "-lpop", "-del", "-eval -evalsha", "-publish", "resetkeys ~rq:*")
"""What is taken from the workers, one of them at a time."""


@contextmanager
def full(scene: Scene) -> Iterator[None]:
    """OOM."""
    scene.server.admin.config_set("maxmemory", 1)
    yield
    scene.server.admin.config_set("maxmemory", 0)


@contextmanager
def no_snapshot(scene: Scene) -> Iterator[None]:
    """MISCONF: snapshots fail, because a folder is where theirs belongs."""
    admin, file = scene.server.admin, scene.server.snapshot
    file.unlink(missing_ok=True)
    file.mkdir()
    admin.config_set("save", "3600 1")
    admin.bgsave()
    yield
    file.rmdir()
    admin.config_set("save", "")


@contextmanager
def disk_full(scene: Scene) -> Iterator[None]:
    """MISCONF: the append-only file cannot grow. With ``appendfsync always`` the server would end itself."""
    server = scene.server
    server.admin.config_set("appendfsync", "everysec")
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (server.append_only_file.stat().st_size, before[1]))
    yield
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
    server.wait_until_written()
    server.admin.config_set("appendfsync", "always")


@contextmanager
def read_only(scene: Scene) -> Iterator[None]:
    """READONLY: a replica of nobody, as after a failover."""
    scene.server.admin.replicaof("127.0.0.1", "1")
    yield
    scene.server.admin.replicaof("NO", "ONE")


@contextmanager
def no_replicas(scene: Scene) -> Iterator[None]:
    """NOREPLICAS."""
    scene.server.admin.config_set("min-replicas-to-write", 1)
    yield
    scene.server.admin.config_set("min-replicas-to-write", 0)


@contextmanager
def fewer_rights(scene: Scene) -> Iterator[None]:
    """NOPERM: the workers lack a right, some of them in the midst of a script."""
    admin: Any = scene.server.admin
    admin.execute_command("ACL", "SETUSER", WORKER, *scene.random.choice(RIGHTS).split())
    yield
    admin.execute_command("ACL", "SETUSER", WORKER, "+@all", "~*")


@contextmanager
def paused(scene: Scene) -> Iterator[None]:
    """CLIENT PAUSE, of all commands or of those that write; it ends by itself."""
    scene.server.admin.client_pause(round(1000 * scene.seconds), all=scene.random.random() < 0.5)
    yield


@contextmanager
def no_connections(scene: Scene) -> Iterator[None]:
    """All connections are ended, and only one is allowed, which is ours."""
    admin: Any = scene.server.admin
    with admin.client() as only:
        (before,) = only.config_get("maxclients").values()
        only.config_set("maxclients", 1)
        for kind in ("normal", "pubsub"):
            only.client_kill_filter(_type=kind, skipme=True)
        yield
        only.config_set("maxclients", before)


@contextmanager
def scripts_forgotten(scene: Scene) -> Iterator[None]:
    """SCRIPT FLUSH."""
    scene.server.admin.script_flush()
    yield
