"""Everything that is read of one swap, frame by frame, and kept so that it is never read twice.

L looks   D width of a judge's vectors   J judges, F clip networks, by name

A look is a frame together with the one before it: every measure of change needs both. Of a long clip every n-th frame
is looked at. Whatever could not be read is NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from distill.errors import NotWritten
from engines import Rgb

FORMAT = 1  # of the files, and of what their numbers mean: count it up when a measure changes
Array = NDArray[np.float64]
STREAMS = ("result", "driver")
PLAIN = ("looks", "took_ms", "moments", "photo")
BY_NAME = ("colour", "vectors", "photos", "clips", "rollout")


@dataclass(frozen=True, slots=True)
class Look:
    """One look. `result_` and `driver_` say whose; the driver's are those of an engine that changes nothing."""

    at_s: float = math.nan
    pose: float = math.nan
    gaze: float = math.nan
    expression: float = math.nan
    net_pose: float = math.nan
    net_expression: float = math.nan
    result_warp: float = math.nan
    driver_warp: float = math.nan
    result_patches: float = math.nan
    driver_patches: float = math.nan
    result_energy: float = math.nan
    driver_energy: float = math.nan
    true_psnr: float = math.nan
    true_ssim: float = math.nan
    true_colour: float = math.nan


LOOK_FIELDS = tuple(one.name for one in fields(Look))


@dataclass(frozen=True, slots=True)
class Readings:
    """What was read of one swap.

    looks          [L, fields of Look]
    colour         "result", "driver" -> [L, 3], mean Lab inside the face
    vectors        "JUDGE/result", "JUDGE/driver" -> [L, 2, D]: the frame before, then this one
    photos         JUDGE -> [P, D], of the identity's photos; NaN rows where no face is found
    clips          "NET/T/result", "NET/T/driver" -> [clips, features]
    rollout        "at_s" [R], "JUDGE" [R] (cosine with the photos), "colour" [R, 3] (result less driver)
    took_ms        [N], of every frame
    moments, photo tiles for the picture sheet (distill.evaluate.sheet)
    frames, drawn  how many there were, and how many the swapper drew
    """

    looks: Array
    colour: Mapping[str, Array]
    vectors: Mapping[str, Array]
    photos: Mapping[str, Array]
    clips: Mapping[str, Array]
    took_ms: Array
    frames: int
    drawn: int
    rollout: Mapping[str, Array] = field(default_factory=dict)
    moments: Rgb = field(default_factory=lambda: np.zeros((0, 3, 1, 1, 3), np.uint8))
    photo: Rgb = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8))

    def column(self, name: str) -> Array:
        """One field of all looks, [L]."""
        values: Array = self.looks[:, LOOK_FIELDS.index(name)]
        return values


def looks_of(looks: Sequence[Look]) -> Array:
    """As they are kept: [L, fields]."""
    rows = [[getattr(look, name) for name in LOOK_FIELDS] for look in looks]
    return np.array(rows, np.float64).reshape(len(rows), len(LOOK_FIELDS))


def key_of(parts: Sequence[str]) -> str:
    """A fingerprint of everything that the readings depend on."""
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()


def write(readings: Readings, path: Path, key: str) -> None:
    """Whole or not at all. Raises NotWritten."""
    tensors: dict[str, NDArray[Any]] = {name: getattr(readings, name) for name in PLAIN}
    for part in BY_NAME:
        tensors |= {f"{part}/{name}": array for name, array in getattr(readings, part).items()}
    metadata = {"key": key, "frames": str(readings.frames), "drawn": str(readings.drawn)}
    content = save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise NotWritten(f"{path}: {error.strerror or error}") from error


def read(path: Path, key: str) -> Readings | None:
    """What was kept; None where nothing was, or of something else, or damaged: then it is read again."""
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    parts: dict[str, dict[str, Array]] = {one: {} for one in BY_NAME}
    for name, array in tensors.items():
        part, slash, rest = name.partition("/")
        if slash:
            parts[part][rest] = array
    return Readings(
        looks=tensors["looks"],
        took_ms=tensors["took_ms"],
        moments=tensors["moments"],
        photo=tensors["photo"],
        colour=parts["colour"],
        vectors=parts["vectors"],
        photos=parts["photos"],
        clips=parts["clips"],
        rollout=parts["rollout"],
        frames=int(metadata["frames"]),
        drawn=int(metadata["drawn"]),
    )
