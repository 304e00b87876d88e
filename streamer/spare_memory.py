"""Memory that ended calls have left behind, given back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from typing import Any

WAIT_S = 1.0  # from a call's end to the collection: what comes after the end is over by then, and ends come together
M_ARENA_MAX = -8  # of glibc's malloc.h


def _glibc() -> Any | None:
    """The C library, where it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "gnu_get_libc_version") else None


def keep_together() -> bool:
    """Has all threads allocate from one heap. Returns whether it could. Before threads are started.

    glibc makes eight for every core. Each call begins a thread and ends it; what it freed lay in its heap until another
    thread that happened to get the same one wanted as much: after minutes as much was free as was in use. With two
    heaps `trim` cannot give back the end of the second. Python's own small objects do not come from there.
    """
    library = _glibc()
    return library is not None and bool(library.mallopt(M_ARENA_MAX, 1))


def trim() -> bool:
    """Gives memory that is free back to the system, where the C library is glibc. Returns whether it could.

    Takes some milliseconds, during which other threads wait for memory: in a thread, and not for every picture.
    """
    library = _glibc()
    return library is not None and bool(library.malloc_trim(0))


class Sweep:
    """Frees what ended calls leave behind: a connection is full of cycles, and holds 1 to 2 MB.

    By itself Python would look after some 40 calls, and the C library would keep the most that ever was: memory went
    up by 15 MB and more in between, and in 24 minutes from 12 MB that are free to 30. On the event loop; `gc.freeze`
    must have left out what is loaded, so that one look takes 2 ms.
    """

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._trimming: asyncio.Future[bool] | None = None

    def soon(self) -> None:
        """A call has ended."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._now)

    def _now(self) -> None:
        self._timer = None
        gc.collect()
        if self._trimming is None or self._trimming.done():
            self._trimming = asyncio.get_running_loop().run_in_executor(None, trim)
