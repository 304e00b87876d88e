"""What a run says: a line per step in `log.jsonl`, a bar, curves for TensorBoard and Weights & Biases."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import click

from distill.errors import NotWritten
from distill.shards import written_whole
from distill.training.checkpoint import Place
from distill.training.settings import MachineSettings
from engines import EngineUnavailable

LOG = "log.jsonl"
BAR_CELLS = 24
TERMINAL_EVERY_S, LINE_EVERY_S, FLUSH_EVERY_S = 0.2, 10.0, 1.0
CURVES_EVERY_S = 2.0


class Report(AbstractContextManager["Report"]):
    """All of it, for one sitting. Only the first rank has one that speaks."""

    def __init__(self, folder: Path, machine: MachineSettings, step: int, speaks: bool, quiet: bool = False) -> None:
        """step: that the run goes on with; the log's later lines are of steps that are done anew. Raises NotWritten."""
        self._speaks, self._quiet = speaks, quiet
        self._stack = ExitStack()
        self._log: IO[str] | None = None
        self._curves: list[Any] = []
        self._flushed_s = self._shown_s = self._drawn_s = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._sums: dict[str, list[float]] = {}
        if speaks:
            cut(folder / LOG, step)
            with _named(folder / LOG):
                self._log = self._stack.enter_context((folder / LOG).open("a", encoding="utf-8"))
            self._curves = _curves(folder, machine, self._stack)

    def __exit__(self, *_: object) -> None:
        if self._speaks and self._terminal and not self._quiet:
            click.echo("", err=True)
        self._stack.close()

    def step(self, place: Place, progress: float, kind: str, values: Mapping[str, float], elapsed_s: float) -> None:
        """One step that was made at this place. values: losses and so on by name."""
        if not self._speaks:
            return
        line = {"step": place.step, "examples": place.examples, "progress": progress, "kind": kind}
        self.write({**line, "elapsed_s": round(elapsed_s, 3), **values})
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value)
        now_s = time.monotonic()
        if now_s - self._shown_s >= (TERMINAL_EVERY_S if self._terminal else LINE_EVERY_S):
            self._shown_s = now_s
            left_s = elapsed_s * (1 - progress) / progress if progress > 0 else None
            self._show(bar(place, progress, values, left_s))
        if self._curves and now_s - self._drawn_s >= CURVES_EVERY_S:
            self._drawn_s = now_s
            self.curves(place.step, {name: sum(all_) / len(all_) for name, all_ in self._sums.items()})
            self._sums = {}

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the log. Raises NotWritten."""
        if self._log is None:
            return
        with _named(Path(self._log.name)):
            self._log.write(json.dumps(line) + "\n")
            if time.monotonic() - self._flushed_s >= FLUSH_EVERY_S:
                self._flushed_s = time.monotonic()
                self._log.flush()

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        for curve in self._curves:
            curve.draw(step, values)

    def flush(self) -> None:
        """Lines of steps that a checkpoint holds must not be lost."""
        if self._log is not None:
            with _named(Path(self._log.name)):
                self._log.flush()

    def say(self, *lines: str) -> None:
        for line in lines:
            if self._speaks and not self._quiet:
                click.echo(f"\r{line:100}" if self._terminal else line, err=True)

    def _show(self, text: str) -> None:
        if not self._quiet:
            click.echo(f"\r{text:100}" if self._terminal else text, err=True, nl=not self._terminal)


def bar(place: Place, progress: float, values: Mapping[str, float], left_s: float | None) -> str:
    """`[######..................] 25 %, step 1200, 38400 examples, student/loss 0.1234, 12 min left`."""
    full = int(progress * BAR_CELLS)
    losses = [f"{name} {value:.4g}" for name, value in values.items() if name.endswith("/loss")]
    left = [] if left_s is None else [f"{_span(left_s)} left"]
    words = [f"{progress:.0%}", f"step {place.step}", f"{place.examples} examples", *losses, *left]
    return f"[{'#' * full}{'.' * (BAR_CELLS - full)}] {', '.join(words)}"


def cut(log: Path, step: int) -> None:
    """Takes lines of steps from `step` on out of a log, and one that was half written when its writer died."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            number = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        if number < step:
            kept.append(line + "\n")
    with written_whole(log) as file:
        file.write("".join(kept).encode())


@contextmanager
def _named(log: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{log}: the log cannot be written: {error.strerror or error}") from error


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _TensorBoard:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))
        stack.callback(self._writer.close)

    def draw(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)


class _Wandb:
    def __init__(self, folder: Path, project: str, stack: ExitStack) -> None:
        if find_spec("wandb") is None:
            raise EngineUnavailable("machine.wandb needs the package wandb: pip install wandb")
        run = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]  # the same in the next sitting
        self._run = import_module("wandb").init(
            project=project, name=folder.name, dir=str(folder), id=run, resume="allow"
        )
        stack.callback(self._run.finish)

    def draw(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)


def _curves(folder: Path, machine: MachineSettings, stack: ExitStack) -> list[Any]:
    curves: list[Any] = []
    if machine.tensorboard and find_spec("tensorboard") is not None:
        try:
            curves.append(_TensorBoard(folder, stack))
        except ImportError as error:  # later ones want protobuf 5, and mediapipe 4
            click.echo(f"no curves for TensorBoard: it is installed, and cannot be loaded: {error}", err=True)
    if machine.wandb:
        curves.append(_Wandb(folder, machine.wandb, stack))
    return curves
