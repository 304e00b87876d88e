"""What is kept of a run: rolling checkpoints, the best one, and the batch that broke it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from distill.errors import NotFinite
from distill.examples.types import TENSORS, Shown
from distill.shards import written_whole
from distill.training import checkpoint
from distill.training.checkpoint import BEST, ROLLING, Place
from distill.training.learner import Learner
from distill.training.report import Report
from distill.training.settings import MachineSettings
from engines import SettingError

CHECKPOINTS, CONFIGURATION = "checkpoints", "config.json"


class Keeper:
    """passed_over: a line on each damaged checkpoint that was not resumed."""

    def __init__(
        self, path: Path, machine: MachineSettings, learner: Learner, configuration: Mapping[str, Any]
    ) -> None:
        self._path, self._folder = path, path / CHECKPOINTS
        self._machine, self._learner, self._configuration = machine, learner, configuration
        self._frozen = {name: sha256_of(module) for name, module in learner.stage.frozen.items()}
        self._saved = -1
        self._best = math.inf
        self._metrics: Mapping[str, float] = {}
        self.passed_over: list[str] = []

    def resume(self) -> Place:
        """Loads the newest whole checkpoint, if there is one. Raises OtherRun."""
        found, self.passed_over = checkpoint.newest(self._folder)
        best, _ = checkpoint.newest(self._folder, BEST)
        if found is not None:
            checkpoint.same_run(found, self._configuration, self._frozen)
        if self._learner.ranks.first:
            with written_whole(self._path / CONFIGURATION) as file:
                resolved = {**self._configuration, "machine": self._machine.model_dump(mode="json")}
                file.write(json.dumps(resolved, indent=1).encode())
        if found is None:
            return Place()
        self._learner.load(found.tensors())
        self._saved = found.place.step
        if best is not None and self._machine.best:
            self._best = self._value(best.metrics)
        return found.place

    def save(self, place: Place, report: Report) -> None:
        """A rolling checkpoint, unless this step has one. Raises NotWritten."""
        if place.step != self._saved:
            report.flush()
            self._write(ROLLING, place, self._machine.keep)
            self._saved = place.step

    def keep_best(self, place: Place, metrics: Mapping[str, float]) -> None:
        """The checkpoint of the lowest value so far of the metric that `machine.best` names."""
        self._metrics = metrics
        if self._machine.best and metrics:
            value = self._value(metrics)
            if value < self._best:
                self._best = value
                self._write(BEST, place, 1)

    def stop_unless_finite(self, values: Mapping[str, float], shown: Shown, place: Place, progress: float) -> None:
        """Raises NotFinite where a value is no finite number, with the batch on disk and the weights untouched."""
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if not bad:
            return
        about = {"step": place.step, "progress": progress, "kind": shown.kind, "numbers": shown.numbers}
        path = self._path / f"not-finite-{place.step:09}" / f"rank-{self._learner.ranks.rank}.safetensors"
        kept = f"the batch is in {path}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tensors = {name: getattr(shown, name).detach().cpu().contiguous().clone() for name in TENSORS}
            save_file(tensors, path, {"about": json.dumps(about | {"values": {n: str(v) for n, v in values.items()}})})
        except (OSError, SafetensorError) as error:
            kept = f"the batch could not be written ({error})"
        raise NotFinite(
            f"step {place.step}: {', '.join(f'{name} is {values[name]}' for name in bad[:3])}; {kept}; nothing was "
            f"learned from it, and the checkpoint of step {max(self._saved, 0)} is as it was"
        )

    def _write(self, kind: str, place: Place, keep: int) -> None:
        ranks = self._learner.ranks
        tensors = ranks.gathered(self._learner.tensors())
        if ranks.first:
            checkpoint.write(self._folder, kind, place, tensors, self._configuration, self._frozen, dict(self._metrics))
            checkpoint.prune(self._folder, kind, keep)
        ranks.wait()

    def _value(self, metrics: Mapping[str, float]) -> float:
        name = self._machine.best.removeprefix("-")
        if name not in metrics:
            raise SettingError(f'machine.best: the stage measures no "{name}"; it has {", ".join(sorted(metrics))}')
        return -metrics[name] if self._machine.best.startswith("-") else metrics[name]


def sha256_of(module: nn.Module) -> str:
    """Of every weight and buffer, names included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(whole.view(torch.uint8).numpy().data)
    return digest.hexdigest()
