"""Engines by name. A factory imports what it needs when it is called, never before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from engines.errors import UnknownEngine, nearest
from engines.swappers.base import Engine


def _passthrough() -> Engine:
    from engines.swappers.passthrough import Passthrough

    return Passthrough()


def _proxy() -> Engine:
    from engines.swappers.proxy import Proxy

    return Proxy()


_FACTORIES: Mapping[str, Callable[[], Engine]] = MappingProxyType({"passthrough": _passthrough, "proxy": _proxy})


def engine_names() -> tuple[str, ...]:
    """The names that `engine` accepts besides `auto`."""
    return tuple(sorted(_FACTORIES))


def choose(name: str) -> tuple[str, str]:
    """Resolves `auto`. Returns the engine's name and why it was chosen. Raises UnknownEngine."""
    if name == "auto":
        return "proxy", "auto: geometry alone, runs on any CPU; no learned weights are installed"
    if name not in _FACTORIES:
        raise UnknownEngine(f'unknown engine "{name}"; {nearest(name, (*_FACTORIES, "auto"))}')
    return name, "asked for by name"


def make(name: str) -> Engine:
    """Builds the engine. Raises EngineUnavailable, with the command that mends it, where it cannot run here."""
    return _FACTORIES[name]()
