"""Random bytes from the operating system, read ahead.

Every call of the system gives up the interpreter's lock and takes it again, which under load costs far more than the
bytes; so they are read some kilobytes at a time. None is handed out twice, and a forked process begins anew.
"""

from __future__ import annotations

import os
import threading
from typing import Final

READ_AHEAD_BYTES: Final = 8192


class _Reserve:
    """Bytes that nobody has had yet."""

    __slots__ = ("_bytes", "_position")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._bytes = b""
        self._position = 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._bytes):
            self._bytes = os.urandom(max(READ_AHEAD_BYTES, size))
            self._position, end = 0, size
        taken = self._bytes[self._position : end]
        self._position = end
        return taken


class _OfThread(threading.local):
    """A reserve per thread: two threads at once would get the same bytes from one."""

    def __init__(self) -> None:
        self.reserve = _Reserve()


_OWN: Final = _OfThread()


def _begin_anew() -> None:
    """After a fork, of which only the forking thread goes on."""
    _OWN.reserve.clear()


os.register_at_fork(after_in_child=_begin_anew)


def random_bytes(size: int) -> bytes:
    """So many unguessable bytes."""
    return _OWN.reserve.take(size)
