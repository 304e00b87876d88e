"""One slot between two threads: the newest thing wins, what it replaces is dropped and counted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The mailbox is closed and empty: nothing will come out of it any more."""


class Latest(Generic[T]):
    """A mailbox for live pictures. It never holds more than one, so a slow reader cannot fall behind.

    put, poll, take and close may be called from any thread. `notify` runs after every put and after close, in the
    thread that called, outside the lock: a worker that serves many mailboxes passes the `set` of its own event, an
    event loop passes something that calls `call_soon_threadsafe`.
    """

    def __init__(self, notify: Callable[[], object] | None = None) -> None:
        self._notify = notify
        self._changed = threading.Condition()
        self._item: T | None = None
        self._full = False
        self._closed = False
        self._received = 0
        self._dropped = 0

    @property
    def received(self) -> int:
        """How many things were put in."""
        return self._received

    @property
    def dropped(self) -> int:
        """How many of them nobody took: replaced by a newer one, put in after the end, or left at the end."""
        return self._dropped

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, item: T) -> None:
        """Leaves the item for the reader. An older one that was not taken is dropped; so is all after `close`."""
        with self._changed:
            self._received += 1
            if self._full or self._closed:
                self._dropped += 1
            if self._closed:
                return
            self._item, self._full = item, True
            self._changed.notify()
        if self._notify is not None:
            self._notify()

    def poll(self) -> T | None:
        """The newest item, or None where there is none now. Raises Closed after the end."""
        with self._changed:
            return self._pop()

    def take(self, timeout_s: float) -> T | None:
        """Like `poll`, but waits for an item at most `timeout_s`. For threads, never in a coroutine."""
        with self._changed:
            self._changed.wait_for(lambda: self._full or self._closed, timeout_s)
            return self._pop()

    def close(self) -> None:
        """Ends it: what lies in it is dropped, readers get Closed. Closing twice does nothing."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._dropped += self._full
            self._item, self._full = None, False
            self._changed.notify_all()
        if self._notify is not None:
            self._notify()

    def _pop(self) -> T | None:
        if self._closed:
            raise Closed
        item, self._item, self._full = self._item, None, False
        return item
