"""The learned engines `tiny`, `base` and `full`: a latent temporal UNet that draws on top of the proxy.

One frame (VividFace, arXiv 2412.11279, made causal): the face is cropped; the proxy draws the identity roughly onto a
copy of that crop; the region of the face is filled with one colour in another; the graph makes a face of both,
of the driver's crop, of the identity's tokens and of what it remembers; and the face is laid back into that very frame.

One frame in, one frame out: no frame waits for another, so the crop that is pasted is the one that was cut.

For a network that draws a change (decision 034) the proxy is drawn on the frame itself, at the frame's own sharpness
and with all that surrounds a face. What the network is shown is cut from there, and only what it changed is added,
within the face's new outline.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from engines.errors import EngineFault
from engines.face.align import crop, crop_from_frame, moved
from engines.face.paste import paste, paste_change
from engines.face.region import (
    Fill,
    Reach,
    Region,
    covered_on_crop,
    face_region,
    fill_colour,
    masked_planes,
    planes,
    small_picture,
)
from engines.graph import Clock
from engines.identity import Identity
from engines.identity_vector import identity_vector
from engines.models.config import SwapperConfig
from engines.noise import noise
from engines.runtimes.base import Array
from engines.settings import SwapSettings
from engines.sharing import SharedGraph
from engines.swappers.base import EngineState, Inputs
from engines.swappers.latent_graphs import LatentGraphs
from engines.swappers.proxy import Plan, Proxy
from engines.turns import Place
from engines.types import Floats, Rgb
from engines.window import Window, recent_order, recent_slot

LOST_S = 1.0  # a face that was gone for longer begins anew
RECENT = 2  # frames that the autoencoder's temporal branch looks back
FILL: Fill = "mean"  # what stands where the face was, in the crop that the graph sees
MOST_TOKENS = 4  # identities whose tokens are kept
OUTLINE = Reach(sides_cm=0.3, up_cm=0.3)  # beyond the face's new outline: how far a change goes, fading in from there
WARM_UP_FRAMES = 4  # the first compiles, the others are measured


@dataclass(slots=True, weakref_slot=True)
class LatentState:
    """What is remembered of one person. The memories proper lie in the graph's row `place`, until this is let go."""

    proxy: EngineState
    place: Place | None = None
    frame: int = 0  # since the last reset
    worn: Identity | None = None
    settings: SwapSettings | None = None
    drawn_s: float = 0.0
    resets: int = 0


@dataclass(frozen=True, slots=True)
class OwnCrop:
    """What the camera's picture alone gives: the crop with the region filled, [1, 3, S, S], the driver's small picture
    [1, 3, A, A], and the region."""

    masked: Floats
    attribute: Floats
    region: Region


def rough_crop(proxy: Proxy, state: EngineState, plan: Plan, crop_from_frame: Floats, own_SS3: Rgb) -> Rgb:
    """The proxy's drawing as the networks see it, uint8 [S, S, 3]: on the camera's crop, at the crop's own scale.

    Training and live draw it here. Raises EngineFault where the face is outside of the crop.
    """
    rough = own_SS3.copy()
    proxy.lay(state, plan.on_crop(crop_from_frame), own_SS3, rough)
    return rough


class Latent:
    """Draws with a graph that it shares with other sessions; see engines.swappers.base.Engine."""

    needs_face = True

    def __init__(self, name: str, shared: SharedGraph[LatentGraphs]) -> None:
        """shared: entered for this one, which leaves it when it is closed."""
        self.name = name
        self.why = shared.graphs.why
        self._shared = shared
        self._config: SwapperConfig = shared.graphs.config
        self._window = Window(self._config.window.frames, self._config.window.sinks)
        self._inputs = {tensor.name: tensor.shape for tensor in shared.graphs.step.spec.inputs}
        self._proxy = Proxy()
        self._cutter = ThreadPoolExecutor(1, thread_name_prefix="cutter")
        self._tokens: OrderedDict[tuple[int, float], tuple[Identity, Array]] = OrderedDict()
        self._noise: tuple[tuple[int, int], Floats] | None = None

    def init(self) -> EngineState:
        return LatentState(self._proxy.init())

    def warm_up(self) -> None:
        """Draws a made-up face a few times: compiles kernels and graph, and measures how long a frame takes."""
        from engines.swappers.warm_up import made_up_face, made_up_identity

        self._proxy.warm_up()
        grey = np.full((256, 256, 3), 128, np.uint8)
        state, worn = self.init(), made_up_identity()
        for number in range(WARM_UP_FRAMES):
            inputs = Inputs(grey, made_up_face(256), None, number / 25)
            self.draw(state, worn, inputs, SwapSettings(), grey.copy())
        self._tokens.clear()

    def close(self) -> None:
        """Leaves the graph to the other sessions."""
        self._proxy.close()
        self._cutter.shutdown()
        self._shared.leave()

    def prepare(self, identity: Identity, settings: SwapSettings) -> None:
        """Computes the identity's tokens, so that its first frame is not late. From any thread."""
        self._tokens_of(identity, settings)

    def draw(
        self, state: EngineState, identity: Identity | None, inputs: Inputs, settings: SwapSettings, onto_HW3: Rgb
    ) -> None:
        """See engines.swappers.base.Engine."""
        if identity is None or not isinstance(state, LatentState):
            raise EngineFault(f"the engine {self.name} needs an identity and its own state")
        place = self._begin(state, identity, inputs, settings)
        there = crop_from_frame(inputs.face.points_px, self._config.size_px)
        cropping = self._cutter.submit(crop, inputs.rgb_HW3, there, self._config.size_px)  # while the proxy plans
        plan = self._proxy.plan(state.proxy, identity, inputs, settings)
        cropped = cropping.result()
        cutting = self._cutter.submit(self._own_crop, cropped, inputs, there)  # while it draws
        changes = self._config.draws == "change"
        if changes:
            skin = self._proxy.skin(state.proxy, plan, inputs, settings)
            self._proxy.lay(state.proxy, plan, inputs.rgb_HW3, onto_HW3, skin)
            rough = planes(crop(onto_HW3, there, self._config.size_px))
        else:
            rough = planes(rough_crop(self._proxy, state.proxy, plan, there, cropped))
        inputs.lap("proxy")
        own = cutting.result()
        arrays = self._arrays(state, identity, settings, own, rough)
        inputs.lap("crop")
        slots: dict[Clock, int] = {"window": self._window.slot_of(state.frame)}
        slots["recent"] = recent_slot(state.frame, RECENT)
        try:
            outputs = self._shared.run(place, arrays, slots)
        except EngineFault:
            state.frame = 0  # the row was cleared
            raise
        if not all(np.isfinite(array).all() for array in outputs.values()):
            self._shared.forget(place)
            state.frame = 0
            raise EngineFault(f"the engine {self.name} gave values that are no numbers; it begins anew")
        inputs.lap("graph")
        if changes:
            alpha_SS = self._changed(plan, inputs, there)
            paste_change(onto_HW3, outputs["face"][0], rough[0], alpha_SS, there, self._cutter)
        else:
            paste(onto_HW3, outputs["face"][0], own.region.alpha_SS, there, self._cutter)
        inputs.lap("paste")
        state.frame += 1
        state.drawn_s = inputs.captured_s

    def _begin(self, state: LatentState, identity: Identity, inputs: Inputs, settings: SwapSettings) -> Place:
        """The state's row, fresh where nothing before holds any more."""
        if state.place is None:
            state.place = self._shared.place()
            weakref.finalize(state, self._shared.give_up, state.place)
        elif state.frame and self._outdated(state, identity, inputs.captured_s, settings):
            self._shared.forget(state.place)
            state.frame, state.resets = 0, state.resets + 1
        state.worn, state.settings = identity, settings
        return state.place

    def _outdated(self, state: LatentState, identity: Identity, captured_s: float, settings: SwapSettings) -> bool:
        """Whether the past is another person's, was drawn with other settings, or too long ago (or in the future)."""
        away_s = captured_s - state.drawn_s
        return state.worn is not identity or state.settings != settings or not 0 <= away_s <= LOST_S

    def _own_crop(self, own_SS3: Rgb, inputs: Inputs, there: Floats) -> OwnCrop:
        size = self._config.size_px
        covered = covered_on_crop(inputs.occlusion, there, size)
        region = face_region(moved(inputs.face.points_px, there), size, covered)
        if self._config.denoiser.driver == "masked":
            driver = masked_planes(own_SS3, region.mask_SS, fill_colour(own_SS3, region.mask_SS, FILL))
        else:
            driver = planes(own_SS3)
        return OwnCrop(driver, planes(small_picture(own_SS3, self._config.face_encoder.picture_px)), region)

    def _changed(self, plan: Plan, inputs: Inputs, there: Floats) -> Floats:
        """How solid a change is added, on the crop: all over the drawn face, less what stands in front of it."""
        covered = covered_on_crop(inputs.occlusion, there, self._config.size_px)
        return face_region(moved(plan.moved_px, there), self._config.size_px, covered, OUTLINE).alpha_SS

    def _arrays(
        self, state: LatentState, identity: Identity, settings: SwapSettings, own: OwnCrop, rough: Floats
    ) -> dict[str, Array]:
        """What the graph takes, by name, each [1, ...] (engines.models.step)."""
        texture, attribute = self._weights(settings)
        arrays: dict[str, Array] = {
            "masked": own.masked,
            "proxy": rough,
            "mask": own.region.mask_SS[None, None],
            "attribute": own.attribute,
            "identity_tokens": self._tokens_of(identity, settings),
            "weights": np.array([[texture, attribute]], np.float32),
            "noise": self._noise_of(settings, state.frame),
            "positions": self._window.positions(state.frame)[None],
            "bias": self._window.bias(state.frame)[None],
            "recent_order": recent_order(state.frame, RECENT)[None],
        }
        return {name: arrays[name] for name in self._inputs}

    def _weights(self, settings: SwapSettings) -> tuple[float, float]:
        """Texture and attribute weight: those that were set, else the engine's own."""
        encoder, texture, attribute = self._config.face_encoder, settings.texture_weight, settings.attribute_weight
        return (
            encoder.texture_weight if texture is None else texture,
            encoder.attribute_weight if attribute is None else attribute,
        )

    def _noise_of(self, settings: SwapSettings, frame: int) -> Floats:
        """[1, n, C, h, w]; the same in every frame unless the settings say otherwise."""
        key = (settings.seed, frame if settings.noise == "per_frame" else 0)
        if self._noise is None or self._noise[0] != key:
            self._noise = (key, noise(*key, (1, *self._inputs["noise"][1:])))
        return self._noise[1]

    def _tokens_of(self, identity: Identity, settings: SwapSettings) -> Array:
        """The identity's tokens, [1, N, D]: computed once, then kept."""
        texture, _ = self._weights(settings)
        key = (id(identity), texture)
        found = self._tokens.get(key)
        if found is None or found[0] is not identity:
            found = identity, self._compute_tokens(identity, texture)
            self._tokens[key] = found
            while len(self._tokens) > MOST_TOKENS:
                self._tokens.popitem(last=False)
        return found[1]

    def _compute_tokens(self, identity: Identity, texture_weight: float) -> Array:
        side = self._config.face_encoder.picture_px
        arrays: dict[str, Array] = {
            "identity": identity_vector(identity)[None],
            "texture": planes(small_picture(identity.albedo_AA3, side)),
            "weights": np.array([[texture_weight, 0]], np.float32),
        }

        def compute(graphs: LatentGraphs) -> Array:
            return graphs.identity.run(graphs.identity.init(), arrays, {})["identity_tokens"]

        tokens = self._shared.call(compute)
        if not np.isfinite(tokens).all():
            raise EngineFault(f"the engine {self.name} gave values that are no numbers for this identity")
        return tokens
