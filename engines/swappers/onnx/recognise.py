"""Which contract a file keeps, by what it takes and gives. Never by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.errors import EngineRefused, EngineUnavailable
from engines.graph import GraphSpec, TensorSpec
from engines.swappers.onnx.contracts import CONTRACTS, DFM_SIDES, WIDTH, Contract, described
from engines.swappers.onnx.graph_file import GraphFile, Initializer, Value

FLOATS = ("float32", "float16")
EMAP_NAMES = ("emap", "buff2fs")


@dataclass(frozen=True, slots=True)
class Recognised:
    """A file and its contract. spec: what is fed and fetched, shapes fixed, all as float32."""

    path: Path
    kind: str
    contract: Contract
    side_px: int
    spec: GraphSpec
    emap: Initializer | None


def recognise(graph: GraphFile, wanted: str = "auto") -> Recognised:
    """The contract of a swapper's file.

    wanted: a type, where the file alone leaves several; `auto`: the file has to say it.
    Raises EngineRefused for a file that is none of the types, or not the wanted one; EngineUnavailable where it may be
    one of several.
    """
    if wanted != "auto":
        found = _as(wanted, graph)
        if found is None:
            raise EngineRefused(
                f"{graph.path}: is no {wanted}, which would be {described(wanted)}{_why_no_emap(wanted, graph)}; "
                f"it has {graph}"
            )
        return found
    fits = [found for kind in CONTRACTS if (found := _as(kind, graph, alone=True)) is not None]
    told = [one for one in fits if graph.outputs[0].name in one.contract.outputs]
    fits = told or fits
    if len(fits) == 1:
        return fits[0]
    if fits:
        kinds = ", ".join(one.kind for one in fits)
        raise EngineUnavailable(
            f"{graph.path}: may be one of {kinds}, which look the same from outside but want different pictures: "
            f"say which with --model-type"
        )
    known = "; ".join(map(described, CONTRACTS))
    raise EngineRefused(
        f"{graph.path}: is no swapper that is known here. It has {graph}{_why_no_emap('inswapper', graph)}. "
        f"Known: {known}"
    )


def _as(kind: str, graph: GraphFile, alone: bool = False) -> Recognised | None:
    """The file as one of a type, or None where it is not. alone: nobody said that it is of this type."""
    contract = CONTRACTS[kind]
    if kind == "dfm":
        return _as_dfm(contract, graph)
    if len(graph.inputs) != 2 or not graph.outputs:
        return None
    by_name = {one.name: one for one in graph.inputs}
    for target_name, source_name in contract.inputs:
        if set(by_name) != {target_name, source_name}:
            continue
        target, source = by_name[target_name], by_name[source_name]
        sides = [side for side in contract.sides_px if _fits(target, (1, 3, side, side))]
        if len(sides) != 1 or not _fits(source, contract.source_shape):
            return None
        picture = (1, 3, sides[0], sides[0])
        if not _fits(graph.outputs[0], picture, also_unknown=True):
            return None
        emap = emap_of(graph, alone)
        if (contract.source == "mapped") != (emap is not None) and (alone or contract.source == "mapped"):
            return None
        spec = GraphSpec(
            kind,
            (TensorSpec(target_name, picture), TensorSpec(source_name, contract.source_shape)),
            (TensorSpec(graph.outputs[0].name, picture),),
        )
        return Recognised(graph.path, kind, contract, sides[0], spec, emap if contract.source == "mapped" else None)
    return None


def _as_dfm(contract: Contract, graph: GraphFile) -> Recognised | None:
    """DeepFaceLive's: a picture with its channels last, maybe how far to morph; mask, picture and mask come out."""
    by_name = {one.name: one for one in graph.inputs}
    face_name, morph_name = contract.inputs[0]
    face = by_name.get(face_name)
    if face is None or set(by_name) - {face_name, morph_name} or len(graph.outputs) < 3:
        return None
    side = face.shape[1] if len(face.shape) == 4 else None
    if side is None or side not in DFM_SIDES or not _fits(face, (1, side, side, 3)):
        return None
    morph = by_name.get(morph_name)
    if morph is not None and not _fits(morph, (1,)):
        return None
    one_plane, picture = (1, side, side, 1), (1, side, side, 3)
    shapes = (one_plane, picture, one_plane)
    if not all(_fits(value, shape, also_unknown=True) for value, shape in zip(graph.outputs, shapes)):
        return None
    spec = GraphSpec(
        "dfm",
        (TensorSpec(face_name, picture), *([TensorSpec(morph_name, (1,))] if morph is not None else [])),
        tuple(TensorSpec(value.name, shape) for value, shape in zip(graph.outputs, shapes)),
    )
    return Recognised(graph.path, "dfm", contract, side, spec, None)


def embedder_spec(graph: GraphFile) -> GraphSpec:
    """A face recogniser's: a picture of 112 px in, 512 numbers out. Raises EngineRefused for anything else."""
    return _one_to_one(graph, (1, 3, 112, 112), "a face recogniser (ArcFace w600k_r50: 3x112x112 in, 512 numbers out)")


def converter_spec(graph: GraphFile) -> GraphSpec:
    """A converter's of embeddings, 512 numbers in and out. Raises EngineRefused for anything else."""
    return _one_to_one(graph, (1, WIDTH), "a converter of embeddings (512 numbers in, 512 out)")


def _one_to_one(graph: GraphFile, shape: tuple[int, ...], what: str) -> GraphSpec:
    numbers = (1, WIDTH)
    fits = len(graph.inputs) == 1 and graph.outputs and _fits(graph.inputs[0], shape)
    if not fits or not _fits(graph.outputs[0], numbers, also_unknown=True):
        raise EngineRefused(f"{graph.path}: is not {what}; it has {graph}")
    given, result = TensorSpec(graph.inputs[0].name, shape), TensorSpec(graph.outputs[0].name, numbers)
    return GraphSpec(graph.path.stem, (given,), (result,))


def _fits(value: Value, shape: Sequence[int], also_unknown: bool = False) -> bool:
    """Whether a value can have that shape; sides that the file leaves open fit anything."""
    if value.dtype not in FLOATS:
        return False
    if also_unknown and not value.shape:
        return True
    return len(value.shape) == len(shape) and all(a is None or a == b for a, b in zip(value.shape, shape))


def emap_of(graph: GraphFile, alone: bool = True) -> Initializer | None:
    """inswapper's matrix, which lies in the file without being used there; None where there is no saying which it is.

    Tools that simplify or halve a file move and rename it, so it is the one of that shape with its name, or else the
    one that no operation reads. If it is known that there must be one (not `alone`), the last of the file, or the only
    one, will do.
    """
    square = [one for one in graph.initializers if one.shape == (WIDTH, WIDTH)]
    named = [one for one in square if one.name.lower() in EMAP_NAMES]
    unread = [one for one in square if not one.is_read]
    last = [one for one in square if one is graph.initializers[-1]]
    for some in (named, unread) if alone else (named, unread, last, square):
        if len(some) == 1:
            return some[0]
    return None


def _why_no_emap(kind: str, graph: GraphFile) -> str:
    """What may have happened to a file that would be an inswapper, if it had its matrix."""
    sides = [value.shape[-1] for value in graph.inputs if value.name == "target" and len(value.shape) == 4]
    if kind != "inswapper" or sides not in ([128], [256]) or emap_of(graph, alone=False) is not None:
        return ""
    return " (an inswapper's emap, 512x512, is not in it: tools that simplify files throw it away)"
