"""The pictures of a swap with a known truth: rendered, with things passing before the face, and where the face is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from distill.evaluate.held_out import VERSION, HeldOut, Passing
from distill.evaluate.metrics import Mask
from distill.occluders import OccluderClip, face_of, light_on, occluded, occluder_clip, shadow_on
from distill.people.assets import Assets, Part
from distill.people.render import Render, render
from distill.people.types import Shot
from engines.face.mesh import FACE_OVAL
from engines.types import Floats, Rgb

FRAME_PX, SOURCE_PX = 256, 384
BATCH = 4
HALF = 128  # of 255: what covers a pixel more than this is what the pixel shows
FACE_PARTS = (Part.SKIN, Part.LIPS, Part.MOUTH, Part.TEETH, Part.EYE, Part.BROW, Part.LASH)


@dataclass(frozen=True, slots=True)
class Clip:
    """A rendered clip: rgb [T, H, W, 3], parts [T, H, W], landmarks [T, 468, 3] in pixels.

    person: float32 [T, H, W], share of the person in each pixel. covered: uint8 [T, H, W], how much of each pixel
    something that passes before the face covers, 255 wholly; None where nothing passes.
    """

    rgb: tuple[Rgb, ...]
    parts: NDArray[np.uint8]
    landmarks: Floats
    person: Floats
    covered: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A swap's pictures."""

    swap: HeldOut
    photos: tuple[Rgb, ...]
    driver: Clip
    truth: Clip
    whole: Clip


def render_clip(assets: Assets, shots: Sequence[Shot], size_px: int) -> Clip:
    """Renders a few frames at a time, so that memory does not grow with the clip."""
    pieces: list[Render] = [render(assets, shots[i : i + BATCH], size_px) for i in range(0, len(shots), BATCH)]
    rgb = np.concatenate([piece.rgb_BHW3.cpu().numpy() for piece in pieces])
    parts = np.concatenate([piece.parts_BHW.cpu().numpy() for piece in pieces]).astype(np.uint8)
    landmarks = np.concatenate([piece.landmarks_BN3.cpu().numpy() for piece in pieces]).astype(np.float32)
    person = np.concatenate([piece.alpha_BHW.cpu().numpy() for piece in pieces]).astype(np.float32)
    return Clip(tuple(np.ascontiguousarray(frame) for frame in rgb), parts, landmarks, person)


def render_swap(assets: Assets, swap: HeldOut, frame_px: int = FRAME_PX, source_px: int = SOURCE_PX) -> Rendered:
    """Photos of S, D's clip, and both truths; with the same thing passing before all clips where the swap has one."""
    drawn = swap.triplet
    photos = render_clip(assets, drawn.sources, source_px).rgb
    driver, truth, whole = (render_clip(assets, shots, frame_px) for shots in (drawn.target, drawn.worn, drawn.truth))
    if swap.passing is not None:
        before = passing(swap.number, swap.passing, driver)
        driver, truth, whole = (behind(clip, before) for clip in (driver, truth, whole))
    return Rendered(swap, photos, driver, truth, whole)


def passing(number: int, wanted: Passing, driver: Clip) -> OccluderClip:
    """What passes before the face of swap `number`, lit as D's face is in the first frame."""
    face = face_of(driver.landmarks, light_on(driver.rgb[0], driver.landmarks[0]))
    rng = np.random.default_rng((VERSION, number, wanted.seed))
    return occluder_clip(rng, face, driver.parts.shape[1], wanted.kind, wanted.name)


def behind(clip: Clip, before: OccluderClip) -> Clip:
    """The clip with something before it, whose shadow falls on the person alone."""
    rgb = occluded(np.stack(clip.rgb), shadow_on(before, clip.person))
    return replace(clip, rgb=tuple(np.ascontiguousarray(frame) for frame in rgb), covered=before.mask_THW)


def inside_face(clip: Clip, frame: int) -> Mask:
    """Where the truth shows the face itself, not hair, glasses or a thing, within the face's outline. bool [H, W]."""
    return outlined(clip, frame) & np.isin(clip.parts[frame], [int(part) for part in FACE_PARTS]) & ~hidden(clip, frame)


def in_front_of_face(clip: Clip, frame: int) -> Mask:
    """Where something that passes hides the face's outline. bool [H, W]."""
    return outlined(clip, frame) & hidden(clip, frame)


def hidden(clip: Clip, frame: int) -> Mask:
    """Where something that passes is most of the pixel. bool [H, W]."""
    return np.zeros(clip.parts.shape[1:], bool) if clip.covered is None else clip.covered[frame] >= HALF


def outlined(clip: Clip, frame: int) -> Mask:
    """Within the outline of the true face. bool [H, W]."""
    corners = [(float(x), float(y)) for x, y in clip.landmarks[frame][FACE_OVAL, :2]]
    _, height_px, width_px = clip.parts.shape
    canvas = Image.new("L", (width_px, height_px))
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    return np.asarray(canvas, bool)
