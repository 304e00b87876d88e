"""Engines by name. A factory imports what it needs when it is called, never before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from engines.errors import EngineUnavailable, UnknownEngine, nearest
from engines.settings import SwapSettings

if TYPE_CHECKING:
    from engines.pool import EnginePool
    from engines.swappers.base import Engine

LEARNED = ("toy", "tiny", "base", "full")


def _passthrough(settings: SwapSettings, pool: EnginePool) -> Engine:
    from engines.swappers.passthrough import Passthrough

    return Passthrough()


def _proxy(settings: SwapSettings, pool: EnginePool) -> Engine:
    from engines.swappers.proxy import Proxy

    return Proxy()


def _learned(name: str, settings: SwapSettings, pool: EnginePool) -> Engine:
    from engines.swappers.latent import Latent
    from engines.swappers.latent_graphs import loaded_key, open_graphs, wanted_of

    on_gpu = wanted_of(name, settings).device != "cpu"
    return Latent(name, pool.enter(loaded_key(name, settings), partial(open_graphs, name, settings), owner=on_gpu))


def _onnx(settings: SwapSettings, pool: EnginePool) -> Engine:
    from engines.swappers.onnx.engine import open_engine

    return open_engine(settings, pool)


_FACTORIES: Mapping[str, Callable[[SwapSettings, EnginePool], Engine]] = MappingProxyType(
    {"onnx": _onnx, "passthrough": _passthrough, "proxy": _proxy, **{name: partial(_learned, name) for name in LEARNED}}
)


def engine_names() -> tuple[str, ...]:
    """The names that `engine` accepts besides `auto`."""
    return tuple(sorted(_FACTORIES))


def engines_here(settings: SwapSettings) -> tuple[str, ...]:
    """Those that can run here with these settings, as far as a look at what is installed tells."""
    return tuple(name for name in engine_names() if _is_there(name, settings))


def _is_there(name: str, settings: SwapSettings) -> bool:
    if name == "onnx":
        return settings.model is not None
    if name not in LEARNED:
        return True
    from engines import store
    from engines.swappers.latent_graphs import random_from_code, wanted_of

    if random_from_code(settings):
        return True
    try:
        store.find(wanted_of(name, settings))
    except EngineUnavailable:
        return False
    return True


def choose(name: str) -> tuple[str, str]:
    """Resolves `auto`. Returns the engine's name and why it was chosen. Raises UnknownEngine."""
    if name == "auto":
        return "proxy", "auto: geometry alone, on any CPU; `tiny` is there too, and not plainly better yet"
    if name not in _FACTORIES:
        raise UnknownEngine(f'unknown engine "{name}"; {nearest(name, (*_FACTORIES, "auto"))}')
    return name, "asked for by name"


def make(name: str, settings: SwapSettings, pool: EnginePool) -> Engine:
    """Builds the engine; what it loads is kept in the pool, for other sessions with the same settings.

    Raises EngineUnavailable, with the command that mends it, where it cannot run here; EngineBusy where the sessions
    that share it leave no room.
    """
    return _FACTORIES[name](settings, pool)
