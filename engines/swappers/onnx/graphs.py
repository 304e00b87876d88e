"""A person's own files, opened: the swapper, and what the identity has to go through for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import EngineUnavailable, SettingError
from engines.graph import GraphSpec
from engines.machine import this_machine
from engines.runtimes.base import Runtime
from engines.settings import SwapSettings
from engines.swappers.onnx.graph_file import read_graph
from engines.swappers.onnx.recognise import Recognised, converter_spec, embedder_spec, recognise
from engines.types import Floats

if TYPE_CHECKING:
    from engines.runtimes.ort import Provider


@dataclass(frozen=True, slots=True)
class OnnxGraphs:
    """What lives on the device. step: the swapper; its inputs are the picture and, for most, the identity's source."""

    step: Runtime
    embedder: Runtime | None
    converter: Runtime | None
    recognised: Recognised
    emap: Floats | None
    why: str

    def close(self) -> None:
        for graph in (self.step, self.embedder, self.converter):
            if graph is not None:
                graph.close()


def opened_key(settings: SwapSettings) -> tuple[object, ...]:
    """Sessions for which this is the same share what is opened. A file that was replaced is another one."""
    files = [_stamp(path) for path in (settings.model, settings.embedder, settings.converter)]
    return ("onnx", *files, settings.model_type, settings.runtime, settings.device)


def _stamp(path: Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return (str(path), 0, 0)  # opening says what is wrong with it
    return (str(path.absolute()), found.st_mtime_ns, found.st_size)


def open_graphs(settings: SwapSettings) -> OnnxGraphs:
    """Opens what the settings name.

    Raises EngineUnavailable, in words, for a file that is missing, damaged or none of the swappers that are known, and
    where the swapper needs a further file.
    """
    if settings.model is None:
        raise EngineUnavailable("the engine onnx draws with a swapper file of your own: --model FILE.onnx")
    if settings.runtime not in ("auto", "ort"):
        raise SettingError(f'the engine onnx runs in ONNX Runtime: --runtime ort (or auto), not "{settings.runtime}"')
    recognised = recognise(read_graph(settings.model), settings.model_type)
    _check_files(recognised, settings)
    provider, device, note = _place(settings.device)
    swapper = _open(settings.model, recognised.spec, provider, device)
    embedder = converter = None
    if settings.embedder is not None and recognised.contract.needs_embedder:
        embedder = _open(settings.embedder, embedder_spec(read_graph(settings.embedder)), provider, device)
    if settings.converter is not None and recognised.contract.converter:
        graph = read_graph(settings.converter)
        two = recognised.contract.source == "two_recognisers"
        converter = _open(settings.converter, embedder_spec(graph) if two else converter_spec(graph), provider, device)
    how = "said to be" if settings.model_type != "auto" else "recognised as"
    why = f"{settings.model.name}, {how} {recognised.kind}, {recognised.side_px} px; ONNX Runtime on {device}{note}"
    emap = recognised.emap.array() if recognised.emap is not None else None
    return OnnxGraphs(swapper, embedder, converter, recognised, emap, why)


def _check_files(recognised: Recognised, settings: SwapSettings) -> None:
    """Says which further file is missing, and which one has no use."""
    kind, contract = recognised.kind, recognised.contract
    missing = []
    if contract.needs_embedder and settings.embedder is None:
        which = "its own recogniser" if kind == "cscs" else "arcface_w600k_r50 as an ONNX file"
        missing.append(f"the recogniser whose embedding tells it who to draw ({which}): --embedder FILE.onnx")
    if contract.converter and settings.converter is None:
        missing.append(f"what the embedding goes through ({contract.converter} as an ONNX file): --converter FILE.onnx")
    if missing:
        raise EngineUnavailable(f"{recognised.path}: a swapper of type {kind} needs {'; and '.join(missing)}")
    for name, path, used in (
        ("embedder", settings.embedder, contract.needs_embedder),
        ("converter", settings.converter, bool(contract.converter)),
    ):
        if path is not None and not used:
            raise SettingError(f'setting "{name}": a swapper of type {kind} needs none')


def _place(device: str) -> tuple[Provider, str, str]:
    """Provider and device, and what is to say of the choice."""
    from engines.runtimes.ort import has_provider

    if device == "cpu":
        return "cpu", "cpu", ""
    if device != "auto":
        return "cuda", device, ""
    if this_machine("cuda").gpu is None:
        return "cpu", "cpu", ""
    if has_provider("cuda"):
        return "cuda", "cuda:0", ""
    return "cpu", "cpu", " (there is a GPU, but this onnxruntime is without CUDA: pip install onnxruntime-gpu)"


def _open(path: Path, spec: GraphSpec, provider: Provider, device: str) -> Runtime:
    from engines.runtimes.ort import OrtFile

    return OrtFile(path, spec, provider, device)
