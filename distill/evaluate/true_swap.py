"""The benchmark "true swap": an engine swaps rendered people, and the result is compared with the true picture.

D's clip is stepped through a session that wears S, enrolled from rendered photos. The truth is S's face doing what D
does, under D's light, hair and glasses (`Triplet.worn`); a second row compares with the whole of S (`Triplet.truth`).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from distill.evaluate import metrics
from distill.evaluate.held_out import SOURCES, digest, held_out, pose_of
from distill.evaluate.judge import Judge, distance, dlib_box, judge_is_available
from distill.evaluate.metrics import Mask, face_width_px
from distill.evaluate.true_swap_clip import (
    FRAME_PX,
    Clip,
    Rendered,
    in_front_of_face,
    inside_face,
    outlined,
    render_swap,
)
from distill.evaluate.true_swap_report import Figures, Measured, Report
from distill.people.assets import Part, load_assets
from engines import Identity, Session, Status, SwapSettings, UnsuitablePhoto, enroll, load
from engines.face.track import FaceTracker
from engines.types import Floats, Rgb

REGION_PARTS: dict[str, tuple[Part, ...]] = {
    "skin": (Part.SKIN,),
    "brows": (Part.BROW,),
    "eyes": (Part.EYE, Part.LASH),
    "lips": (Part.LIPS,),
    "mouth": (Part.MOUTH, Part.TEETH),
}
BAND_SHARE = 0.02  # of the face's width: half the band in which a seam is looked for
LEAST_HIDDEN = 0.02  # of the face's outline: from here on a frame counts as one with something in front
Say = Callable[[str], None]


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
        identity=math.nan,
        **by_region,
    )


def swapped(session: Session, identity: Identity, rendered: Rendered) -> list[tuple[Rgb, bool]]:
    """The engine's pictures of D's clip, and whether each was drawn."""
    session.set_identity(identity)
    state = session.init()
    steps = (session.step(state, rgb, i / rendered.swap.triplet.fps) for i, rgb in enumerate(rendered.driver.rgb))
    return [(step.rgb_HW3, step.status == Status.DRAWN) for step in steps]


def compare(rendered: Rendered, pictures: Sequence[tuple[Rgb, bool]], judge: Judge | None = None) -> list[Measured]:
    """Every frame of one swap against the truth. Without a judge nobody says who a face is."""
    swap, clip = rendered.swap, rendered.swap.triplet.target
    result = [rgb for rgb, _ in pictures]
    drawn = [was for _, was in pictures]
    fps = swap.triplet.fps
    found, floor, own = (track(frames, fps) for frames in (result, rendered.truth.rgb, rendered.driver.rgb))

    def against(truth: Clip, frame: int, shown: Sequence[Rgb], seen: Floats | None, steady: bool) -> Figures:
        before = inside_face(truth, frame - 1) if steady else None
        figures = measure(shown, truth, frame, seen, inside_face(truth, frame), before)
        if judge is None or pose_of(clip[frame].posture) == "45-75":  # beyond, dlib's landmarks are guesses
            return figures
        return replace(figures, identity=stranger(judge, shown[frame], truth, frame))

    measured = []
    for i in range(len(clip)):
        true, seen = rendered.truth.landmarks[i], floor[i]
        steady = i > 0 and drawn[i] and drawn[i - 1]
        measured.append(
            Measured(
                swap=swap.number,
                frame=i,
                pose=pose_of(clip[i].posture),
                light=swap.light,
                glasses=swap.glasses,
                front=front(rendered, i),
                drawn=drawn[i],
                figures=against(rendered.truth, i, result, found[i], steady) if drawn[i] else None,
                whole=against(rendered.whole, i, result, found[i], steady) if drawn[i] else None,
                unswapped=against(rendered.truth, i, rendered.driver.rgb, own[i], i > 0),
                tracker=math.nan if seen is None else metrics.landmark_error(seen, true, face_width_px(true)),
            )
        )
    return measured


def front(rendered: Rendered, frame: int) -> str:
    """The kind of what hides a part of the true face in this frame: hand, thing, texture, or none."""
    passing, truth = rendered.swap.passing, rendered.truth
    if passing is None or in_front_of_face(truth, frame).sum() < LEAST_HIDDEN * outlined(truth, frame).sum():
        return "none"
    return passing.kind


def stranger(judge: Judge, shown: Rgb, truth: Clip, frame: int) -> float:
    """How far the shown face is from the true one to the judge, who looks at the same place in both."""
    box = dlib_box(truth.landmarks[frame])
    return distance(judge.describe(shown, box), judge.describe(truth.rgb[frame], box))


def run(data: Path, settings: SwapSettings, quick: bool, say: Say, keep: Path | None = None) -> Report:
    """Renders, swaps and measures. keep: a folder for pictures of every swap's middle frame."""
    assets = load_assets(data)
    swaps = held_out(quick)
    judge = Judge() if judge_is_available() else None
    if judge is None:
        say("no judge of identity: pip install 'vividstream[eval]' brings one; its column stays empty")
    session = load(settings)
    session.marker = None  # what the engine draws is measured, not the mark
    measured: list[Measured] = []
    refused: list[int] = []
    start_s = time.monotonic()
    try:
        session.warm_up(FRAME_PX, FRAME_PX)
        for done, swap in enumerate(swaps, 1):
            rendered = render_swap(assets, swap)
            identity = enrol(rendered.photos, swap.number)
            if identity is None:
                refused.append(swap.number)
                say(progress(done, len(swaps), f"enrolment took none of {SOURCES} photos", time.monotonic() - start_s))
                continue
            pictures = swapped(session, identity, rendered)
            measured += compare(rendered, pictures, judge)
            drawn = f"{sum(was for _, was in pictures)} of {len(pictures)} frames drawn"
            say(progress(done, len(swaps), drawn, time.monotonic() - start_s))
            if keep is not None:
                keep_pictures(keep, rendered, pictures)
    finally:
        session.close()
    return Report(session.engine, settings.tone, FRAME_PX, quick, digest(swaps), tuple(measured), tuple(refused))


def progress(done: int, swaps: int, what: str, elapsed_s: float) -> str:
    """`swap 3 of 24: 16 of 16 frames drawn; about 4 min left`."""
    left_s = elapsed_s / done * (swaps - done)
    left = f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {left_s:.0f} s left"
    return f"swap {done} of {swaps}: {what}" + (f"; {left}" if done < swaps else "")


def keep_pictures(folder: Path, rendered: Rendered, pictures: Sequence[tuple[Rgb, bool]]) -> None:
    """Photo of S, D, result, both truths, side by side, from the middle of the clip."""
    folder.mkdir(parents=True, exist_ok=True)
    middle = len(pictures) // 2
    photo = np.array(Image.fromarray(rendered.photos[0]).resize((FRAME_PX, FRAME_PX), Image.Resampling.LANCZOS))
    clips = (rendered.truth, rendered.whole)
    row = [photo, rendered.driver.rgb[middle], pictures[middle][0], *(clip.rgb[middle] for clip in clips)]
    Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"swap-{rendered.swap.number:02}.png")
