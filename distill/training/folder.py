"""A run's folder is one process's (or one torchrun's) at a time; and a run that is asked to end ends between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from distill.errors import NotWritten, RunBusy
from distill.training.ranks import Ranks
from engines.build.lock import holder, locked
from engines.errors import NotBuilt, StoreBusy

LOCK = "run.lock"
ENDS = ("SIGTERM", "SIGINT", "SIGHUP")


@dataclass(slots=True)
class Signals:
    """asked: the number of the signal that asked the run to end; 0: none yet."""

    asked: int = 0


@contextmanager
def ours(path: Path, stage: str, ranks: Ranks) -> Iterator[Signals]:
    """Holds the folder, and takes signals. Raises RunBusy and NotWritten."""
    with ExitStack() as stack:
        if ranks.first:
            try:
                stack.enter_context(locked(path, f"training {stage}", lambda _: None, wait=False, name=LOCK))
            except StoreBusy as error:
                other = holder(path, LOCK) or "another process"
                raise RunBusy(f"{path}: in use by {other}; take another folder, or end that one") from error
            except NotBuilt as error:
                raise NotWritten(str(error)) from error
        yield stack.enter_context(_listening())


@contextmanager
def _listening() -> Iterator[Signals]:
    """The first signal asks the run to end after this step; the second one does what it always did."""
    signals = Signals()
    before: dict[int, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        signals.asked = number
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for name in ENDS:
            number = getattr(signal, name, None)
            if number is not None:
                before[number] = signal.signal(number, note)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
