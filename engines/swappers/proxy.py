"""The swap by geometry alone: the identity's texture and shape on the driver's pose, expression and light.

No learned weights beyond the landmark net. It is also what the learned engines are conditioned on: a rough swap that
leaves them to relight, repair and blend (VividFace, arXiv 2412.11279, section 3, with the identity's own texture).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from PIL import Image
from scipy import ndimage

from engines.errors import EngineFault
from engines.face.align import inverse, moved
from engines.face.cleaning import LUMINANCE, log_colour
from engines.face.compose import PlacedFace, detail_octaves, lay_face, patch_means, place_face, rasterised
from engines.face.mesh import FACE_OVAL, LEFT_IRIS, RIGHT_IRIS, Pose, face_model, vertex_normals
from engines.face.own_hair import OwnHair, own_hair
from engines.face.region import composed
from engines.face.relight import Light, fit_light, shading, smoothed
from engines.face.retarget import NeutralShape, canonical_face, observe, retarget
from engines.face.skin import SkinSample, SkinState, gain_above, tone_around, tone_beside
from engines.face.skin import observe as observe_skin
from engines.face.skin_tone import SkinTone, unknown
from engines.face.zones import zones
from engines.identity import ATLAS_PX, Identity
from engines.settings import SwapSettings
from engines.swappers.base import EngineState, Inputs
from engines.types import SKIN_LANDMARKS, Floats, Mask, Rgb

CAMERA_CM = 55.0  # assumed distance of eye and camera; perspective only decides how texture bends
FEATHER = 0.055  # of the atlas: how far the texture fades in from the outline
LIGHT_MEMORY_S = 0.25
STEPS, COARSEST_PX = 4, 32  # texture levels an octave, and the side of the last: small faces in soft pictures need it
SOFTEST, CRISPEST = 1.5, -0.5  # octaves
CRISPER = 0.25  # octaves of detail the result may have over the camera's picture: wrinkles are not noise
# tone = identity: how far brightness follows the driver's, whose skin tone is in it as well as the light. Less upwards,
# since a dark-skinned identity must not turn pale on a pale driver; more downwards, since dim light is common.
EXPOSURE_UP, EXPOSURE_DOWN = 0.2, 0.45
# tone = identity: tints of skin differ little from person to person (0.05 to 0.09 in log colour over the people the
# project was tuned on), so most of what sets two pictures of skin apart in tint is the light of the one or the other.
TINT_SHARE = 0.5
BLACK_SHARE = 0.8  # of the darkest level that is haze; the rest is that nothing in view is quite black
PAINTERS = 2  # threads, the caller's among them; kernels run without the interpreter's lock, other cores have codecs
LARGE_PX = 40_000  # from this area on, waking a second thread pays
IRIS_GAIN = 0.4, 1.3  # bounds: what is measured of the driver's irises has pupil, lids and reflections in it
LEAST_IRIS = 6.0  # of 255 above the haze
LEAST_SKIN = 8.0  # landmarks' worth of plain skin, below which a frame says nothing about light
GREY_UP_TO, COLOUR_FROM = 6, 14  # of 255 between a pixel's channels, in all but a hundredth of a picture
MOST_BLACK = 90.0  # 0..255: beyond it a picture is bright rather than hazy


@dataclass(frozen=True, slots=True)
class PreparedIdentity:
    """An identity made ready for drawing: texture pyramid with opacity, and the skin's mean log colour."""

    identity: Identity
    pyramid: tuple[Rgb, ...]
    mean_C: Floats


@dataclass(frozen=True, slots=True)
class Plan:
    """How an identity is to be drawn in one picture. Places and lengths are in that picture's pixels.

    points_px, moved_px  float32 [478, 3], landmarks of the driver and of the result
    normals_S3, gain_S3  float32 [468, 3], of the result; what the albedo is multiplied with
    sample               of the driver's skin in the frame
    The others are as `engines.face.compose.lay_face` takes them.
    """

    ready: PreparedIdentity
    points_px: Floats
    moved_px: Floats
    normals_S3: Floats
    gain_S3: Floats
    camera_px: float
    black: float
    grade_23: Floats
    hair_UU: Mask
    keep_MM: Mask
    keep_from_picture: Floats
    irises_23: Floats
    iris_rgb: Floats
    iris_level: float
    sample: SkinSample

    def on_crop(self, crop_from_frame: Floats) -> Plan:
        """The same drawing on a crop of the frame (engines.face.align), which may be turned, finer or coarser.

        A network that sees the crop gets what it would of a drawing on the frame, without pixels that no one sees.
        """
        scale = math.sqrt(abs(float(np.linalg.det(crop_from_frame[:, :2].astype(np.float64)))))
        irises = np.concatenate([moved(self.irises_23, crop_from_frame)[:, :2], self.irises_23[:, 2:] * scale], axis=1)
        return replace(
            self,
            points_px=moved(self.points_px, crop_from_frame),
            moved_px=moved(self.moved_px, crop_from_frame),
            camera_px=self.camera_px * scale,
            keep_from_picture=composed(self.keep_from_picture, inverse(crop_from_frame)),
            irises_23=irises.astype(np.float32),
        )


@dataclass(slots=True)
class ProxyState:
    """What is remembered of one driver: their neutral shape and the light on them."""

    neutral: NeutralShape = field(default_factory=NeutralShape)
    light: Light | None = None
    hair: OwnHair = field(default_factory=OwnHair)
    skin: SkinState = field(default_factory=SkinState)
    black: float = -1.0
    softness: float = 0.0  # octaves by which the texture is coarser than the picture could show
    iris_level: float = 0.0
    colourless: bool = False  # the camera's picture: an infrared one, or an old film
    captured_s: float = 0.0


def _opacity() -> Mask:
    """How opaque the texture lies, uint8 [A, A]: fades in from the outline."""
    inside = zones().oval
    distance = np.asarray(ndimage.distance_transform_edt(inside)) / (FEATHER * ATLAS_PX)
    ramp = np.clip(distance - 0.15, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp) * 255, np.uint8)


def _skin_weight() -> Floats:
    """1 for landmarks that lie on plain skin, 0 elsewhere. float32 [468]."""
    uv = np.round(face_model().uv_S2 * (ATLAS_PX - 1)).astype(int)
    return np.asarray(zones().plain[uv[:, 1], uv[:, 0]], np.float32)


class Proxy:
    """Draws with Numba kernels on the CPU. Stateless but for a cache of the last prepared identity."""

    name = "proxy"
    why = ""
    needs_face = True

    def __init__(self) -> None:
        self._prepared: PreparedIdentity | None = None
        self._grey: tuple[Identity, Identity] | None = None  # the latest one, and the same without colours
        self._opacity = _opacity()
        self._skin_S = _skin_weight()
        self._painters = ThreadPoolExecutor(PAINTERS - 1, thread_name_prefix="painter")

    def init(self) -> EngineState:
        return ProxyState()

    def warm_up(self) -> None:
        """Draws one made-up face onto a grey picture, which compiles every kernel."""
        from engines.swappers.warm_up import made_up_face, made_up_identity

        grey = np.full((96, 96, 3), 128, np.uint8)
        inputs = Inputs(grey, made_up_face(96), None, 0.0)
        self.draw(self.init(), made_up_identity(), inputs, SwapSettings(), grey.copy())
        self._prepared = None

    def close(self) -> None:
        """Ends the painters' thread."""
        self._painters.shutdown()

    def prepare(self, identity: Identity, settings: SwapSettings | None = None) -> PreparedIdentity:
        """The identity ready for drawing; kept until another one comes."""
        ready = self._prepared
        if ready is None or ready.identity is not identity:
            pyramid = texture_levels(np.concatenate([identity.albedo_AA3, self._opacity[..., None]], axis=2))
            uv = np.round(face_model().uv_S2 * (ATLAS_PX // 8 - 1)).astype(int)
            at_vertices = log_colour(pyramid[3 * STEPS][uv[:, 1], uv[:, 0], :3])
            mean = np.average(at_vertices, axis=0, weights=self._skin_S)
            ready = PreparedIdentity(identity, pyramid, mean.astype(np.float32))
            self._prepared = ready  # as a whole: another thread may prepare the next identity meanwhile
        return ready

    def _without_colour(self, identity: Identity) -> Identity:
        if self._grey is None or self._grey[0] is not identity:
            albedo = np.asarray(identity.albedo_AA3 @ LUMINANCE + 0.5, np.uint8)[..., None].repeat(3, axis=2)
            iris = np.full(3, identity.iris_rgb @ LUMINANCE, np.float32)
            self._grey = identity, replace(identity, albedo_AA3=albedo, iris_rgb=iris)
        return self._grey[1]

    def draw(
        self, state: EngineState, identity: Identity | None, inputs: Inputs, settings: SwapSettings, onto_HW3: Rgb
    ) -> None:
        """See engines.swappers.base.Engine."""
        if identity is None:
            raise EngineFault("the proxy engine needs an identity and its own state")
        plan = self.plan(state, identity, inputs, settings)
        self.lay(state, plan, inputs.rgb_HW3, onto_HW3, self.skin(state, plan, inputs, settings))

    def skin(self, state: EngineState, plan: Plan, inputs: Inputs, settings: SwapSettings) -> SkinTone | None:
        """What the driver's skin around the face is toned by in this frame; None where it keeps its tone.

        Learns from the frame, so it is to be called once for each.
        """
        assert isinstance(state, ProxyState)
        if settings.tone == "driver":
            return None
        return observe_skin(
            state.skin,
            inputs.rgb_HW3,
            plan.points_px,
            plan.sample,
            inputs.captured_s,
            gain_above(plan.black, *plan.grade_23),
            plan.keep_MM,
            plan.keep_from_picture,
            bool(plan.hair_UU.any()),
        )

    def plan(self, state: EngineState, identity: Identity, inputs: Inputs, settings: SwapSettings) -> Plan:
        """Everything about one frame that is not a pixel: shape, light and tone. `lay` draws it."""
        if not isinstance(state, ProxyState):
            raise EngineFault("the proxy engine needs an identity and its own state")
        state.colourless = is_colourless(inputs.rgb_HW3, state.colourless)
        identity = self._without_colour(identity) if state.colourless else identity
        ready = self.prepare(identity)
        points = inputs.face.points_px
        pose, canonical = canonical_face(points)
        driver_S3 = observe(state.neutral, pose, canonical)
        moved_px = retarget(points, pose, identity.shape_S3, driver_S3)
        normals = vertex_normals(moved_px[:SKIN_LANDMARKS], face_model().triangles_T3)
        sample = self._sample(inputs, pose, normals)
        light = self._light(state, sample, inputs.captured_s, normals)
        hair = own_hair(state.hair, inputs.rgb_HW3, points, normals, light, inputs.captured_s)
        shift = tone_shift(light.mean_C, ready.mean_C, settings.tone)
        black = self._black(state, inputs.rgb_HW3)
        gain = lifted(np.exp(shading(light, normals) + shift), ready.mean_C, black)
        irises, iris_rgb = self._irises(state, identity, inputs, float(np.exp(shift @ LUMINANCE)), black)
        occlusion = inputs.occlusion
        return Plan(
            ready=ready,
            points_px=points,
            moved_px=moved_px,
            normals_S3=normals,
            gain_S3=gain,
            camera_px=CAMERA_CM * pose.px_per_cm,
            black=black,
            grade_23=np.stack([np.exp(light.mean_C), np.exp(ready.mean_C + shift - light.mean_C)]).astype(np.float32),
            hair_UU=hair,
            keep_MM=occlusion.covered_HW if occlusion is not None else np.zeros((2, 2), np.uint8),
            keep_from_picture=occlusion.mask_from_frame if occlusion is not None else np.zeros((2, 3), np.float32),
            irises_23=irises,
            iris_rgb=iris_rgb,
            iris_level=max(state.iris_level, 8.0),
            sample=sample,
        )

    def tone_around(
        self,
        state: EngineState,
        plan: Plan,
        inputs: Inputs,
        settings: SwapSettings,
        onto_HW3: Rgb,
        alpha_SS: Floats,
        crop_from_frame: Floats,
    ) -> None:
        """For an engine that pasted a crop of its own: ears and neck around it in the face's tone, in place.

        plan: of the frame. alpha_SS: how solid the crop lies, float32 0..1 (engines.face.region.Region).
        """
        skin = self.skin(state, plan, inputs, settings)
        if skin is not None:
            keep, there = plan.keep_MM, plan.keep_from_picture
            tone_around(onto_HW3, inputs.rgb_HW3, skin, alpha_SS, crop_from_frame, keep, there)

    def lay(
        self, state: EngineState, plan: Plan, picture_HW3: Rgb, onto_HW3: Rgb, skin: SkinTone | None = None
    ) -> None:
        """Draws a plan onto a picture of the driver: the frame, or with `Plan.on_crop` a crop of it.

        picture_HW3  uint8 [H, W, 3], what the camera saw
        onto_HW3     a copy of it, drawn on in place
        skin         of `skin`, for the frame only: ears and neck take the face's tone as well. Without it the face's
                     surroundings are graded by a rule of thumb, as the learned engines' networks know it

        Raises EngineFault where the face is outside of the picture.
        """
        assert isinstance(state, ProxyState)
        height, width = picture_HW3.shape[:2]
        placed = place_face(plan.points_px, plan.moved_px, plan.normals_S3, plan.gain_S3, height, width)
        if placed is None:
            raise EngineFault("the face is outside of the picture")
        texture = _level(plan.ready.pyramid, plan.points_px, state.softness)

        tone = unknown() if skin is None else skin

        def paint(rows: tuple[int, int]) -> float:
            patch = rasterised(placed, plan.camera_px, *rows)
            lay_face(
                onto_HW3,
                picture_HW3,
                patch.values,
                patch.part,
                patch.left_px,
                patch.top_px,
                texture,
                np.float32(plan.black),
                plan.grade_23,
                plan.hair_UU,
                plan.keep_MM,
                plan.keep_from_picture,
                plan.irises_23,
                plan.iris_rgb,
                plan.iris_level,
                tone,
            )
            if skin is not None:
                first = 0 if rows[0] == placed.top_px else rows[0]
                beyond = height if rows[1] == placed.bottom_px else rows[1]
                at = np.array([patch.left_px, patch.top_px, first, beyond])
                tone_beside(onto_HW3, picture_HW3, tone, patch.part, at, plan.keep_MM, plan.keep_from_picture)
            return detail_octaves(picture_HW3, onto_HW3, patch)

        mine, *others = bands(placed) if _large(placed) else [rows_of(placed)]
        painting = [self._painters.submit(paint, rows) for rows in others]
        excess = [paint(mine), *(band.result() for band in painting)]
        state.softness = next_softness(state.softness, float(np.mean(excess)))

    def _black(self, state: ProxyState, rgb_HW3: Rgb) -> float:
        """The camera's darkest level: what the darkest hundredth of the picture does not fall below, smoothed."""
        red, green, blue = (rgb_HW3[::8, ::8, c].astype(np.uint16) for c in range(3))
        level = float(np.percentile(red + green + blue, 1)) / 3
        state.black = level if state.black < 0 else state.black + 0.05 * (level - state.black)
        return min(BLACK_SHARE * state.black, MOST_BLACK)

    def _irises(
        self, state: ProxyState, identity: Identity, inputs: Inputs, gain: float, black: float
    ) -> tuple[Floats, Floats]:
        """Both irises in the picture (x, y, radius), and what the driver's brightness is multiplied with in them.

        gain, black: what the identity's skin is multiplied with and the haze over it: the irises lie in the same light.
        """
        points = inputs.face.points_px
        irises = np.array([_circle(points[RIGHT_IRIS]), _circle(points[LEFT_IRIS])], np.float32)
        level = float(patch_means(inputs.rgb_HW3, irises[:, :2].copy(), max(int(irises[0, 2] * 0.6), 1)).mean())
        state.iris_level = level if state.iris_level == 0 else state.iris_level + 0.1 * (level - state.iris_level)
        own = max(float(identity.iris_rgb @ LUMINANCE), 1.0)
        tint = np.clip(identity.iris_rgb / own, 0.5, 1.6)
        brighter = float(np.clip(own * gain / max(state.iris_level - black, LEAST_IRIS), *IRIS_GAIN))
        return irises, (tint * brighter).astype(np.float32)

    def _sample(self, inputs: Inputs, pose: Pose, normals: Floats) -> SkinSample:
        """The colours of the driver's plain skin, as far as it faces the camera and nothing covers it."""
        points = inputs.face.points_px[:SKIN_LANDMARKS]
        reach = max(int(np.ptp(points[:, 0]) / 60), 1)
        facing = np.clip((-normals[:, 2] - 0.2) / 0.3, 0, 1)
        weight = self._skin_S * facing
        if inputs.occlusion is not None:
            weight = weight * _uncovered(inputs.occlusion.covered_HW, inputs.occlusion.mask_from_frame, points)
        return SkinSample(pose, patch_means(inputs.rgb_HW3, points, reach), weight)

    def _light(self, state: ProxyState, sample: SkinSample, captured_s: float, normals: Floats) -> Light:
        if sample.weight_V.sum() > LEAST_SKIN:
            now = fit_light(normals, log_colour(sample.rgb_V3), sample.weight_V)
            elapsed_s = max(captured_s - state.captured_s, 0.0)
            state.light = smoothed(state.light, now, 1 - float(np.exp(-elapsed_s / LIGHT_MEMORY_S)))
            state.captured_s = captured_s
        if state.light is None:
            raise EngineFault("no skin of the face can be seen")
        return state.light


def is_colourless(rgb_HW3: Rgb, before: bool) -> bool:
    """Whether a picture is grey throughout. `before`: what the one before was, which a doubtful one keeps being."""
    some = rgb_HW3[::16, ::16]
    spread = float(np.percentile(np.ptp(some, axis=2), 99))
    return spread <= (COLOUR_FROM if before else GREY_UP_TO)


def rows_of(placed: PlacedFace) -> tuple[int, int]:
    """The rows of the frame that a face may touch."""
    return placed.top_px, placed.bottom_px


def _large(placed: PlacedFace) -> bool:
    return (placed.bottom_px - placed.top_px) * (placed.right_px - placed.left_px) > LARGE_PX


def bands(placed: PlacedFace) -> list[tuple[int, int]]:
    """Those rows in `PAINTERS` parts of equal height."""
    edges = np.linspace(placed.top_px, placed.bottom_px, PAINTERS + 1).round().astype(int).tolist()
    return [(top, bottom) for top, bottom in pairwise(edges) if bottom > top]


def lifted(gain_S3: Floats, mean_C: Floats, black: float) -> Floats:
    """Corrects gains for the haze that is added later, so that mean skin keeps the colour the gains were meant for."""
    skin = np.exp(mean_C)
    return np.asarray(np.maximum(gain_S3 * skin - black, 1.0) / (skin * (1 - black / 255)), np.float32)


def tone_shift(driver_C: Floats, identity_C: Floats, tone: str) -> Floats:
    """Log gain per channel that takes the identity's albedo to the picture. float32 [3].

    `driver` matches the driver's mean skin colour; `identity` keeps the identity's and follows the scene's light only
    as far as a face alone can tell light from skin; `mix` is half way.
    """
    difference = driver_C - identity_C
    brightness = float(difference @ LUMINANCE)
    kept = (EXPOSURE_UP if brightness > 0 else EXPOSURE_DOWN) * brightness + TINT_SHARE * (difference - brightness)
    share = {"identity": 0.0, "mix": 0.5, "driver": 1.0}[tone]
    return np.asarray(kept + share * (difference - kept), np.float32)


def next_softness(softness: float, excess_octaves: float) -> float:
    """Moves the texture's softness against the excess of detail in the result: a slow controller, free of hunting."""
    step = float(np.clip(excess_octaves - CRISPER, -1, 1)) * 0.08
    return min(max(softness + step, CRISPEST), SOFTEST)


def _circle(iris_53: Floats) -> tuple[float, float, float]:
    centre = iris_53[0, :2]
    radius = float(np.linalg.norm(iris_53[1:, :2] - centre, axis=1).mean())
    return float(centre[0]), float(centre[1]), max(radius, 0.5)


def texture_levels(full_AA4: Rgb) -> tuple[Rgb, ...]:
    """The texture ever coarser, `STEPS` steps an octave: step i has lost the detail below 2 ** (i / STEPS) texels."""
    octaves = [Image.fromarray(np.ascontiguousarray(full_AA4), "RGBA")]
    while octaves[-1].width > COARSEST_PX:
        side = octaves[-1].width // 2
        octaves.append(octaves[-1].resize((side, side), Image.Resampling.BOX))
    levels = []
    for fine, coarse in pairwise(octaves):
        soft = coarse.resize(fine.size, Image.Resampling.BILINEAR)
        levels += [_pixels(Image.blend(fine, soft, step / STEPS)) for step in range(STEPS)]
    return (*levels, _pixels(octaves[-1]))


def _pixels(image: Image.Image) -> Rgb:
    return np.array(image, np.uint8)


def _level(pyramid: tuple[Rgb, ...], points_px: Floats, softness: float) -> Rgb:
    """The level with about one texel per pixel, coarser by `softness` octaves."""
    width_px = float(max(np.ptp(points_px[FACE_OVAL, 0]), np.ptp(points_px[FACE_OVAL, 1]) * 0.8))
    octave = float(np.log2(ATLAS_PX * 0.95 / max(width_px, 1.0))) + softness
    return pyramid[min(max(round(STEPS * octave), 0), len(pyramid) - 1)]


def _uncovered(covered_HW: Mask, mask_from_frame: Floats, points: Floats) -> Floats:
    at = np.round(points[:, :2] @ mask_from_frame[:, :2].T + mask_from_frame[:, 2]).astype(int)
    rows, columns = covered_HW.shape
    inside = (at[:, 0] >= 0) & (at[:, 0] < columns) & (at[:, 1] >= 0) & (at[:, 1] < rows)
    at = np.where(inside[:, None], at, 0)
    return np.where(inside, 1 - covered_HW[at[:, 1], at[:, 0]] / np.float32(255), 1).astype(np.float32)
