"""The server's end of the nursery: starts it, asks it for decoder processes, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from engines import VividError
from streamer.decoding.child import run_in_thread
from streamer.decoding.picture import Slots
from streamer.decoding.wire import FORK, HELD_FAST

log = logging.getLogger(__name__)

ROOT = Path(__file__).parent.parent.parent
END_S = 2.0
KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")  # of the environment; the rest may hold secrets
CODE = "import sys; sys.path.insert(0, sys.argv[1]); from streamer.decoding.nursery import main; main(int(sys.argv[2]))"


def has_processes() -> bool:
    """Whether this system has what decoder processes are held with: Linux, and no kernel that only looks like it."""
    if not (hasattr(os, "memfd_create") and hasattr(os, "pidfd_open")):
        return False
    try:
        for fd in (os.pidfd_open(os.getpid()), os.memfd_create("vividstream-probe", os.MFD_ALLOW_SEALING)):
            os.close(fd)
    except OSError:
        return False
    return True


def _in_thread() -> Child:
    log.warning("decoders are not held apart from the server on this system: they run in threads of it")
    slots = Slots(shared=False)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    threading.Thread(target=run_in_thread, name="decoder", args=(theirs, slots.memory), daemon=True).start()
    return Child(ours, slots, greets=False)


def _drop(link: socket.socket, slots: Slots) -> None:
    link.close()
    slots.close()


class NoDecoder(VividError):
    """No decoder process can be started."""


@dataclass(slots=True, eq=False)
class Child:
    """One decoder process, or thread. `pidfd` is the process's handle: its first message brings it."""

    link: socket.socket
    slots: Slots
    greets: bool = True  # it has yet to send its first message
    pidfd: int = -1

    def kill(self) -> None:
        """Ends it, whatever it is at. Where its handle is not known yet, the closed socket ends it."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.link.close()
        self.slots.close()

    def forget(self) -> None:
        """Closes the handle."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Nursery:
    """Starts decoder processes, each in milliseconds. One per server, used on the event loop only."""

    def __init__(self) -> None:
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._warned = False

    def start(self) -> None:
        """Starts the nursery's process, unless it is there. Does not wait for it. Raises NoDecoder."""
        if not has_processes():
            return
        if self._process is not None and self._process.poll() is None:
            return
        self._bury()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", CODE, str(ROOT), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
                env={**environment, "OPENBLAS_NUM_THREADS": "1"}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise NoDecoder(f"no decoder can be started: {error.strerror or error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        self.starts += 1

    def fork(self) -> Child:
        """A new decoder process; what is sent to it before it is there waits in its socket. Raises NoDecoder."""
        if not has_processes():
            return _in_thread()
        for attempt in (1, 2):
            self.start()
            assert self._control is not None
            slots = Slots()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.setblocking(False)
            try:
                socket.send_fds(self._control, [FORK], [theirs.fileno(), slots.fd])
                return Child(ours, slots)
            except BlockingIOError as error:
                _drop(ours, slots)
                raise NoDecoder("no decoder can be started now: too many are being started") from error
            except OSError as error:  # it died, or does not take orders any more
                log.warning("the nursery of decoders does not answer (%s)", error)
                _drop(ours, slots)
                self._kill()
                if attempt == 2:
                    raise NoDecoder("no decoder can be started: their nursery does not answer") from error
            finally:
                theirs.close()
        raise AssertionError("the loop returns or raises")

    def note_held(self, how: int) -> None:
        """A decoder says how far it is held. Warns once where that is not as far as it should be."""
        if how != HELD_FAST and not self._warned:
            self._warned = True
            log.warning(
                "decoders are held less than they should be: %s",
                "as root" if how & 1 else "without a filter over system calls",
            )

    async def close(self) -> None:
        """Ends the nursery, and with it every decoder process."""
        if self._control is not None:
            self._control.close()
            self._control = None
        process = self._process
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, END_S)
            except subprocess.TimeoutExpired:
                self._kill()
            self._process = None

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._bury()

    def _bury(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.wait(END_S)
            self._process = None
