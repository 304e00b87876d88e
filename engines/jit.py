"""The one place that knows Numba: a typed decorator for pixel kernels.

A kernel is compiled at its first call, cached on disk, and runs without the interpreter's lock, so a worker thread
that draws never holds up the event loop. No `parallel=True`: Numba's default thread pool must not be entered from two
threads at once, and sessions are threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a numeric function over arrays and scalars. Fast maths: no NaN or infinity may enter a kernel."""
    return cast("Callable[P, R]", numba.njit(nogil=True, cache=True, fastmath=True)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, for what a kernel does per pixel: compiled into whoever calls it.

    A call would cost more than the work: half of it is counting who holds the arrays. For the same reason such a
    function gives its result back as a tuple and no small array is made.
    """
    return cast("Callable[P, R]", numba.njit(nogil=True, cache=True, fastmath=True, forceinline=True)(function))
