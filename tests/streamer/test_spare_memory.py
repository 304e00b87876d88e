"""What is freed goes back to the system, and what a call leaves behind is freed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from streamer import spare_memory
from streamer.signalling.http import ROOM
from streamer.spare_memory import Sweep, trim
from tests.streamer.calls import Camera, calling, plain, served

# Eight threads that all hold memory at once; then how many heaps the C library has.
HEAPS = """
import ctypes, sys, threading
from streamer.spare_memory import keep_together
if sys.argv[1] == "one" and not keep_together():
    sys.exit("another C library")
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(8)
def hold():
    library.malloc(ctypes.c_size_t(60_000))
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
out = ctypes.c_void_p(library.fdopen(1, b"w"))
library.malloc_info(0, out)
library.fflush(out)
"""


def resident_mb() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_goes_back() -> None:
    trim()
    blocks = [bytearray(60_000) for _ in range(2_000)]  # small enough for the heap, and touched
    last = bytearray(60_000)  # keeps the heap's end in use
    before_mb = resident_mb()
    del blocks
    if not trim():
        pytest.skip("another C library")
    assert resident_mb() < before_mb - 80
    assert len(last) == 60_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_threads_share_one_heap() -> None:
    found = {}
    for how in ("one", "as it comes"):
        ran = subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, text=True, check=False)
        if "another C library" in ran.stderr:
            pytest.skip("another C library")
        assert ran.returncode == 0, ran.stderr
        found[how] = ran.stdout.count("<heap nr=")
    assert found["one"] == 1 < found["as it comes"]


class Knot:
    """An object that refers to itself, as a connection does."""

    def __init__(self) -> None:
        self.me = self


async def test_what_a_call_leaves_behind_is_freed_soon_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_memory, "WAIT_S", 0.05)
    gc.disable()  # as good as: Python by itself would look after some 40 calls
    try:
        sweep, left = Sweep(), [weakref.ref(Knot()) for _ in range(3)]
        sweep.soon()
        sweep.soon()
        left.append(weakref.ref(Knot()))  # ends in the second between
        assert all(one() is not None for one in left)
        await asyncio.sleep(0.2)
        assert all(one() is None for one in left)
        later = weakref.ref(Knot())
        sweep.soon()
        await asyncio.sleep(0.2)
        assert later() is None
    finally:
        gc.enable()


async def test_of_the_last_call_nothing_is_left_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for when the task that was the call's life is over, not by that task."""
    monkeypatch.setattr(spare_memory, "WAIT_S", 0.3)
    gc.disable()
    try:
        async with served() as client, calling(client) as caller:
            await caller.start(Camera([plain((9, 9, 9))]))
            await caller.pictures(2)
            call = weakref.ref(client.server.app[ROOM].peers[caller.call])  # type: ignore[attr-defined]
            await client.delete(f"/session/{caller.call}")
            await caller.until(lambda: call() is None, 5.0)
    finally:
        gc.enable()
