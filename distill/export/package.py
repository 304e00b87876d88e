"""A student as files: weights with their card, both graphs as ONNX, and what a caller must know of them.

NAME.safetensors   weights and model card: schedule, parametrisation, steps and window are in its configuration
NAME.json          the card, for people
step.onnx          one frame (engines.models.step.SwapStep); its metadata carries the same description
identity.onnx      one person
graphs.json        inputs, outputs and memories of both graphs, with the cache's layout
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from distill.errors import NotWritten
from engines import SettingError, WeightsError
from engines.graph import GraphSpec
from engines.models.config import SwapperConfig
from engines.runtimes.base import Array
from engines.weights import Contents, card_path, check, write

GRAPHS = "graphs.json"
METADATA = "vividstream"  # the key in an ONNX file's metadata
NEXT = {
    "autoencoder": "its denoiser is untrained; `vividstream train teacher RUN --start {path}` comes next",
    "teacher": "it sees whole windows and wants tens of steps; `vividstream distill RUN --teacher {path}` comes next",
    "causal": "it wants tens of steps a frame; `vividstream distill RUN --teacher TEACHER` goes on to a few",
}


def checked(weights: Path) -> Contents:
    """The file's contents. Raises WeightsError where it is damaged, or nothing that can draw a frame in few steps."""
    contents = check(weights)
    card = contents.card
    if card.stage in NEXT:
        raise WeightsError(f"{weights} ended the stage {card.stage}: {NEXT[card.stage].format(path=weights)}")
    if card.untrained:
        raise WeightsError(f"{weights}: still random: {', '.join(card.untrained)}")
    return contents


def package(weights: Path, folder: Path, half: bool = False) -> Path:
    """Writes the files into a folder that must not exist yet, whole or not at all; returns the weights' copy.

    half: rounds the weights to 16 bits, which halves their file; graphs are made of what was rounded.

    Raises SettingError for a folder that is there, WeightsError (see `checked`), NotWritten for a full disk.
    """
    contents = checked(weights)
    if folder.exists():
        raise SettingError(f"{folder} is there already: give another folder, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
            whole = Path(aside) / folder.name
            whole.mkdir()
            name = contents.card.config.name
            (_rounded if half else _copy)(weights, whole / f"{name}.safetensors")
            specs = _graphs(whole, whole / f"{name}.safetensors", contents.card.config)
            text = json.dumps(described(contents, specs), indent=1)
            (whole / GRAPHS).write_text(text + "\n", encoding="utf-8")
            whole.rename(folder)
    except OSError as error:
        raise NotWritten(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder / f"{name}.safetensors"


def described(contents: Contents, specs: tuple[GraphSpec, ...]) -> dict[str, Any]:
    """What a caller must know, as JSON: how to noise, in how many steps, what is remembered and where it is written."""
    config = contents.card.config
    return {
        "name": config.name,
        "weights_sha256": contents.sha256,
        "schedule": config.schedule.model_dump(mode="json"),
        "window": config.window.model_dump(mode="json"),
        "steps": config.steps,
        "cache": {
            "window": "a memory of clock `window`: axis `axis` counts slots; slot engines.window.Window.slot_of(frame)"
            " takes the new slice; keys and values are kept before the position code",
            "recent": "a memory of clock `recent`: slot frame % slots takes the new slice",
        },
        "graphs": {spec.name: asdict(spec) for spec in specs},
    }


def read_specs(path: Path) -> dict[str, GraphSpec]:
    """The graphs that a `graphs.json` describes, by name."""
    found = json.loads(path.read_text(encoding="utf-8"))["graphs"]
    return TypeAdapter(dict[str, GraphSpec]).validate_python(found)


def _copy(weights: Path, to: Path) -> None:
    shutil.copyfile(weights, to)
    card = json.loads(card_path(weights).read_text(encoding="utf-8")) if card_path(weights).exists() else {}
    if card:
        card["file"] = to.name
        card_path(to).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(weights: Path, to: Path) -> None:
    """The same weights as float16. Raises WeightsError where one is too large for that."""
    from safetensors.numpy import load_file

    card = check(weights).card
    with np.errstate(over="ignore"):  # `write` refuses what becomes infinite, by name
        tensors = {name: _half(values) for name, values in load_file(weights).items()}
    write(to, tensors, card)


def _half(values: Array) -> Array:
    return values.astype(np.float16) if values.dtype == np.float32 else values


def _graphs(folder: Path, weights: Path, config: SwapperConfig) -> tuple[GraphSpec, ...]:
    """Writes both graphs and says what they are."""
    from engines.build.export_onnx import ExportError, export_onnx
    from engines.models.step import IdentityGraph, SwapStep
    from engines.models.swapper import Swapper
    from engines.weights import load_into

    swapper = Swapper(config)
    contents = load_into(swapper, weights, config)
    step, identity = SwapStep(swapper), IdentityGraph(swapper)
    for graph in (step, identity):
        try:
            export_onnx(graph, folder / f"{graph.spec.name}.onnx")
        except ExportError as error:
            raise WeightsError(f"{weights.name} cannot be exported: {error}") from error
        _inscribe(folder / f"{graph.spec.name}.onnx", described(contents, (graph.spec,)))
    return step.spec, identity.spec


def _inscribe(path: Path, description: dict[str, Any]) -> None:
    """Puts the description into the file itself; weights beside it stay where they are."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    model.producer_name = METADATA
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(description)
    onnx.save(model, str(path))
