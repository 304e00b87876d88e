"""Cutting a video into clips: T frames in a row of one person, aligned, sharp, large and not too far turned."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from distill.prepare.settings import PrepareSettings
from distill.prepare.video import Picture
from engines import Rgb, TrackedFace
from engines.face.align import crop, crop_of_pose, face_pose, inside_share, moved
from engines.face.appearance import OTHER_PERSON, Appearance, appearance, difference
from engines.face.cut import Thumbnail, is_cut, thumbnail
from engines.face.mesh import Pose
from engines.face.track import FaceTracker
from engines.types import Floats

MOST_FACES = 4
FACE_CM = 14.6  # width of the canonical face
LONG_STEP = 2.5  # times of two frames further apart than this many usual steps: frames are missing between them
SMOOTH, SHARP = 0.25, 0.36  # fine over coarse differences: of a slope, and of a face as sharp as a crop can show


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame of one person, aligned."""

    number: int
    at_s: float
    rgb_HW3: Rgb
    points_px: Floats  # [478, 3] on the crop
    crop_from_frame: Floats
    face_px: float
    yaw_deg: float
    pitch_deg: float
    sharpness: float
    looks: Appearance


@dataclass(frozen=True, slots=True)
class Clip:
    """T frames in a row of one person."""

    person: int
    frames: tuple[ClipFrame, ...]


@dataclass(slots=True)
class Tally:
    """What became of the faces of a video. `left_out` counts faces in frames, by reason."""

    frames: int = 0
    faces: int = 0
    cuts: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def clips_of(
    pictures: Iterable[Picture], tracker: FaceTracker, settings: PrepareSettings, tally: Tally
) -> Iterator[Clip]:
    """Follows everybody in a video and gives their clips as they become complete. `tally` is counted up in place."""
    state, runs = tracker.init(), dict[int, list[ClipFrame]]()
    scene: Thumbnail | None = None
    last_s, step_s, expected = 0.0, math.inf, 0
    for picture in pictures:
        tally.frames += 1
        before, scene = scene, thumbnail(picture.rgb_HW3)
        if before is not None:
            cut = is_cut(before, scene)
            tally.cuts += cut
            if cut or picture.number != expected or picture.at_s - last_s > LONG_STEP * step_s:
                _end_all(runs, tally)
            step_s = min(step_s, picture.at_s - last_s)
        last_s, expected = picture.at_s, picture.number + 1
        faces = tracker.step(state, picture.rgb_HW3, picture.at_s).faces
        tally.faces += len(faces)
        _end_all(runs, tally, keep={face.person for face in faces})
        for face in faces:
            run = runs.setdefault(face.person, [])
            frame = _frame(picture, face, settings)
            if isinstance(frame, str):
                tally.left_out[frame] += 1
                _end(run, tally)
                continue
            if run and not _same_person(run[0].looks, frame.looks):
                tally.left_out["another person"] += 1
                _end(run, tally)
            run.append(frame)
            if len(run) == settings.frames:
                yield Clip(face.person, tuple(run))
                run.clear()
    _end_all(runs, tally)


def _end(run: list[ClipFrame], tally: Tally) -> None:
    tally.left_out["run too short"] += len(run)
    run.clear()


def _end_all(runs: dict[int, list[ClipFrame]], tally: Tally, keep: set[int] | None = None) -> None:
    for person in [person for person in runs if person not in (keep or set())]:
        _end(runs.pop(person), tally)


def _same_person(before: Appearance, after: Appearance) -> bool:
    apart = difference(before, after)
    return apart is None or apart < OTHER_PERSON


def _frame(picture: Picture, face: TrackedFace, settings: PrepareSettings) -> ClipFrame | str:
    """The aligned face, or why it is left out: filters by size, pose, place and blur, in that order."""
    pose = face_pose(face.points_px)
    face_px = FACE_CM * pose.px_per_cm
    yaw_deg, pitch_deg = pose.yaw_deg, pitch_of(pose)
    if face_px < settings.least_face_px:
        return "too small"
    if abs(yaw_deg) > settings.most_yaw_deg or abs(pitch_deg) > settings.most_pitch_deg:
        return "turned too far"
    crop_from_frame = crop_of_pose(pose, settings.size_px)
    height_px, width_px = picture.rgb_HW3.shape[:2]
    if inside_share(crop_from_frame, settings.size_px, height_px, width_px) < settings.least_inside:
        return "at the edge"
    rgb_HW3 = crop(picture.rgb_HW3, crop_from_frame, settings.size_px)
    points_px = moved(face.points_px, crop_from_frame)
    sharp = sharpness(rgb_HW3)
    if sharp < settings.least_sharpness:
        return "blurred"
    return ClipFrame(
        picture.number,
        picture.at_s,
        rgb_HW3,
        points_px,
        crop_from_frame,
        face_px,
        yaw_deg,
        pitch_deg,
        sharp,
        appearance(picture.rgb_HW3, face.points_px),
    )


def pitch_of(pose: Pose) -> float:
    """How far the head is turned up (positive) or down, degrees."""
    forward = -pose.rotation_33[:, 2]
    return float(np.degrees(np.arctan2(-forward[1], math.hypot(forward[0], forward[2]))))


def sharpness(rgb_HW3: Rgb) -> float:
    """0 (blurred) to 1 (as sharp as a crop can be) of the middle of an aligned crop, whatever its contrast.

    Fine differences over coarse ones: blur takes the fine ones first, light and skin change both alike.
    """
    side = rgb_HW3.shape[0]
    grey = rgb_HW3[side // 5 : -side // 5, side // 5 : -side // 5].astype(np.float32).mean(axis=2)
    step = max(side // 256, 1)
    fine = _difference(grey, step)
    coarse = _difference(grey, 4 * step)
    return float(np.clip((fine / max(coarse, 1.0) - SMOOTH) / (SHARP - SMOOTH), 0.0, 1.0))


def _difference(grey: Floats, step: int) -> float:
    across, down = grey[:, step:] - grey[:, :-step], grey[step:] - grey[:-step]
    return math.sqrt(float((across**2).mean() + (down**2).mean()))
