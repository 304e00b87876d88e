"""Reads one swap from front to back: every frame is seen once, two are held, every n-th is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from distill.errors import BadClip
from distill.evaluate import metrics
from distill.evaluate.by_file import ExpressionNet, Judge, PoseNet
from distill.evaluate.clip_features import ClipNet, square_picture
from distill.evaluate.faces import Face, FaceReader, angle_error, expression_error, gaze_error, pose_error
from distill.evaluate.metrics import Mask
from distill.evaluate.readings import STREAMS, Array, Look, Readings, looks_of
from distill.evaluate.sheet import Moments, small
from distill.evaluate.swaps import Frame, Swap
from distill.evaluate.temporal import CROP_PX, UNKNOWN, mean_lab, motion, path
from engines import Rgb
from engines.enrolment import face_finder
from engines.face.align import crop, crop_from_frame, moved
from engines.face.landmarks import square_of_points
from engines.face.region import face_region
from engines.face.track import FaceTracker
from engines.types import Floats

SQUARE_REACH = 2.0  # of a clip's square for FVD, in the longer side of the landmarks' box in its first frame
SPEED_SKIPPED = 5  # first frames, in which kernels compile and caches fill
ROLLOUT_EVERY_S = 1.0  # from one look at a roll-out to the next


@dataclass(frozen=True, slots=True)
class Instruments:
    """What looks. lengths: of the clips for FVD; every: frames from one look to the next."""

    faces: FaceReader
    judges: Sequence[Judge] = ()
    pose_net: PoseNet | None = None
    expression_net: ExpressionNet | None = None
    clip_nets: Sequence[ClipNet] = ()
    lengths: Sequence[int] = (32, 128)
    every: int = 1
    rollout_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame in which the driver's face was found, and what is known of it. `faces`: by stream, if it was read."""

    frame: Frame
    points_px: Floats
    crops: Mapping[str, Rgb]
    inside_SS: Mask
    faces: Mapping[str, Face | None]


def read_swap(swap: Swap, instruments: Instruments) -> Readings:
    """Raises BadClip where nothing of it can be measured."""
    reader = _SwapReader(instruments)
    tracker = FaceTracker(max_faces=1, follow="one")
    try:
        state = tracker.init()
        for frame in swap.frames():
            tracked = tracker.step(state, frame.driver_HW3, frame.at_s)
            reader.see(frame, tracked.faces[0].raw_px if tracked.faces else None)
    finally:
        tracker.close()
    if not reader.frames:
        raise BadClip(f"{swap.name}: has no frames")
    if not reader.looks:
        raise BadClip(f"{swap.name}: no face is found in the driver's {reader.frames} frames")
    own = swap.photos()
    photos = described_photos(own, instruments.judges)
    return reader.readings(small(own[0]), photos, _rollout(swap, instruments, photos))


class _SwapReader:
    """What was read so far."""

    def __init__(self, instruments: Instruments) -> None:
        self._with = instruments
        self.looks: list[Look] = []
        self.frames = self.drawn = 0
        self._took_ms: list[float] = []
        self._moments = Moments()
        self._before: Seen | None = None
        self._colour: dict[str, list[Array]] = {stream: [] for stream in STREAMS}
        self._vectors: dict[str, list[Array]] = {
            f"{judge.name}/{stream}": [] for judge in instruments.judges for stream in STREAMS
        }
        self._windows = [_Windows(net, length) for net in instruments.clip_nets for length in instruments.lengths]

    def see(self, frame: Frame, points_px: Floats | None) -> None:
        """The next frame, and where the driver's face is in it."""
        number, self.frames = self.frames, self.frames + 1
        self.drawn += frame.result_HW3 is not None
        if not math.isnan(frame.took_ms) and number >= SPEED_SKIPPED:
            self._took_ms.append(frame.took_ms)
        for window in self._windows:
            window.see(frame, points_px)
        every = self._with.every
        looked = number % every == 0 if every > 1 else True
        if points_px is None or not (looked or (number + 1) % every == 0):
            self._before = None
            return
        now = self._seen(frame, points_px)
        if looked:
            self._look(self._before, now)
            self._moments.see(frame, points_px)
        self._before = now

    def _seen(self, frame: Frame, points_px: Floats) -> Seen:
        there = crop_from_frame(points_px, CROP_PX)
        pictures = {"driver": frame.driver_HW3, "result": frame.result_HW3}
        square = square_of_points(points_px)
        shown = {stream: picture for stream, picture in pictures.items() if picture is not None}
        return Seen(
            frame,
            points_px,
            {stream: crop(picture, there, CROP_PX) for stream, picture in shown.items()},
            face_region(moved(points_px, there), CROP_PX).mask_SS >= 0.5,
            {stream: self._with.faces.read(picture, square) for stream, picture in shown.items()},
        )

    def _look(self, before: Seen | None, now: Seen) -> None:
        driver, result = now.faces["driver"], now.faces.get("result")
        both = driver is not None and result is not None
        self.looks.append(
            Look(
                at_s=now.frame.at_s,
                pose=pose_error(driver, result) if driver and result else math.nan,
                gaze=gaze_error(driver, result) if driver and result else math.nan,
                expression=expression_error(driver, result) if driver and result else math.nan,
                **(self._by_nets(now) if both else {}),
                **_motions(before, now),
                **_truth(now.frame),
            )
        )
        for stream in STREAMS:
            crop_SS3 = now.crops.get(stream)
            self._colour[stream].append(np.full(3, np.nan) if crop_SS3 is None else mean_lab(crop_SS3, now.inside_SS))
            for judge in self._with.judges:
                pair = [described(judge, one, stream) for one in (before, now)]
                self._vectors[f"{judge.name}/{stream}"].append(_stacked(pair))

    def _by_nets(self, now: Seen) -> dict[str, float]:
        pictures = [(now.frame.driver_HW3, now.faces["driver"]), (now.frame.result_HW3, now.faces["result"])]
        found: dict[str, float] = {}
        if self._with.pose_net is not None:
            angles = [
                self._with.pose_net.angles_deg(rgb, face.points_px)
                for rgb, face in pictures
                if face and rgb is not None
            ]
            found["net_pose"] = angle_error(angles[0], angles[1])
        if self._with.expression_net is not None:
            shapes = [
                self._with.expression_net.coefficients(rgb, face.points_px)
                for rgb, face in pictures
                if face and rgb is not None
            ]
            found["net_expression"] = float(np.linalg.norm(shapes[0] - shapes[1]))
        return found

    def readings(self, photo: Rgb, photos: Mapping[str, Array], rollout: Mapping[str, Array]) -> Readings:
        return Readings(
            looks=looks_of(self.looks),
            colour={stream: np.array(rows) for stream, rows in self._colour.items()},
            vectors={name: _joined(rows) for name, rows in self._vectors.items()},
            photos=photos,
            clips={f"{one.name}/{stream}": one.features(stream) for one in self._windows for stream in STREAMS},
            took_ms=np.array(self._took_ms, np.float64),
            frames=self.frames,
            drawn=self.drawn,
            rollout=rollout,
            moments=self._moments.taken(),
            photo=photo,
        )


def _motions(before: Seen | None, now: Seen) -> dict[str, float]:
    """What changed since the frame before, of both streams, along the driver's flow."""
    found: dict[str, float] = {}
    way = None if before is None else path(now.crops["driver"], before.crops["driver"])
    for stream in STREAMS:
        change = UNKNOWN
        if before is not None and way is not None and stream in now.crops and stream in before.crops:
            change = motion(now.crops[stream], before.crops[stream], way, now.inside_SS & before.inside_SS)
        found |= {
            f"{stream}_warp": change.warp,
            f"{stream}_patches": change.patches,
            f"{stream}_energy": change.energy,
        }
    return found


def _truth(frame: Frame) -> dict[str, float]:
    if frame.truth_HW3 is None or frame.result_HW3 is None:
        return {}
    inside = frame.inside_HW if frame.inside_HW is not None else np.ones(frame.truth_HW3.shape[:2], bool)
    return {
        "true_psnr": metrics.psnr(frame.result_HW3, frame.truth_HW3, inside),
        "true_ssim": metrics.ssim(frame.result_HW3, frame.truth_HW3, inside),
        "true_colour": metrics.colour_error(frame.result_HW3, frame.truth_HW3, inside),
    }


def described(judge: Judge, seen: Seen | None, stream: str) -> Array | None:
    """Who the face is, by its own landmarks; None where there is none."""
    if seen is None:
        return None
    face = seen.faces.get(stream)
    picture = seen.frame.driver_HW3 if stream == "driver" else seen.frame.result_HW3
    if face is None or picture is None:
        return None
    return judge.describe(picture, face.points_px)


def _stacked(pair: Sequence[Array | None]) -> Array:
    """[2, D]; a missing one is NaN. [2, 0] where both are missing."""
    width = max((len(one) for one in pair if one is not None), default=0)
    return np.stack([np.full(width, np.nan) if one is None else one for one in pair])


def _joined(rows: Sequence[Array]) -> Array:
    """[L, 2, D], whatever could not be described being NaN."""
    width = max((row.shape[1] for row in rows), default=0)
    return np.stack([row if row.shape[1] == width else np.full((2, width), np.nan) for row in rows])


def described_photos(photos: Sequence[Rgb], judges: Sequence[Judge]) -> dict[str, Array]:
    """JUDGE -> [P, D]: the largest face of each photo, as the engines' enrolment finds it."""
    with face_finder() as finder:
        found = [finder.find(photo) for photo in photos]
    seen = [(photo, faces[0].points_px) for photo, faces in zip(photos, found) if faces]
    return {
        judge.name: np.stack([judge.describe(photo, points) for photo, points in seen]) if seen else np.zeros((0, 0))
        for judge in judges
    }


@dataclass(slots=True)
class _Windows:
    """Cuts a swap into clips of T frames without gap or overlap, and keeps one row of features of each.

    A clip ends early, and is thrown away, where the driver's face is lost or nothing was drawn: what the viewer sees
    then is no swap. Its square stays where the face was in its first frame.
    """

    net: ClipNet
    length: int
    centre_px: Floats = field(default_factory=lambda: np.zeros(2, np.float32))
    side_px: float = 0.0
    pictures: dict[str, list[Rgb]] = field(default_factory=lambda: {stream: [] for stream in STREAMS})
    rows: dict[str, list[Floats]] = field(default_factory=lambda: {stream: [] for stream in STREAMS})

    @property
    def name(self) -> str:
        return f"{self.net.kind}/{self.length}"

    def see(self, frame: Frame, points_px: Floats | None) -> None:
        if points_px is None or frame.result_HW3 is None:
            self._start()
            return
        if not self.pictures["driver"]:
            low, high = points_px[:, :2].min(axis=0), points_px[:, :2].max(axis=0)
            self.centre_px, self.side_px = (low + high) / 2, SQUARE_REACH * float((high - low).max())
        for stream, picture in (("driver", frame.driver_HW3), ("result", frame.result_HW3)):
            self.pictures[stream].append(square_picture(picture, self.centre_px, self.side_px))
        if len(self.pictures["driver"]) == self.length:
            for stream in STREAMS:
                self.rows[stream].append(self.net.features(self.pictures[stream]))
            self._start()

    def _start(self) -> None:
        for pictures in self.pictures.values():
            pictures.clear()

    def features(self, stream: str) -> Array:
        rows = self.rows[stream]
        return np.stack(rows).astype(np.float64) if rows else np.zeros((0, 0))


def _rollout(swap: Swap, instruments: Instruments, photos: Mapping[str, Array]) -> dict[str, Array]:
    """Identity and colour over minutes: the clip is played forth and back, and looked at once a second."""
    if not instruments.rollout_s or swap.rollout is None:
        return {}
    reader, tracker = instruments.faces, FaceTracker(max_faces=1, follow="one")
    found: dict[str, list[object]] = {"at_s": [], "colour": [], **{judge.name: [] for judge in instruments.judges}}
    try:
        for frame, looked in _marked(swap.rollout(instruments.rollout_s)):
            if not looked or frame.result_HW3 is None:
                continue
            tracked = tracker.step(tracker.init(), frame.driver_HW3, frame.at_s)  # looked for anew each time
            if not tracked.faces:
                continue
            points = tracked.faces[0].raw_px
            there = crop_from_frame(points, CROP_PX)
            inside = face_region(moved(points, there), CROP_PX).mask_SS >= 0.5
            colours = [mean_lab(crop(one, there, CROP_PX), inside) for one in (frame.result_HW3, frame.driver_HW3)]
            face = reader.read(frame.result_HW3, square_of_points(points))
            found["at_s"].append(frame.at_s)
            found["colour"].append(colours[0] - colours[1])
            for judge in instruments.judges:
                vector = None if face is None else judge.describe(frame.result_HW3, face.points_px)
                found[judge.name].append(cosine_with(vector, photos[judge.name]))
    finally:
        tracker.close()
    return {name: np.array(values, np.float64) for name, values in found.items()}


def _marked(frames: Iterator[Frame]) -> Iterator[tuple[Frame, bool]]:
    """Which frames of a roll-out are looked at."""
    next_s = 0.0
    for frame in frames:
        looked = frame.at_s >= next_s
        next_s += ROLLOUT_EVERY_S * looked
        yield frame, looked


def cosine_with(vector: Array | None, photos_PD: Array) -> float:
    """Mean cosine with a person's photos; NaN where one of them is missing."""
    if vector is None or not len(photos_PD):
        return math.nan
    return float((photos_PD @ vector).mean())
