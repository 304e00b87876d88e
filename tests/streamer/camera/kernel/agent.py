"""Inside the test's machine: imports once, then runs each request in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

OUT = Path("/run/out")


def serve() -> None:
    """For ever: `N.request` in, `N.result` and `N.said` out."""
    import tests.streamer.camera.kernel.inside as inside

    inside.compile_kernels()  # once for all: what is forked has them, and Numba itself, loaded
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    (OUT / "ready").touch()
    number = 1
    while True:
        request = OUT / f"{number}.request"
        if not request.exists():
            time.sleep(0.05)
            continue
        function, arguments = json.loads(request.read_text(encoding="utf-8"))
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(number, getattr(inside, function), arguments)
        number += 1


def _run(number: int, function: object, arguments: dict[str, object]) -> None:
    said = os.open(OUT / f"{number}.said", os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        assert callable(function)
        answer: dict[str, object] = {"returned": function(**arguments)}
    except BaseException:  # noqa: BLE001  the boundary: it is raised where the result is awaited
        answer = {"raised": traceback.format_exc()}
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    part = OUT / f"{number}.unfinished"
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.rename(OUT / f"{number}.result")
    os._exit(0)


if __name__ == "__main__":
    serve()
