"""Checkpoints: a folder each, with the tensors (safetensors) and what belongs to them (JSON). Nothing is unpickled.

A checkpoint is written beside its place and renamed whole when all of it is on the disk, so that one with that name is
complete whatever died or filled up. The older ones go only then. A damaged one is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distill.data import ResumeState
from distill.errors import NotWritten, OtherRun

FORMAT = 1
TENSORS, ABOUT = "tensors.safetensors", "about.json"
ROLLING, BEST = "step-", "best-"
PART = ".part-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands between two steps.

    step      steps made
    examples  shown so far, over all ranks
    spent_s   time it took, all sittings together
    progress  0..1, of the last step; for people, since the pace computes it anew
    data      where the data goes on
    """

    step: int = 0
    examples: int = 0
    spent_s: float = 0.0
    progress: float = 0.0
    data: ResumeState | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says of itself."""

    path: Path
    place: Place
    configuration: Mapping[str, Any]
    frozen: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    sha256: str = ""

    def tensors(self) -> dict[str, Tensor]:
        """On the CPU, in memory of their own: not the file's, which goes one day."""
        with safe_open(self.path / TENSORS, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def fingerprint(configuration: Mapping[str, Any]) -> str:
    """sha256 of a resolved configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def write(
    folder: Path,
    kind: str,
    place: Place,
    tensors: Mapping[str, Tensor],
    configuration: Mapping[str, Any],
    frozen: Mapping[str, str],
    metrics: Mapping[str, float],
) -> Path:
    """A new checkpoint `folder/<kind><step>`, whole or not at all. Raises NotWritten."""
    path = folder / f"{kind}{place.step:09}"
    part = folder / f"{PART}{path.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        save_file(_apart(tensors), part / TENSORS)
        about = {
            "format": FORMAT,
            "place": asdict(place),
            "fingerprint": fingerprint(configuration),
            "configuration": configuration,
            "frozen": frozen,
            "metrics": metrics,
            "sha256": _sha256(part / TENSORS),
        }
        (part / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
        for one in (part / TENSORS, part / ABOUT, part):
            _to_disk(one)
        shutil.rmtree(path, ignore_errors=True)  # the same step again, after a damaged one
        part.rename(path)
        _to_disk(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise NotWritten(f"{path}: the checkpoint cannot be written: {error}; the ones before it are whole") from error
    return path


def prune(folder: Path, kind: str, keep: int) -> None:
    """Removes what is left of writers that died, and all but the newest `keep` of a kind."""
    for old in [*_of_kind(folder, kind)[keep:], *folder.glob(f"{PART}*")]:
        with suppress(OSError):
            (old / ABOUT).unlink(missing_ok=True)  # first, so that half of one is none
            shutil.rmtree(old)


def newest(folder: Path, kind: str = ROLLING) -> tuple[Checkpoint | None, list[str]]:
    """The newest that is whole, and a line on each newer one that is not."""
    refused: list[str] = []
    for path in _of_kind(folder, kind):
        try:
            return _read(path), refused
        except (OSError, ValueError, KeyError, TypeError) as error:
            refused.append(f"{path}: passed over, since it is damaged: {error}")
    return None, refused


def same_run(found: Checkpoint, configuration: Mapping[str, Any], frozen: Mapping[str, str]) -> None:
    """Raises OtherRun, naming the fields, unless the checkpoint is of this configuration and these frozen networks."""
    mine, theirs = _flat(configuration), _flat(found.configuration)
    differing = [
        f"{name} is {theirs.get(name, 'not there')} there and {mine.get(name, 'not there')} here"
        for name in sorted({*mine, *theirs})
        if mine.get(name) != theirs.get(name)
    ]
    differing += [
        f"the frozen {name} has other weights"
        for name in sorted({*frozen, *found.frozen})
        if frozen.get(name) != found.frozen.get(name)
    ]
    if differing:
        more = f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise OtherRun(
            f"{found.path}: a run of another configuration: {'; '.join(differing[:4])}{more}; restore them, or take a "
            "new folder"
        )


def _read(path: Path) -> Checkpoint:
    about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']} instead of {FORMAT}")
    if _sha256(path / TENSORS) != about["sha256"]:
        raise ValueError(f"{TENSORS} does not have the sha256 that {ABOUT} names")
    place = dict(about["place"])
    data = place.pop("data")
    resume = None if data is None else ResumeState.from_json(json.dumps(data))
    return Checkpoint(
        path, Place(**place, data=resume), about["configuration"], about["frozen"], about["metrics"], about["sha256"]
    )


def _of_kind(folder: Path, kind: str) -> list[Path]:
    """Newest first."""
    return sorted((path for path in folder.glob(f"{kind}*") if path.is_dir()), reverse=True)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors wants them: in one piece, no two in the same memory."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().contiguous()
        found[name] = whole.clone() if whole.data_ptr() in seen else whole
        seen.add(whole.data_ptr())
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return flat
