"""Where a chaos run takes place: what its processes are surrounded with, as far as its faults need that."""

import os
from collections.abc import Collection
from pathlib import Path

from chaos.clock import Clock, build_library
from chaos.namespace import Namespace
from chaos.network import Proxy
from chaos.objects import ObjectStore
from chaos.tool import Tool


class Site:
    """Makes clocks and networks.

    Args:
        folder: For their files.
        tools: What the faults of the run need.
        store: Whether audio goes to a store.

    Attributes:
        store: That store, which is not started yet.
    """

    def __init__(self, folder: Path, tools: Collection[Tool | None], *, store: bool = False) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self._library = build_library(folder) if Tool.CLOCKS in tools else None
        self.store = ObjectStore(folder / "objects") if store else None
        self._in_namespaces = Tool.NAMESPACES in tools

    def clock(self, name: str) -> Clock | None:
        """A clock of its own for one process, when clocks are to be stepped."""
        return Clock(self.folder / f"{name}.step", self._library) if self._library else None

    def network(self, name: str, user: str) -> Proxy:
        """A network of its own for one process, and a namespace when packets are to be dropped."""
        namespace = Namespace(f"chaos-{os.getpid()}-{name}") if self._in_namespaces else None
        return Proxy(self.folder / f"{name}.sock", self.socket, user, namespace)
