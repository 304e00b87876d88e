"""What a decoder process cannot do: tried in a process that has entered the sandbox."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.decoding import sandbox
from streamer.decoding.wire import HELD_FAST

ROOT = Path(__file__).parent.parent.parent.parent
pytestmark = pytest.mark.skipif(platform.machine() not in sandbox.MACHINES, reason="no list of system calls for it")

BEFORE = """
import ctypes, errno, os, socket, sys
sys.path.insert(0, sys.argv[1])
from streamer.decoding import sandbox
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
pair = socket.socketpair()
assert sandbox.enter(64 << 20) == sandbox.FILTERED | sandbox.NOBODYS
"""
STILL = {
    "read and write": "pair[0].send(b'x'); os.write(1, pair[1].recv(1))",
    "allocate": "b = bytearray(20 << 20); os.write(1, b'x')",
    "close": "pair[0].close(); os.write(1, b'x')",
}
FAILS = {
    "open a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "write a file": "os.open('/tmp/x', os.O_WRONLY | os.O_CREAT)",
    "allocate without end": "b = bytearray(400 << 20)",
    "another descriptor": "os.dup(1)",
    "a signal to others": "os.kill(os.getppid(), 0)",
    "a thread": "import _thread; _thread.start_new_thread(print, ())",
    "root again": "os.setuid(0)",
}
KILLS = {
    "a process": "os.fork()",
    "another program": "os.execv('/bin/true', ['true'])",
    "the network": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "code of one's own": "libc.mmap(None, 4096, 7, 0x22, -1, 0)",
    "code of one's own, later": "libc.mprotect(0, 4096, 5)",
}


def tried(what: str) -> subprocess.CompletedProcess[bytes]:
    code = f"{BEFORE}try:\n    {what}\nexcept (OSError, MemoryError, RuntimeError):\n    os.write(1, b'refused')\n"
    return subprocess.run(
        [sys.executable, "-I", "-c", code, str(ROOT)], capture_output=True, timeout=60, cwd=ROOT, check=False
    )


def test_what_holds_a_decoder_fast_is_all_there_is() -> None:
    assert HELD_FAST == sandbox.FILTERED | sandbox.NOBODYS


@pytest.mark.parametrize("what", STILL.values(), ids=STILL)
def test_what_decoding_needs_still_works(what: str) -> None:
    done = tried(what)
    assert (done.stdout, done.returncode) == (b"x", 0), done.stderr


@pytest.mark.parametrize("what", FAILS.values(), ids=FAILS)
def test_what_fails(what: str) -> None:
    done = tried(what)
    assert done.stdout == b"refused" or done.returncode == -signal.SIGSYS, (done.returncode, done.stderr)


@pytest.mark.parametrize("what", KILLS.values(), ids=KILLS)
def test_what_ends_the_process(what: str) -> None:
    done = tried(what)
    assert done.returncode == -signal.SIGSYS, (done.stdout, done.stderr)
