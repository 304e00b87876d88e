"""Names of libraries that this layer replaces, and their old values."""

from __future__ import annotations

from typing import Any

from engines import VividError


class WrongVersion(VividError):
    """aiortc or aioice is not the one that this layer was written for."""


class Changes:
    """What was replaced, so that it can be put back, and made again."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, str, object, object]] = []  # owner, name, before, after

    def replace(self, owner: object, name: str, value: object) -> None:
        """Sets a name of a module or a class. Raises WrongVersion where there is no such name."""
        if not hasattr(owner, name):
            where = getattr(owner, "__name__", repr(owner))
            raise WrongVersion(f"{where} has no {name} any more; streamer/transport must change with it")
        self._made.append((owner, name, getattr(owner, name), value))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Puts everything back, the latest first."""
        for owner, name, before, after in reversed(self._made):
            if getattr(owner, name, None) is after:  # else somebody else has put it back, or changed it after us
                setattr(owner, name, before)

    def redo(self) -> None:
        """Makes everything again that `undo` has put back."""
        for owner, name, _, after in self._made:
            setattr(owner, name, after)
