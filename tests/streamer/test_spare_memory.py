"""What is freed goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamer.spare_memory import give_back


def resident_mb() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_goes_back() -> None:
    give_back()
    blocks = [bytearray(60_000) for _ in range(2_000)]  # small enough for the heap, and touched
    last = bytearray(60_000)  # keeps the heap's end in use
    before_mb = resident_mb()
    del blocks
    if not give_back():
        pytest.skip("another C library")
    assert resident_mb() < before_mb - 80
    assert len(last) == 60_000
