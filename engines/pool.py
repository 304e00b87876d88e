"""What is loaded in this process: weights and graphs, shared by all sessions that ask for the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from engines.sharing import Graphs, SharedGraph
from engines.turns import Budget

G = TypeVar("G", bound=Graphs)


class EnginePool:
    """Loaded engines by what they are. One for a server; a session that is given none has its own.

    An engine stays loaded when its last session ends, for the next one: until `close`, or until there is another engine
    to open, which may need the room.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        """budget: how much of each engine's time may be promised to sessions."""
        self._budget = budget
        self._lock = threading.Lock()
        self._shared: dict[Hashable, SharedGraph[Any]] = {}

    def enter(self, key: Hashable, open_graphs: Callable[[], G], owner: bool = True) -> SharedGraph[G]:
        """One more session of the engine with that key, opened where it is not there yet. `leave` it in the end.

        owner: the device has a thread of its own (engines.sharing). Who comes while an engine is being opened waits for
        it. Raises what `open_graphs` raises, and EngineBusy where
        the sessions that are in leave no time for one more.
        """
        with self._lock:
            found = self._shared.get(key)
            if found is None:
                self._drop_idle()
                found = self._shared[key] = SharedGraph(open_graphs, self._budget, owner=owner)
            found.enter()
        return found

    def close(self) -> None:
        """Frees every device. No session may draw any more."""
        with self._lock:
            for shared in self._shared.values():
                shared.close()
            self._shared.clear()

    def _drop_idle(self) -> None:
        for key in [key for key, shared in self._shared.items() if shared.idle]:
            self._shared.pop(key).close()
