"""The benchmark "true swap": an engine swaps rendered people, and the result is compared with the true picture.

D's clip is stepped through a session that wears S, enrolled from rendered photos. The truth is S's face doing what D
does, under D's light, hair and glasses (`Triplet.worn`); a second row compares with the whole of S (`Triplet.truth`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from distill import metrics
from distill.held_out import SOURCES, VERSION, HeldOut, digest, held_out, pose_of
from distill.metrics import Mask
from distill.people.assets import Assets, Part, load_assets
from distill.people.render import Render, render
from distill.people.types import Shot
from distill.true_swap_report import Figures, Measured, Report
from engines import Identity, Session, Status, SwapSettings, UnsuitablePhoto, enroll, load
from engines.face.mesh import FACE_OVAL
from engines.face.track import FaceTracker
from engines.types import Floats, Rgb

FRAME_PX, SOURCE_PX = 256, 384
BATCH = 4
FACE_PARTS = (Part.SKIN, Part.LIPS, Part.MOUTH, Part.TEETH, Part.EYE, Part.BROW, Part.LASH)
REGION_PARTS: dict[str, tuple[Part, ...]] = {
    "skin": (Part.SKIN,),
    "brows": (Part.BROW,),
    "eyes": (Part.EYE, Part.LASH),
    "lips": (Part.LIPS,),
    "mouth": (Part.MOUTH, Part.TEETH),
}
LEFT_CHEEK, RIGHT_CHEEK = 454, 234  # between them lies the face's width
BAND_SHARE = 0.02  # of the face's width: half the band in which a seam is looked for
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Clip:
    """A rendered clip: rgb [T, H, W, 3], parts [T, H, W], landmarks [T, 468, 3] in pixels.

    in_front: bool [T, H, W], where a thing stands in front of everything; None if there is none.
    """

    rgb: tuple[Rgb, ...]
    parts: NDArray[np.uint8]
    landmarks: Floats
    in_front: NDArray[np.bool_] | None = None


def render_clip(assets: Assets, shots: Sequence[Shot], size_px: int) -> Clip:
    """Renders a few frames at a time, so that memory does not grow with the clip."""
    pieces: list[Render] = [render(assets, shots[i : i + BATCH], size_px) for i in range(0, len(shots), BATCH)]
    rgb = np.concatenate([piece.rgb_BHW3.cpu().numpy() for piece in pieces])
    parts = np.concatenate([piece.parts_BHW.cpu().numpy() for piece in pieces]).astype(np.uint8)
    landmarks = np.concatenate([piece.landmarks_BN3.cpu().numpy() for piece in pieces]).astype(np.float32)
    return Clip(tuple(np.ascontiguousarray(frame) for frame in rgb), parts, landmarks)


def enrol(photos: Sequence[Rgb], number: int) -> Identity | None:
    """S from those photos that enrolment takes; None if it takes none."""
    everything = _enrolled(photos, number)
    if everything is not None:
        return everything
    usable = [photo for photo in photos if _enrolled([photo], number) is not None]
    return _enrolled(usable, number) if usable else None


def _enrolled(photos: Sequence[Rgb], number: int) -> Identity | None:
    hashes = [hashlib.sha256(photo.tobytes()).hexdigest() for photo in photos]
    try:
        return enroll(photos, f"held-out {number}", "nobody: this person is rendered", hashes, synthetic=True)
    except UnsuitablePhoto:
        return None


def thing_in_front(number: int, frames: int, size_px: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A patterned board that drifts across the lower face. Colour uint8 [T, H, W, 3], opacity float64 [T, H, W]."""
    rng = np.random.default_rng((VERSION, number))
    noise = ndimage.gaussian_filter(rng.standard_normal((size_px, size_px, 3)), (4, 4, 0))
    pattern = np.clip(rng.uniform(40, 215, 3) + noise / noise.std() * 18, 0, 255).astype(np.uint8)
    start, speed = rng.uniform(0.05, 0.35), rng.choice((-1, 1)) * rng.uniform(0.005, 0.012)
    lean, top = rng.uniform(-0.15, 0.15), rng.uniform(0.55, 0.68)
    opacity = []
    for frame in range(frames):
        left = (start if speed > 0 else 1 - start - 0.3) + speed * frame
        canvas = Image.new("L", (4 * size_px, 4 * size_px))
        corners = [(left, top), (left + 0.3, top + lean), (left + 0.3 - lean, 1.3), (left - lean, 1.3)]
        ImageDraw.Draw(canvas).polygon([(4 * size_px * x, 4 * size_px * y) for x, y in corners], fill=255)
        opacity.append(np.asarray(canvas.resize((size_px, size_px), Image.Resampling.BOX), np.float64) / 255)
    return np.broadcast_to(pattern, (frames, *pattern.shape)).copy(), np.stack(opacity)


def put_in_front(clip: Clip, colour: NDArray[np.uint8], opacity: NDArray[np.float64]) -> Clip:
    """The clip behind a thing; what the thing covers counts as background."""
    rgb = [
        np.round(frame * (1 - a[..., None]) + c * a[..., None]).astype(np.uint8)
        for frame, c, a in zip(clip.rgb, colour, opacity)
    ]
    parts = np.where(opacity > 0, int(Part.BACKGROUND), clip.parts).astype(np.uint8)
    return Clip(tuple(rgb), parts, clip.landmarks, opacity == 1)


def inside_face(clip: Clip, frame: int) -> Mask:
    """Where the truth shows the face itself, not hair, glasses or a thing, within the face's outline. bool [H, W]."""
    return outlined(clip, frame) & np.isin(clip.parts[frame], [int(part) for part in FACE_PARTS])


def in_front_of_face(clip: Clip, frame: int) -> Mask:
    """Where a thing covers the face's outline. bool [H, W]."""
    return (
        np.zeros(clip.parts.shape[1:], bool) if clip.in_front is None else outlined(clip, frame) & clip.in_front[frame]
    )


def outlined(clip: Clip, frame: int) -> Mask:
    """Within the outline of the true face. bool [H, W]."""
    corners = [(float(x), float(y)) for x, y in clip.landmarks[frame][FACE_OVAL, :2]]
    _, height_px, width_px = clip.parts.shape
    canvas = Image.new("L", (width_px, height_px))
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    return np.asarray(canvas, bool)


def face_width_px(landmarks_N3: Floats) -> float:
    """Distance of both cheeks in space, so that a turned face is as wide as a frontal one."""
    return float(np.linalg.norm(landmarks_N3[LEFT_CHEEK] - landmarks_N3[RIGHT_CHEEK]))


def track(frames: Sequence[Rgb], fps: float) -> list[Floats | None]:
    """Landmarks [468, 3] of the face in every frame, unfiltered, as the engines see it; None where there is none."""
    tracker = FaceTracker(max_faces=1, follow="one")
    try:
        state = tracker.init()
        found = [tracker.step(state, rgb, i / fps).faces for i, rgb in enumerate(frames)]
    finally:
        tracker.close()
    return [faces[0].raw_px[:468] if faces else None for faces in found]


def measure(
    result: Sequence[Rgb], truth: Clip, frame: int, found: Floats | None, mask: Mask, before: Mask | None
) -> Figures:
    """One frame against the truth. `before`: the mask of the previous frame, if both were drawn."""
    now, true = result[frame], truth.rgb[frame]
    clothed = truth.parts[frame] == int(Part.CLOTH)  # S's clothes; the driver's are in the result
    everything = ~ndimage.binary_dilation(clothed, iterations=round(0.1 * mask.shape[0])) if clothed.any() else ~clothed
    width = face_width_px(truth.landmarks[frame])
    shift = metrics.tone_shift(now, true, mask & (truth.parts[frame] == int(Part.SKIN)))
    both = mask & before if before is not None else np.zeros_like(mask)
    by_region = {
        name: metrics.colour_error(now, true, mask & np.isin(truth.parts[frame], [int(part) for part in parts]))
        for name, parts in REGION_PARTS.items()
    }
    return Figures(
        face_psnr=metrics.psnr(now, true, mask),
        face_ssim=metrics.ssim(now, true, mask),
        frame_psnr=metrics.psnr(now, true, everything),
        frame_ssim=metrics.ssim(now, true, everything),
        landmarks=math.nan if found is None else metrics.landmark_error(found, truth.landmarks[frame], width),
        colour=metrics.colour_error(now, true, mask),
        tone_L=float(shift[0]),
        tone_ab=float(np.hypot(shift[1], shift[2])),
        temporal=metrics.temporal_error(now, result[frame - 1], true, truth.rgb[frame - 1], both),
        seam=metrics.seam(now, true, mask, round(BAND_SHARE * width)),
        thing=metrics.colour_error(now, true, in_front_of_face(truth, frame)),
        **by_region,
    )


@dataclass(frozen=True, slots=True)
class Rendered:
    """A swap's pictures."""

    swap: HeldOut
    photos: tuple[Rgb, ...]
    driver: Clip
    truth: Clip
    whole: Clip


def render_swap(assets: Assets, swap: HeldOut, frame_px: int = FRAME_PX, source_px: int = SOURCE_PX) -> Rendered:
    """Photos of S, D's clip, and both truths; with a thing in front of all clips where the swap has one."""
    drawn = swap.triplet
    photos = render_clip(assets, drawn.sources, source_px).rgb
    clips = [render_clip(assets, shots, frame_px) for shots in (drawn.target, drawn.worn, drawn.truth)]
    if swap.occluded:
        thing = thing_in_front(swap.number, len(drawn.target), frame_px)
        clips = [put_in_front(clip, *thing) for clip in clips]
    return Rendered(swap, photos, *clips)


def swapped(session: Session, identity: Identity, rendered: Rendered) -> list[tuple[Rgb, bool]]:
    """The engine's pictures of D's clip, and whether each was drawn."""
    session.set_identity(identity)
    state = session.init()
    steps = (session.step(state, rgb, i / rendered.swap.triplet.fps) for i, rgb in enumerate(rendered.driver.rgb))
    return [(step.rgb_HW3, step.status == Status.DRAWN) for step in steps]


def compare(rendered: Rendered, pictures: Sequence[tuple[Rgb, bool]]) -> list[Measured]:
    """Every frame of one swap against the truth."""
    swap, clip = rendered.swap, rendered.swap.triplet.target
    result = [rgb for rgb, _ in pictures]
    drawn = [was for _, was in pictures]
    fps = swap.triplet.fps
    found, floor, own = (track(frames, fps) for frames in (result, rendered.truth.rgb, rendered.driver.rgb))
    masks = [inside_face(rendered.truth, i) for i in range(len(clip))]
    whole = [inside_face(rendered.whole, i) for i in range(len(clip))]
    measured = []
    for i in range(len(clip)):
        true = rendered.truth.landmarks[i]
        seen = floor[i]
        steady = i > 0 and drawn[i] and drawn[i - 1]
        measured.append(
            Measured(
                swap.number,
                i,
                pose_of(clip[i].posture),
                swap.light,
                swap.glasses,
                swap.occluded,
                drawn[i],
                measure(result, rendered.truth, i, found[i], masks[i], masks[i - 1] if steady else None)
                if drawn[i]
                else None,
                measure(result, rendered.whole, i, found[i], whole[i], whole[i - 1] if steady else None)
                if drawn[i]
                else None,
                measure(rendered.driver.rgb, rendered.truth, i, own[i], masks[i], masks[i - 1] if i else None),
                math.nan if seen is None else metrics.landmark_error(seen, true, face_width_px(true)),
            )
        )
    return measured


def run(data: Path, settings: SwapSettings, quick: bool, say: Say, keep: Path | None = None) -> Report:
    """Renders, swaps and measures. keep: a folder for pictures of every swap's middle frame."""
    assets = load_assets(data)
    swaps = held_out(quick)
    session = load(settings)
    measured: list[Measured] = []
    refused: list[int] = []
    try:
        session.warm_up(FRAME_PX, FRAME_PX)
        for swap in swaps:
            rendered = render_swap(assets, swap)
            identity = enrol(rendered.photos, swap.number)
            if identity is None:
                refused.append(swap.number)
                say(f"swap {swap.number}: enrolment took none of {SOURCES} photos")
                continue
            pictures = swapped(session, identity, rendered)
            measured += compare(rendered, pictures)
            say(f"swap {swap.number + 1} of {len(swaps)}: {sum(was for _, was in pictures)} of {len(pictures)} drawn")
            if keep is not None:
                keep_pictures(keep, rendered, pictures)
    finally:
        session.close()
    return Report(session.engine, settings.tone, FRAME_PX, quick, digest(swaps), tuple(measured), tuple(refused))


def keep_pictures(folder: Path, rendered: Rendered, pictures: Sequence[tuple[Rgb, bool]]) -> None:
    """Photo of S, D, result, both truths, side by side, from the middle of the clip."""
    folder.mkdir(parents=True, exist_ok=True)
    middle = len(pictures) // 2
    photo = np.array(Image.fromarray(rendered.photos[0]).resize((FRAME_PX, FRAME_PX), Image.Resampling.LANCZOS))
    clips = (rendered.truth, rendered.whole)
    row = [photo, rendered.driver.rgb[middle], pictures[middle][0], *(clip.rgb[middle] for clip in clips)]
    Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"swap-{rendered.swap.number:02}.png")
