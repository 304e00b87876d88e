"""The one place that knows Numba: typed decorators for pixel kernels, and the cache that keeps what was compiled.

A kernel is compiled at its first call, cached on disk, and runs without the interpreter's lock, so a worker thread
that draws never holds up the event loop. No `parallel=True`: Numba's default thread pool must not be entered from two
threads at once, and sessions are threads.

Numba renews a cached kernel when its own file changes, not when a function or a number of another file does that was
compiled into it (numba/numba#1833): machine code of two versions then runs on the same arrays. So the files of a cached
kernel are named after all that it is made of, and are opened at its first call. Where Numba keeps them is Numba's
choice: NUMBA_CACHE_DIR, `__pycache__` beside the source, or the user's cache folder where that cannot be written.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from numba.core import caching
from numba.core.dispatcher import Dispatcher

P = ParamSpec("P")
R = TypeVar("R")
KEPT_VERSIONS = 4
"""Of a kernel, on disk: a switch between two checkouts and back compiles nothing, and old ones do not pile up."""

log = logging.getLogger(__name__)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a numeric function over arrays and scalars. Fast maths: no NaN or infinity may enter a kernel."""
    return cast("Callable[P, R]", _cached(numba.njit(nogil=True, fastmath=True)(function)))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, for what a kernel does per pixel: compiled into whoever calls it.

    A call would cost more than the work: half of it is counting who holds the arrays. For the same reason such a
    function gives its result back as a tuple and no small array is made.
    """
    return cast("Callable[P, R]", _cached(numba.njit(nogil=True, fastmath=True, forceinline=True)(function)))


def _cached(dispatcher: Any) -> Any:
    if hasattr(dispatcher, "_cache"):  # NUMBA_DISABLE_JIT gives the function back as it is
        dispatcher._cache = KernelCache(dispatcher)  # what `cache=True` does, with Numba's own class
    return dispatcher


def made_of(dispatcher: Any) -> str:
    """Names all that a kernel's machine code is made of: 16 hexadecimal digits.

    Its own code and options, the kernels that it calls, theirs, and the values that they name: Numba compiles them in.
    As they are in this process, not in the files, which somebody may have edited since they were read.
    """
    digest = hashlib.sha256()
    for part in _parts(dispatcher, frozenset(), set()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _parts(value: Any, names: frozenset[str], seen: set[object]) -> Iterator[str]:
    """What one value gives to a kernel that names it. Of a module only what has one of `names`."""
    if isinstance(value, Dispatcher):
        if value not in seen:
            seen.add(value)
            yield from _function_parts(value, seen)
    elif isinstance(value, ModuleType):
        if (value, names) not in seen:
            seen.add((value, names))
            for name in sorted(names & vars(value).keys()):
                yield name
                yield from _parts(vars(value)[name], names, seen)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _parts(one, names, seen)
    elif value is None or isinstance(value, int | float | complex | str | bytes | np.generic | np.dtype):
        yield repr(value)
    else:  # a type, a function of a library: Numba has its own of the same name
        yield f"{getattr(value, '__module__', '')} {getattr(value, '__qualname__', type(value).__qualname__)}"


def _function_parts(dispatcher: Any, seen: set[object]) -> Iterator[str]:
    function = dispatcher.py_func
    yield f"{function.__module__} {function.__qualname__} {sorted(dispatcher.targetoptions.items())}"
    yield from _code_parts(function.__code__)
    names = frozenset(_names(function.__code__))
    closed = [cell.cell_contents for cell in function.__closure__ or ()]
    yield from _parts([*closed, *(function.__defaults__ or ())], names, seen)
    for name in sorted(names & function.__globals__.keys()):
        yield name
        yield from _parts(function.__globals__[name], names, seen)


def _code_parts(code: CodeType) -> Iterator[str]:
    """Everything in a function's code but where it stands."""
    yield code.co_code.hex()
    yield f"{code.co_names} {code.co_varnames} {code.co_freevars} {code.co_argcount}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant)
        else:
            yield repr(sorted(constant) if isinstance(constant, frozenset) else constant)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


class _Files(caching.CompileResultCacheImpl):
    """Where a kernel is cached, as Numba chooses, under a name that says what it was made of."""

    def __init__(self, version: str, function: Callable[..., object]) -> None:
        self._version = version
        super().__init__(function)  # type: ignore[no-untyped-call]  # Numba's

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        named = f"{fullname}-{self._version}"
        return str(super().get_filename_base(named, abiflags))  # type: ignore[no-untyped-call]  # Numba's


class _FunctionCache(caching.FunctionCache):
    def __init__(self, dispatcher: Any) -> None:
        make: Any = functools.partial(_Files, made_of(dispatcher))
        self._impl_class = make
        super().__init__(dispatcher.py_func)  # type: ignore[no-untyped-call]  # Numba's

    @property
    def filename_base(self) -> str:
        return str(self._impl.filename_base)


class KernelCache:
    """What Numba asks of a dispatcher's cache. Opened at the first call, when all that a kernel names is there.

    A cache that cannot be read or written is no reason to end a call: the kernel is compiled, and a warning says so.
    """

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        self._cache: Any = None

    @property
    def cache_path(self) -> str | None:
        return cast("str | None", self._opened().cache_path)

    def load_overload(self, signature: object, target: object) -> Any:
        """The compiled kernel for these types, or None where nobody has compiled it yet."""
        cache = self._opened()
        try:
            return cache.load_overload(signature, target)
        except Exception as error:  # noqa: BLE001  the boundary: half a file of Numba's raises whatever it likes
            log.warning(
                "a compiled kernel cannot be read from %s: %s: %s", cache.cache_path, type(error).__name__, error
            )
            self._try(cache.flush)
            return None

    def save_overload(self, signature: object, compiled: object) -> None:
        """Keeps a compiled kernel, and lets go of what no call asks for any more."""
        cache = self._opened()
        self._try(lambda: cache.save_overload(signature, compiled))
        if isinstance(cache, _FunctionCache):
            names = self._dispatcher.py_func.__globals__.keys()
            self._try(lambda: sweep(Path(str(cache.cache_path)), cache.filename_base, names))

    def flush(self) -> None:
        self._try(self._opened().flush)

    def _opened(self) -> Any:
        if self._cache is None:
            try:
                self._cache = _FunctionCache(self._dispatcher)
            except RuntimeError:  # Numba found no folder
                _warn_once("no folder to keep compiled kernels in can be written")
                self._cache = caching.NullCache()
        return self._cache

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            _warn_once(f"compiled kernels cannot be kept: {error}")
            self._cache = caching.NullCache()


@functools.lru_cache
def _warn_once(sentence: str) -> None:
    log.warning(
        "%s; every start compiles them anew, which takes up to a minute: set NUMBA_CACHE_DIR to a writable folder",
        sentence,
    )


def sweep(folder: Path, latest: str, names: Container[str]) -> None:
    """Removes what no start asks for any more: a kernel's old versions but the last few, and kernels that are gone.

    `latest` was written just now, from a module that holds `names`. A cached kernel is called
    `module.function-VERSION-LINE.pyXY`; before 2026-11-24 there was no version in it.
    """
    kernel_name, _, rest = latest.partition("-")
    module, python = kernel_name.partition(".")[0], rest.rpartition(".")[2]
    old = [path for path in folder.glob(f"{kernel_name}-*.{python}.nbi") if path.stem != latest]
    dropped = sorted(old, key=_modified_s, reverse=True)[KEPT_VERSIONS - 1 :]
    dropped += [path for path in folder.glob(f"{module}.*.nbi") if re.split("[.-]", path.name)[1] not in names]
    for index in dropped:
        for path in (index, *folder.glob(f"{index.stem}.*.nbc")):
            path.unlink(missing_ok=True)


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process was faster
        return 0.0
