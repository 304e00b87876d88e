"""Commands to what is running live, over a socket of this machine: one JSON object a line, an answer to each.

    {"do": "identity", "name": "ada"}     another face, from the next picture on
    {"do": "engine", "name": "proxy"}     another engine, loaded beside the one that draws
    {"do": "standby", "on": true}         the standby card, at once; false: go on
    {"do": "status"}                      everything that is counted
    {"do": "identities"}                  the names there are
    {"do": "quit"}                        end it

Answers are {"ok": true, ...} or {"ok": false, "error": "one sentence"}. Only this user's programs (and root's) may
connect: the socket has the permissions 0600, and who connects is asked of the kernel as well.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from engines import SettingError, StrictModel, VividError

MOST_LINE_BYTES = 4_096
MOST_CONNECTIONS = 8
SILENT_S = 60.0  # a connection that says nothing for so long is closed
ANSWER_S = 120.0  # an engine takes a while to load
NAME = "camera.sock"

log = logging.getLogger(__name__)


class Controllable(Protocol):
    """What can be told something: `streamer.live.Live`."""

    @property
    def identities(self) -> tuple[str, ...]: ...

    def swap_identity(self, name: str) -> None: ...

    def swap_engine(self, name: str) -> None: ...

    def pause(self, paused: bool) -> None: ...

    def numbers(self) -> dict[str, object]: ...


class Request(StrictModel):
    """One line of what comes in."""

    do: Literal["identity", "engine", "standby", "status", "identities", "quit"]
    name: str | None = Field(None, min_length=1, max_length=64)
    on: bool | None = None


def default_path(name: str = NAME) -> Path:
    """Where the socket is, if nobody says otherwise: in the user's runtime folder, which only that user may enter."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if Path(runtime).is_dir():
        return Path(runtime, "vividstream", name)
    return Path(tempfile.gettempdir(), f"vividstream-{os.getuid()}", name)


def obey(live: Controllable, stop: Callable[[], object], line: str | bytes) -> dict[str, object]:
    """Does what the line says. The answer, never an exception that has a name."""
    try:
        try:
            said = json.loads(line)
        except ValueError as error:
            raise SettingError('a command is one JSON object a line, like {"do": "status"}') from error
        return {"ok": True, **_do(live, stop, Request.read(said))}
    except VividError as error:
        return {"ok": False, "error": " ".join(str(error).split())}


def _do(live: Controllable, stop: Callable[[], object], request: Request) -> dict[str, object]:
    if request.do in ("identity", "engine"):
        if request.name is None:
            raise SettingError(f'"{request.do}" needs a "name"')
        (live.swap_identity if request.do == "identity" else live.swap_engine)(request.name)
        return {request.do: request.name}
    if request.do == "standby":
        if request.on is None:
            raise SettingError('"standby" needs "on": true or false')
        live.pause(request.on)
        return {"standby": request.on}
    if request.do == "status":
        return dict(live.numbers())
    if request.do == "identities":
        return {"identities": list(live.identities)}
    stop()
    return {"ending": True}


@contextmanager
def serve_control(path: Path, live: Controllable, stop: Callable[[], object]) -> Iterator[Path]:
    """Listens at `path` while the context lasts; `stop` is called for `quit`. Raises SettingError."""
    listener = _listen(path)
    thread = threading.Thread(target=_accept, args=(listener, live, stop), name="control", daemon=True)
    thread.start()
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(2.0)


def tell(path: Path, request: dict[str, object], timeout_s: float = ANSWER_S) -> dict[str, object]:
    """Asks what is running there. Raises SettingError where nothing is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = connection.makefile("rb").readline()
        except OSError as error:
            raise SettingError(f"nothing is running at {path}; start `vividstream camera` first") from error
    if not answer:
        raise SettingError(f"what is running at {path} ended before it answered")
    said: dict[str, object] = json.loads(answer)
    return said


def _listen(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path.parent)
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(MOST_CONNECTIONS)
    except OSError as error:
        raise SettingError(f'setting "control": {path}: {error.strerror or error}') from error
    return listener


def _check_folder(folder: Path) -> None:
    """Whoever owns the folder could put a socket of theirs in the place of ours. Raises SettingError."""
    owner = folder.stat().st_uid
    if owner not in (os.getuid(), 0):
        raise SettingError(
            f'setting "control": the folder {folder} belongs to somebody else; give --control another path'
        )


def _remove_stale(path: Path) -> None:
    """What a process left that was killed. Raises SettingError where one is listening, or it is no socket."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise SettingError(f'setting "control": {path} is there and no socket; take another path')
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(str(path)) == 0:
            raise SettingError(f"another one is already running at {path}; end it, or give --control another path")
    path.unlink()


def _accept(listener: socket.socket, live: Controllable, stop: Callable[[], object]) -> None:
    free = threading.BoundedSemaphore(MOST_CONNECTIONS)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed
            return
        if not _is_ours(connection) or not free.acquire(blocking=False):
            connection.close()
            continue
        threading.Thread(target=_serve, args=(connection, live, stop, free), name="control", daemon=True).start()


def _is_ours(connection: socket.socket) -> bool:
    """Whether this user or root is at the other end."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1] in (os.getuid(), 0)


def _serve(
    connection: socket.socket, live: Controllable, stop: Callable[[], object], free: threading.BoundedSemaphore
) -> None:
    with connection:
        connection.settimeout(SILENT_S)
        try:
            lines = connection.makefile("rb")
            while line := lines.readline(MOST_LINE_BYTES):
                if not line.endswith(b"\n") and len(line) == MOST_LINE_BYTES:
                    connection.sendall(b'{"ok": false, "error": "a command is at most 4096 bytes long"}\n')
                    return
                connection.sendall(json.dumps(obey(live, stop, line)).encode() + b"\n")
        except OSError:  # it went away, or was silent for too long
            return
        except Exception:  # the boundary: a command that fails in an unknown way must not go unnoticed
            log.exception("a command failed")
        finally:
            free.release()
