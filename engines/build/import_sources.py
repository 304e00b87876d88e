"""Opens what is to be imported: a safetensors file, or a folder as diffusers and transformers write them.

Pickles are read only where a person asks for it (`from_torch`), and then by torch.load(weights_only=True), whose
unpickler knows tensors and plain containers and calls nothing else. The live path never does even that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engines.errors import WeightsError
from engines.weights import CHUNK_BYTES, PICKLES, SUFFIX, refuse_pickle, some

STEMS = ("diffusion_pytorch_model", "model", "motion_pytorch_model")
VARIANTS = ("", ".fp16")
CONFIG = "config.json"


class Tensors(Mapping[str, Tensor]):
    """Tensors of several safetensors files by name, each read when it is asked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._file_of = dict(files)

    def __getitem__(self, key: str) -> Tensor:
        path = self._file_of[key]
        try:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(key)
                return tensor
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: cannot be read: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


@dataclass(frozen=True)
class Source:
    """What one argument of the command names. `config` is what a config.json beside it says, or empty."""

    path: Path
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    sha256: str

    @property
    def title(self) -> str:
        """Short, and enough to tell sources apart."""
        return "/".join(self.path.parts[-2:])


def open_source(path: Path, *, from_torch: bool = False) -> Source:
    """Raises WeightsError where there is nothing of the kind, or a pickle and `from_torch` is not given."""
    if path.is_dir():
        files, config = _files_of(path, from_torch), _config(path / CONFIG)
    else:
        files, config = [path], _config(path.parent / CONFIG)
    if not any(file.exists() for file in files):
        raise WeightsError(f"{path}: no such file")
    digest = hashlib.sha256()
    for file in files:
        _hash(file, digest)
    if files[0].suffix.lower() in PICKLES and from_torch:
        return Source(path, _unpickled(files[0]), config, digest.hexdigest())
    return Source(path, _safetensors(files), config, digest.hexdigest())


def _safetensors(files: list[Path]) -> Tensors:
    file_of: dict[str, Path] = {}
    for path in files:
        refuse_pickle(path)
        try:
            with safe_open(path, framework="pt") as file:
                found = list(file.keys())
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: no safetensors file, or a damaged one ({error})") from error
        twice = [key for key in found if key in file_of]
        if twice:
            raise WeightsError(f"{path}: has what another part of the same model has: {some(twice)}")
        file_of |= dict.fromkeys(found, path)
    return Tensors(file_of)


def _files_of(folder: Path, from_torch: bool) -> list[Path]:
    for stem in STEMS:
        for variant in VARIANTS:
            index = folder / f"{stem}{SUFFIX}.index{variant}.json"
            if index.exists():
                parts = sorted(set(_json(index).get("weight_map", {}).values()))
                return [folder / Path(part).name for part in parts]
            single = folder / f"{stem}{variant}{SUFFIX}"
            if single.exists():
                return [single]
    pickled = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    if pickled and from_torch:
        if len(pickled) > 1:
            names = some(path.name for path in pickled)
            raise WeightsError(f"{folder}: several pickles ({names}); name the one that is meant")
        return pickled
    if pickled:
        refuse_pickle(pickled[0])
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
    hint = f"; name the folder that is meant: {some(inside, most=9)}" if inside else ""
    raise WeightsError(f"{folder}: no {STEMS[0]}{SUFFIX} and none of its other names in it{hint}")


def _unpickled(path: Path) -> Mapping[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the boundary to a foreign format: torch raises half a dozen kinds
        words = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: cannot be read as plain tensors: {type(error).__name__}: {words}") from error
    while isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path}: does not hold tensors by name")
    return {str(name): tensor for name, tensor in loaded.items()}


def _config(path: Path) -> Mapping[str, Any]:
    return _json(path) if path.exists() else {}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: is no JSON object")
    return values


def _hash(path: Path, digest: Any) -> None:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
