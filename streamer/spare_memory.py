"""Memory that ended calls have left behind, given back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from typing import Any

ARENAS = 2
WAIT_S = 1.0  # from a call's end to the collection: what comes after the end is over by then, and ends come together
M_ARENA_MAX = -8  # of glibc's malloc.h


def _glibc() -> Any | None:
    """The C library, where it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "gnu_get_libc_version") else None


def keep_together(arenas: int = ARENAS) -> bool:
    """Has all threads allocate from so few heaps. Returns whether it could. Before threads are started.

    glibc makes eight for every core. Each call begins two threads and ends them; what one of them freed lies in its
    heap until a thread that happens to get the same one wants as much: after minutes as much was free as was in use.
    """
    library = _glibc()
    return library is not None and bool(library.mallopt(M_ARENA_MAX, arenas))


def give_back() -> bool:
    """Gives freed memory back, where the C library is glibc. Returns whether it could.

    Takes some milliseconds, during which other threads wait for memory: only while no call is going on, and in a
    thread.
    """
    gc.collect()
    library = _glibc()
    return library is not None and bool(library.malloc_trim(0))


class Sweep:
    """Collects what ended calls leave behind: a connection is full of cycles, and holds 1 to 2 MB.

    By itself Python would look after some 40 calls: memory went up by 15 MB and more in between, and down again. On
    the event loop; `gc.freeze` must have left out what is loaded, so that one look takes 2 ms.
    """

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """A call has ended."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._now)

    def _now(self) -> None:
        self._timer = None
        gc.collect()
