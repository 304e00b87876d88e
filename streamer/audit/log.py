"""The audit log on disk: one file of lines and its head, in the folder of the installation's records."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from engines import LocalKey, local_key, records_directory, records_trouble, write_whole
from streamer.audit.chain import Event, Fact, Head, LineFault, next_line, read_all, read_line
from streamer.errors import AuditFault

LOG_FILE, HEAD_FILE, LOCK_FILE = "audit.jsonl", "audit.head", "audit.lock"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditLog:
    """Any number of processes may write to one log; each line is on disk before `record` returns."""

    folder: Path
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def path(self) -> Path:
        return self.folder / LOG_FILE

    def record(self, event: Event, **facts: Fact) -> Head:
        """Adds a line, and says where the log ends now.

        Raises AuditFault where the log cannot be written, or is not as it was left.
        """
        key = local_key(self.folder)
        try:
            with self._locked():
                head = self._end(key)
                if head.lines == 0:
                    head = self._append(key, head, "log begun", {"public_key": key.public})
                return self._append(key, head, event, facts)
        except OSError as error:
            raise AuditFault(f"cannot be written: {records_trouble(self.path, error)}") from error

    def read(self) -> list[dict[str, object]]:
        """All lines, each checked. Raises AuditFault that says which one is not as it was written."""
        key = local_key(self.folder)
        try:
            with self._locked():
                head = self._head(key)
                with self.path.open("rb") as lines:
                    return read_all(lines, key.public, head)[0]
        except FileNotFoundError as error:
            if (self.folder / HEAD_FILE).exists():
                raise AuditFault(f"{self.path}: is missing, and there was one") from error
            return []
        except LineFault as fault:
            raise AuditFault(f"{self.path}: {fault}") from fault
        except OSError as error:
            raise AuditFault(records_trouble(self.path, error)) from error

    def _append(self, key: LocalKey, head: Head, event: Event, facts: dict[str, Fact]) -> Head:
        at = self.now().astimezone(UTC).isoformat(timespec="milliseconds")
        line = next_line(key, head, at, event, facts)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "ab") as lines:
            lines.write(line)
            lines.flush()
            os.fsync(lines.fileno())
        head = head.after(line)
        write_whole(self.folder / HEAD_FILE, head.signed(key))
        return head

    def _head(self, key: LocalKey) -> Head:
        path = self.folder / HEAD_FILE
        try:
            return Head.read(path.read_bytes(), key.public)
        except FileNotFoundError as error:
            if self._size_bytes():
                raise AuditFault(
                    f"{path}: is missing, and the log is not empty; move both away to begin anew"
                ) from error
            return Head()
        except ValueError as error:
            raise AuditFault(f"{path}: {error}; move it and {LOG_FILE} away to begin anew") from error

    def _end(self, key: LocalKey) -> Head:
        """Where to go on. What lies beyond the head was written by a process that ended before it could move it:
        whole lines are taken over, half of one is taken off."""
        head = self._head(key)
        size_bytes = self._size_bytes()
        if size_bytes < head.size_bytes:
            raise AuditFault(f"{self.path}: was cut off; `vividstream audit verify` says where")
        if size_bytes == head.size_bytes:
            return head
        with self.path.open("r+b") as lines:
            lines.seek(head.size_bytes)
            for line in lines.readlines():
                if not line.endswith(b"\n"):
                    log.warning(
                        "%s: half a line at its end is taken off: a process ended while it was written", self.path
                    )
                    lines.truncate(head.size_bytes)
                    break
                try:
                    read_line(line, head, key.public)
                except LineFault as fault:
                    raise AuditFault(f"{self.path}: {fault}") from fault
                head = head.after(line)
        return head

    def _size_bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK_FILE).open("a+b") as handle:
            _lock(handle)
            try:
                yield
            finally:
                _unlock(handle)


def _lock(handle: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)


def _unlock(handle: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)


def audit_log() -> AuditLog:
    """This installation's log."""
    return AuditLog(records_directory())


def record(event: Event, **facts: Fact) -> Head:
    """Adds a line to this installation's log. Blocks for a disk write: not for a coroutine. Raises AuditFault."""
    return audit_log().record(event, **facts)
