"""What is written beside every built engine: of what it was made, for what machine, and how it was proved.

The key is a sha256 over everything that could change a number or a speed. An engine lies in a folder of that name, so
a manifest that was altered no longer fits its folder. `manifest_sha256` catches the rest of the file. Neither is a
signature: whoever may write into the store can write an engine.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from engines.errors import EngineRefused
from engines.graph import GraphSpec
from engines.machine import Machine
from engines.models.config import SwapperConfig
from engines.settings import StrictModel

FORMAT: Literal[1] = 1
MANIFEST, GOLDEN = "manifest.json", "golden.safetensors"
MOST_MANIFEST_BYTES = 4_000_000
HASH_CHUNK_BYTES = 1 << 20
ROLLOUT_FRAMES = 100  # of a golden check, unless said otherwise

RuntimeName = Literal["torch", "compiled", "ort", "tensorrt"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


class GraphFact(StrictModel):
    """One graph of an engine: all its names and shapes, and the sha256 of its exported text, without weights."""

    spec: GraphSpec
    text_sha256: str
    file: str = Field(description="the file that a runtime opens; empty where the graph is made from the configuration")


class KeyFacts(StrictModel):
    """Everything that makes two engines different."""

    format: Literal[1] = FORMAT
    name: str = Field(description="the preset, or what the weights' configuration is called")
    config: SwapperConfig
    graphs: dict[str, GraphFact]
    weights_sha256: str = Field(description="over names, types, shapes and values of all tensors")
    window: int = Field(description="W, frames that a temporal layer sees")
    steps: int
    size_px: int
    batch: int
    runtime: RuntimeName
    precision: Precision
    device: Literal["cpu", "cuda"]
    versions: dict[str, str] = Field(description="libraries that an engine of this runtime depends on")
    machine: Machine
    options: dict[str, str | int | float | bool] = Field(description="of the builder")


class FileFact(StrictModel):
    """One file of an engine."""

    sha256: str
    size_bytes: int


class WeightsFact(StrictModel):
    """Where the weights came from."""

    source: str = Field(description="the file's name, or `random`")
    random_seed: int | None = Field(None, description="of weights that nobody trained: for measuring only")
    file_sha256: str = ""
    licence: str = ""
    untrained: tuple[str, ...] = Field((), description="parts that are still random, by the weights' card")
    loss_networks: tuple[str, ...] = Field((), description="networks that a loss looked through, by the weights' card")


class Tolerance(StrictModel):
    """How far an engine may be from the reference. `rms`: ||a - b|| / ||b||; `worst`: max |a - b| / max |b|."""

    first_rms: float
    first_worst: float
    rollout_rms: float
    rollout_worst: float


class GoldenResult(StrictModel):
    """How far one output was from the reference in one frame."""

    graph: str
    output: str
    frame: int
    rms: float
    worst: float


class FaceLimits(StrictModel):
    """How far the face may be from the one that float32 draws, inside the mask. Levels are of 255."""

    rms: float
    most: float = Field(description="99th percentile of the absolute error, levels")
    colour: float = Field(description="mean distance of colours, Lab dE")
    tone: float = Field(description="distance of the mean colours, Lab dE")
    growth: float = Field(description="the largest rms of later frames over that of the first two")


class FaceResult(StrictModel):
    """How far the face was off in one frame, as FaceLimits measures it."""

    frame: int
    rms: float
    most: float
    colour: float
    tone: float


class QuantisedFact(StrictModel):
    """Of an engine in 8 bits: how it was made, and the gate that it passed."""

    calibration: str = Field(description="what ranges were found on")
    frames: int = Field(description="how many frames that were")
    products: int = Field(description="products with weights in the graph of a frame")
    in_8_bits: int = Field(description="how many of them are computed in 8 bits")
    kept: tuple[str, ...] = Field(description="weights, or nodes, of the products that stay float32")
    limits: FaceLimits
    results: tuple[FaceResult, ...]


class GoldenFact(StrictModel):
    """The proof: outputs against eager fp32 torch on stored inputs, frame after frame."""

    reference: str = Field(description="what the truth was computed with")
    frames: int = Field(description="length of the rollout")
    tolerance: Tolerance
    results: tuple[GoldenResult, ...]
    ms_per_frame: float = Field(description="median of the rollout; measured while building, so an upper bound")


class EngineManifest(StrictModel):
    """manifest.json"""

    key: KeyFacts
    files: dict[str, FileFact] = Field(description="every file but this one")
    weights: WeightsFact
    golden: GoldenFact
    quantised: QuantisedFact | None = Field(None, description="of precision int8 only")
    timings_s: dict[str, float] = Field(description="how long each stage of the build took")
    memory_estimated_bytes: int
    memory_peak_bytes: int = Field(description="most that the building process held; 0 unknown")
    created: str = Field(description="UTC")
    vividstream: str
    git_revision: str = Field(description="of the source that built it; empty if it was no checkout")
    built_on: Machine
    manifest_sha256: str = Field("", description="over all the rest")

    @property
    def random(self) -> bool:
        """Nobody trained these weights, or some of them: what they draw means nothing."""
        return self.weights.random_seed is not None or bool(self.weights.untrained)


def key_of(facts: KeyFacts) -> str:
    """The name of the engine's folder: 64 hexadecimal digits."""
    return _sha256_of_values(facts.model_dump(mode="json"))


def sealed(manifest: EngineManifest) -> EngineManifest:
    """The manifest with its own sha256."""
    return manifest.model_copy(update={"manifest_sha256": _seal(manifest.model_dump(mode="json"))})


def _seal(values: dict[str, Any]) -> str:
    return _sha256_of_values({name: value for name, value in values.items() if name != "manifest_sha256"})


def _sha256_of_values(values: dict[str, Any]) -> str:
    """The same for the same values, whatever the order in which they were set."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Of a file, read in pieces. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(folder: Path) -> EngineManifest:
    """Reads and checks the manifest of an engine's folder. Raises EngineRefused, which names what is wrong with it."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MOST_MANIFEST_BYTES:
            raise EngineRefused(f"{path}: larger than any manifest")
        text = path.read_bytes()
    except OSError as error:
        raise EngineRefused(f"{path}: {error.strerror or error}") from error
    values = _values(path, text)
    try:
        manifest = EngineManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        maker = f"of vividstream {values.get('vividstream')}, or damaged: "
        raise EngineRefused(f"{path}: {maker}{where}: {first['msg']}") from error
    # Of what is written, not of what was read: settings that came later have defaults, and are in no older manifest.
    if manifest.manifest_sha256 != _seal(values):
        raise EngineRefused(f"{path}: was altered after it was written")
    if _sha256_of_values(values["key"]) != folder.name:
        raise EngineRefused(f"{path}: does not belong to its folder: what it says has another key")
    for name in manifest.files:
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise EngineRefused(f'{path}: "{name}" is no file of this folder')
    return manifest


def _values(path: Path, text: bytes) -> dict[str, Any]:
    """The JSON as it stands. Refuses other formats first: another version's manifest is not a damaged one."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineRefused(f"{path}: no JSON, or not all of it: {error}") from error
    key = values.get("key") if isinstance(values, dict) else None
    found = key.get("format") if isinstance(key, dict) else None
    if found != FORMAT:
        raise EngineRefused(f"{path}: format {found!r}, and this version reads {FORMAT}")
    assert isinstance(values, dict)
    return values
