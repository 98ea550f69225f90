"""Threads that help with a call of compiled code."""

import ctypes
import weakref

from native.library import function


class Team:
    """Members beside the thread that calls; they end with this object, and sleep while there is no call.

    Args:
        members: How many; the system may give fewer.

    Attributes:
        address: For compiled code; None where there is no member.

    Raises:
        UnavailableError: Nothing was compiled.
    """

    def __init__(self, members: int) -> None:
        begin, end = function("team_begin", "n", ctypes.c_void_p), function("team_end", "p")
        self.address = begin(members) if members else None
        # At the interpreter's end another thread may still be in a call; the system ends the members then.
        weakref.finalize(self, end, self.address).atexit = False
