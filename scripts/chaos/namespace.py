"""A network namespace with nothing but a loopback device, whose packets can be dropped."""

import ctypes
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PORT = 6379
_NEW_NETWORK = 0x40000000
_DROP = """table ip chaos {{
    chain in {{
        type filter hook input priority 0
        iifname "lo" numgen random mod 100 <= {most} drop
    }}
}}
"""


def why_no_namespaces() -> str | None:
    """Why packets cannot be dropped on this machine; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [program for program in ("ip", "nft") if not shutil.which(program)]:
        return f"not installed: {', '.join(missing)} (iproute2, nftables)"
    try:
        probe = Namespace(f"chaos-probe-{os.getpid()}")
        probe.drop(1)
        probe.close()
    except (subprocess.CalledProcessError, OSError) as error:
        return f"network namespaces: {error}"
    return None


class Namespace:
    """Processes in it reach whoever listens on the socket ``listener``, over TCP.

    Attributes:
        command: What starts a program in it.
        listener: Listens inside, and is served from outside.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.command = ("ip", "netns", "exec", name)
        _run("ip", "netns", "add", name)
        _run(*self.command, "ip", "link", "set", "lo", "up")
        with ThreadPoolExecutor(1) as thread:  # a thread can be in another namespace than its process
            self.listener = thread.submit(self._listen).result()

    def drop(self, percent: int) -> None:
        """Drop so many of a hundred packets, at random; TCP sends them again, later and later."""
        _run(*self.command, "nft", "-f", "-", text=_DROP.format(most=percent - 1))

    def pass_all(self) -> None:
        """Drop none."""
        _run(*self.command, "nft", "flush", "ruleset")

    def close(self) -> None:
        self.listener.close()
        _run("ip", "netns", "delete", self._name)

    def _listen(self) -> socket.socket:
        with Path("/run/netns", self._name).open() as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), f"setns {self._name}")
        return socket.create_server(("127.0.0.1", PORT))


def _run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, input=text, text=True, check=True)
