"""Draws with a person's own swapper: align by its template, run, colour, and lay the face back where it came from."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import numpy as np

from engines.errors import EngineFault, SettingError
from engines.face.align import crop, face_pose, moved
from engines.face.five_points import template_crop
from engines.face.paste import paste
from engines.face.region import Reach, covered_on_crop, face_region
from engines.identity import Identity
from engines.pool import EnginePool
from engines.runtimes.base import Array, Runtime
from engines.settings import SwapSettings
from engines.sharing import SharedGraph
from engines.swappers.base import EngineState, Inputs
from engines.swappers.onnx.contracts import offset_px
from engines.swappers.onnx.graphs import OnnxGraphs, open_graphs, opened_key
from engines.swappers.onnx.pixels import (
    change,
    colour_gains,
    fading,
    given,
    given_dfm,
    joined,
    split,
    taken,
    taken_dfm,
    toned,
)
from engines.swappers.onnx.source import Run, source_of
from engines.turns import Place
from engines.types import Floats, Rgb

REACH = Reach(sides_cm=0.5)  # these swappers keep the driver's outline: little beyond it is drawn
COLOUR_MEMORY_S = 0.25
LEAST_CHANGE = 0.02  # of the face's brightness: less is no other face
LEAST_SHOWN = 0.25  # of the face: a swapper whose own mask leaves more out leaves the real face bare
MOST_SOURCES = 4  # identities that are kept ready
MOST_TIMES = 4  # of the swapper's own side, that a crop may have
TONE_SHARE = {"identity": 0.0, "mix": 0.5, "driver": 1.0}


@dataclass(slots=True, weakref_slot=True)
class OnnxState:
    """What is remembered of one person: their place among the sessions, and how the colours were corrected."""

    place: Place | None = None
    gains_23: Floats | None = None
    drawn_s: float = 0.0


class Onnx:
    """Draws with files that it shares with other sessions; see engines.swappers.base.Engine."""

    name = "onnx"
    needs_face = True

    def __init__(self, shared: SharedGraph[OnnxGraphs], size_px: int | None = None) -> None:
        """shared: entered for this one, which leaves it when it is closed. size_px: side of the crop.

        Raises SettingError for a side that is not a multiple of the swapper's own.
        """
        self.why = shared.graphs.why
        self._shared = shared
        self._recognised = shared.graphs.recognised
        self._times = _times(self._recognised.kind, self._recognised.side_px, size_px)
        self._side = self._recognised.side_px * self._times
        own_px = offset_px(self._recognised.kind, self._recognised.side_px)
        self._offset_px = own_px * self._times + (self._times - 1) / 2  # the parts' mean place is the template's
        self._fading = fading(self._side)
        self._sources: OrderedDict[int, tuple[Identity, Array | EngineFault]] = OrderedDict()

    def init(self) -> EngineState:
        return OnnxState()

    def warm_up(self) -> None:
        """Draws a made-up face with a made-up source: compiles kernels, and lets the runtime plan its memory."""
        from engines.swappers.warm_up import made_up_face, made_up_identity

        grey, worn = np.full((256, 256, 3), 128, np.uint8), made_up_identity()
        shape = self._recognised.contract.source_shape
        if shape:
            self._sources[id(worn)] = worn, np.full(shape, 1 / math.sqrt(math.prod(shape)), np.float32)
        inputs = Inputs(grey, made_up_face(256), None, 0.0)
        for tone in ("identity", "driver"):
            self.draw(self.init(), worn, inputs, SwapSettings.read({"tone": tone}), grey.copy())
        self._sources.clear()

    def prepare(self, identity: Identity, settings: SwapSettings) -> None:
        """Finds the portrait's face and what the swapper has to know of it. From any thread."""
        self._source_of(identity)

    def close(self) -> None:
        """Leaves the files to the other sessions."""
        self._shared.leave()

    def draw(
        self, state: EngineState, identity: Identity | None, inputs: Inputs, settings: SwapSettings, onto_HW3: Rgb
    ) -> None:
        """See engines.swappers.base.Engine."""
        if identity is None or not isinstance(state, OnnxState):
            raise EngineFault("the engine onnx needs an identity and its own state")
        if state.place is None:
            state.place = self._shared.place()
            weakref.finalize(state, self._shared.give_up, state.place)
        points, side = inputs.face.points_px, self._side
        contract = self._recognised.contract
        there = template_crop(points, contract.template, side, self._offset_px)
        own = crop(inputs.rgb_HW3, there, side)
        face, alpha = self._swapped(state.place, own, identity)
        region = self._region(points, there, inputs)
        alpha *= region
        _check_hidden(face, own, region, alpha)
        share = TONE_SHARE[settings.tone]
        if share > 0:
            face = self._toned(state, face, own, alpha, inputs.captured_s, share)
        paste(onto_HW3, face * np.float32(2) - np.float32(1), alpha, there)
        state.drawn_s = inputs.captured_s

    def _region(self, points: Floats, there: Floats, inputs: Inputs) -> Floats:
        """How solid the face is laid on, but for the crop's border: the face's outline, without what is before it."""
        scale = math.sqrt(abs(float(np.linalg.det(there[:, :2].astype(np.float64)))))
        px_per_cm = face_pose(points).px_per_cm * scale
        covered = covered_on_crop(inputs.occlusion, there, self._side)
        return face_region(moved(points, there), self._side, covered, REACH, px_per_cm).alpha_SS

    def _swapped(self, place: Place, own_SS3: Rgb, identity: Identity) -> tuple[Floats, Floats]:
        """The swapper's face, float32 [3, S, S] 0..1, and where it may be seen, [S, S]."""
        spec, contract = self._recognised.spec, self._recognised.contract
        if contract.source == "none":
            arrays: dict[str, Array] = {spec.inputs[0].name: taken_dfm(own_SS3)}
            if len(spec.inputs) > 1:
                arrays[spec.inputs[1].name] = np.ones(1, np.float32)  # the whole way to the person in the file
            outputs = self._shared.run(place, arrays, {})
            target_mask, picture, source_mask = (outputs[one.name] for one in spec.outputs)
            face, where = given_dfm(picture, (target_mask, source_mask))
            return face, where * self._fading
        target, source = (tensor.name for tensor in spec.inputs)
        prepared = self._source_of(identity)
        faces = []
        for part in split(own_SS3, self._times):
            outputs = self._shared.run(place, {target: taken(part, contract), source: prepared}, {})
            faces.append(given(outputs[spec.outputs[0].name], contract))
        return joined(faces), self._fading.copy()

    def _toned(
        self, state: OnnxState, face: Floats, own: Rgb, alpha: Floats, captured_s: float, share: float
    ) -> Floats:
        """The face in the driver's colours, part of the way; that changes slowly, so that nothing flickers."""
        now = colour_gains(face, own, alpha)
        elapsed_s = captured_s - state.drawn_s
        if state.gains_23 is None or elapsed_s < 0:
            state.gains_23 = now
        elif now is not None:
            state.gains_23 = state.gains_23 + (1 - math.exp(-elapsed_s / COLOUR_MEMORY_S)) * (now - state.gains_23)
        return face if state.gains_23 is None else toned(face, state.gains_23, share)

    def _source_of(self, identity: Identity) -> Array:
        """What the swapper has to know of the identity; computed once, then kept. A fault is kept as well."""
        found = self._sources.get(id(identity))
        if found is None or found[0] is not identity:
            found = identity, self._compute_source(identity)
            self._sources[id(identity)] = found
            while len(self._sources) > MOST_SOURCES:
                self._sources.popitem(last=False)
        if isinstance(found[1], EngineFault):
            raise EngineFault(str(found[1]))
        return found[1]

    def _compute_source(self, identity: Identity) -> Array | EngineFault:
        graphs = self._shared.graphs
        if graphs.recognised.contract.source == "none":
            return np.zeros(0, np.float32)
        embed, convert = self._run_of(graphs.embedder), self._run_of(graphs.converter)
        try:
            source = source_of(identity, graphs.recognised.contract, graphs.emap, embed, convert)
        except EngineFault as fault:
            return fault
        return source

    def _run_of(self, graph: Runtime | None) -> Run | None:
        """A graph with one input and one output as a function that runs it in its owner's thread."""
        if graph is None:
            return None
        name = graph.spec.inputs[0].name

        def run(array: Array) -> Array:
            (result,) = self._shared.call(lambda _: graph.run(graph.init(), {name: array}, {})).values()
            return result

        return run


def open_engine(settings: SwapSettings, pool: EnginePool) -> Onnx:
    """An engine with the files that the settings name, shared through the pool.

    Raises EngineUnavailable or SettingError, in words, where they cannot be drawn with.
    """
    shared = pool.enter(opened_key(settings), partial(open_graphs, settings))
    try:
        return Onnx(shared, settings.size_px)
    except BaseException:
        shared.leave()
        raise


def _check_hidden(face: Floats, own_SS3: Rgb, region_SS: Floats, alpha_SS: Floats) -> None:
    """Raises EngineFault where the real face would be seen although the swapper ran."""
    if alpha_SS.sum() < LEAST_SHOWN * region_SS.sum():
        raise EngineFault("the swapper found no face where there is one")
    if region_SS.any() and change(face, own_SS3, alpha_SS) < LEAST_CHANGE:
        raise EngineFault("the swapper gave the face back as it was: wrong files for it, or not a swapper")


def _times(kind: str, own_px: int, wanted_px: int | None) -> int:
    """How many times larger than the swapper's own the crop is."""
    if wanted_px is None or wanted_px == own_px:
        return 1
    times, rest = divmod(wanted_px, own_px)
    if rest or not 1 <= times <= MOST_TIMES or kind == "dfm":
        valid = [own_px] if kind == "dfm" else [own_px * n for n in range(1, MOST_TIMES + 1)]
        sides = ", ".join(map(str, valid))
        raise SettingError(f'setting "size_px": this swapper draws {own_px} px; valid: {sides}')
    return times
