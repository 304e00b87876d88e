"""Errors of the server that a person may see, below `engines.VividError`."""

from __future__ import annotations

import stat
from pathlib import Path

from engines import VividError


class CannotListen(VividError):
    """The address or port cannot be used."""


class EncoderUnavailable(VividError):
    """The encoder that was asked for by name does not work here."""


class ServerBusy(VividError):
    """As many calls as the server may hold are going on."""


class WorkerBusy(VividError):
    """Too much is waiting for the worker: an engine is stuck, or the server is overrun or ending."""


class AuditFault(VividError):
    """The audit log cannot be written, or is not as it was written; what would have to be logged is not done."""


class SinkError(VividError):
    """A virtual camera that cannot be opened or written to; the message says what mends it."""


def no_file(path: Path, wanted: str, pipes: bool = False) -> str:
    """Why there is no file at a path, as words to follow its name; empty where there is one.

    wanted: what it should be, such as "a video file". pipes: whether one will do, which can be read only once.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "no such file"
    except OSError as error:  # a folder on the way that may not be looked into, or is a file
        return error.strerror or str(error)
    if stat.S_ISDIR(mode):
        return f"is a folder, not {wanted}"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return f"is a device, not {wanted}"
    if stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode)):
        return ""
    return f"is a {'pipe' if stat.S_ISFIFO(mode) else 'socket'}, not {wanted}"
