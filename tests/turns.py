"""Tests that need the machine for themselves, among others that run two at a time (`pytest -n 2`).

A test of a live call is wrong where another test takes half of the processor. So tests take turns through two locked
files: one at a time passes the gate; one that has to be alone waits there until all others have ended; nobody passes
meanwhile, so that it does not wait for ever.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if os.name == "posix":
    import fcntl

WORKER, RUN = "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"


def folder() -> Path | None:
    """Where the processes of one run meet; None where there is only one."""
    if WORKER not in os.environ or os.name != "posix":
        return None
    path = Path(tempfile.gettempdir()) / f"vividstream-tests-{os.environ[RUN]}"
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def turn(meeting: Path, alone: bool) -> Iterator[None]:
    """Until it is left, nobody else runs (`alone`), or nobody who has to be alone."""
    with (meeting / "gate").open("w") as gate, (meeting / "running").open("w") as running:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
