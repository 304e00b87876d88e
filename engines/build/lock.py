"""One build at a time in a store. The operating system frees the lock of a process that dies, however it dies."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from engines.errors import NotBuilt, StoreBusy
from engines.settings import StrictModel

LOCK = "build.lock"
POLL_S, SAY_EVERY_S = 0.5, 30.0
LOCKED_BYTE = 1 << 30  # Windows locks bytes against reading, so one behind the text

Say = Callable[[str], None]


class Holder(StrictModel):
    """Who builds: written into the lock file while the lock is held."""

    pid: int
    host: str
    what: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, which is {self.what} since {self.since}"


@contextmanager
def locked(store: Path, what: str, say: Say, wait: bool = True, name: str = LOCK) -> Iterator[Holder | None]:
    """Holds the store's lock. Gives the holder of a build that died before its end, if that was the last one.

    what    "building tiny for ort": said to those who wait
    wait    False: raises StoreBusy, which says who holds it, instead of waiting
    name    of the lock's file
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(store / name, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise NotBuilt(f"{store}: cannot be written: {error.strerror or error}") from error
    try:
        _take(descriptor, say, wait)
        dead = _holder(descriptor)
        since = datetime.now(UTC).strftime("%H:%M:%S UTC")
        _write(descriptor, Holder(pid=os.getpid(), host=platform.node(), what=what, since=since).model_dump_json())
        try:
            yield dead
        finally:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def holder(store: Path, name: str = LOCK) -> Holder | None:
    """Who builds in the store right now; None if nobody does."""
    try:
        descriptor = os.open(store / name, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _try(descriptor) else _holder(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, say: Say, wait: bool) -> None:
    said_s = -SAY_EVERY_S
    while not _try(descriptor):
        who = f"held by {_holder(descriptor) or 'a process that is just beginning'}"
        if not wait:
            raise StoreBusy(f"the store is {who}; without --no-wait this build waits for its end")
        if time.monotonic() - said_s >= SAY_EVERY_S:
            said_s = time.monotonic()
            say(f"waiting: the store is {who}")
        time.sleep(POLL_S)


def _try(descriptor: int) -> bool:
    """Takes the lock if it is free."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder(descriptor: int) -> Holder | None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 4096)
    try:
        return Holder.model_validate_json(text)
    except ValidationError:
        return None


def _write(descriptor: int, text: str) -> None:
    """The record is for people. Where the disk is too full for it, the lock holds all the same."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text.encode())
