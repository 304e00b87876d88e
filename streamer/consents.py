"""A consent may end while it is made use of: whether an identity that is worn may still be, looked at again and again.

Looked at is what a new call would look at: the file, its signature, the last day, the list of withdrawn consents. What
cannot be read any more may not be worn any more.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable

from engines import ConsentEnded, Identity, VividError
from streamer.audit.log import record
from streamer.errors import AuditFault

log = logging.getLogger(__name__)

LOOK_S = 2.0

Load = Callable[[str], Identity]  # `IdentityStore.load`
Worn = Callable[[], Identity | None]


def why_not(load: Load, worn: Identity) -> str | None:
    """Why an identity that is worn may not be worn any more, in one sentence; None while it may."""
    try:
        now = load(worn.name)
        if now.manifest.origin_sha256 != worn.manifest.origin_sha256:
            raise ConsentEnded(f'identity "{worn.name}": another one took its place')
    except VividError as error:
        return str(error)
    return None


def taken_off(worn: Identity, why: str, **whose: str | int) -> None:
    """One line in the log and one in the audit log. `whose`: which call or command it was. Raises nothing: the identity
    is off already, and stays off.
    """
    log.warning("%s; the standby picture is shown from now on", why)
    try:
        record("identity taken off", identity=worn.name, consent_sha256=worn.manifest.consent_sha256,
               why=why[:200], **whose)  # fmt: skip
    except AuditFault as error:
        log.error("%s", error)


class ConsentWatch:
    """Looks every few seconds, in a thread of its own. `end` gets the identity that may not be worn, and why: it takes
    it off, so that `worn` says None.

        with ConsentWatch(store.load, lambda: session.identity, end): ...
    """

    def __init__(self, load: Load, worn: Worn, end: Callable[[Identity, str], None]) -> None:
        self._load, self._worn, self._end = load, worn, end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="consent", daemon=True)

    def __enter__(self) -> ConsentWatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Safe to call twice, and before `start`."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            worn = self._worn()
            why = None if worn is None else why_not(self._load, worn)
            if worn is not None and why is not None and self._worn() is worn and not self._over.is_set():
                self._end(worn, why)


async def watch(load: Load, worn: Worn, end: Callable[[Identity, str], Awaitable[None]]) -> None:
    """As `ConsentWatch`, as a task of an event loop, until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        now = worn()
        why = None if now is None else await asyncio.to_thread(why_not, load, now)
        if now is not None and why is not None and worn() is now:
            await end(now, why)
