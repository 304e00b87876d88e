"""A photo made ready to be moved: cropped around the head, its landmarks, its person and its background apart.

Legend: C side of the canvas in pixels, N = 478 landmarks. The canvas is twice as fine as the frames that are made of
it and has a border of MARGIN of the frame on each side, which frames never show and only samples reach into.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from distill.errors import DataMissing
from distill.stills.matte import PersonMatte, layers
from distill.stills.mouth import MouthModel, load_mouth
from engines.enrolment import FaceFinder
from engines.face.mesh import LEFT_LIDS, LIPS, RIGHT_LIDS, Pose
from engines.face.retarget import canonical_face
from engines.types import Floats, Rgb

SUPERSAMPLE = 2
MARGIN = 0.125  # of the frame's side
CROP_FACES = 2.15  # the crop's side over the longer side of the landmarks' box
MOST_YAW_DEG, MOST_PITCH_DEG = 28.0, 25.0  # a photo that is turned further shows too little of the other half
LEAST_FACE_PX = 90.0


@dataclass(frozen=True, slots=True)
class Portrait:
    """One person's photo, ready to be moved.

    name            the photo's file name
    size_px         side of the frames
    rgb_CC3         uint8, the canvas; frames are its middle
    person_CC5      float32, photo minus what the background adds, how much of the pixel goes with the person
                    (0..1, with loose hair and a seam), and how much of it is the person
    background_CC3  float32, what would be seen without the person
    points_px       float32 [478, 3], landmarks in canvas pixels
    pose, canonical_S3, irises_I3  the same taken apart: pose, face in canonical centimetres, the irises' ten points
    mouth_cm, eyes_cm  how far lips and lids stand apart in the photo
    mouth           teeth, gums and tongue for when it opens, shared by all portraits
    """

    name: str
    size_px: int
    rgb_CC3: Rgb
    person_CC5: Floats
    background_CC3: Floats
    points_px: Floats
    pose: Pose
    canonical_S3: Floats
    irises_I3: Floats
    mouth_cm: float
    eyes_cm: float
    mouth: MouthModel

    @property
    def margin_px(self) -> int:
        """Width of the canvas' border."""
        return (self.rgb_CC3.shape[0] - SUPERSAMPLE * self.size_px) // 2

    @property
    def yaw_deg(self) -> float:
        return self.pose.yaw_deg

    @property
    def pitch_deg(self) -> float:
        """Positive looks up."""
        forward = -self.pose.rotation_33[:, 2]
        return float(np.degrees(np.arctan2(-forward[1], np.hypot(forward[0], forward[2]))))


class PortraitReader:
    """Reads photos; holds the nets for it. Close it after use."""

    def __init__(self, data_folder: Path) -> None:
        self._mouth = load_mouth(data_folder)
        self._finder, self._matte = FaceFinder(), PersonMatte()

    def read(self, path: Path, size_px: int) -> Portrait | None:
        """None where the photo does not lend itself to it: no face or more than one, small, or turned too far.

        Raises DataMissing where there is no readable picture.
        """
        photo = _read(path)
        faces = self._finder.find(photo)
        if len(faces) != 1 or faces[0].box_px.width_px < LEAST_FACE_PX:
            return None
        canvas, canvas_from_photo = _canvas(photo, faces[0].points_px, size_px)
        points_px = (faces[0].points_px * canvas_from_photo[0]).astype(np.float32)
        points_px[:, :2] += canvas_from_photo[1:]
        matte = self._matte.find(canvas)
        share, background = layers(canvas, matte)
        person = np.empty((*matte.shape, 5), np.float32)
        person[..., :3] = canvas - (1 - share[..., None]) * background
        person[..., 3], person[..., 4] = share, matte
        pose, canonical = canonical_face(points_px)
        irises = pose.to_canonical(points_px[468:])
        mouth, eyes = _gap(canonical, LIPS), min(_gap(canonical, RIGHT_LIDS), _gap(canonical, LEFT_LIDS))
        ready = Portrait(
            path.name, size_px, canvas, person, background, points_px, pose, canonical, irises, mouth, eyes, self._mouth
        )
        turned_far = abs(ready.yaw_deg) > MOST_YAW_DEG or abs(ready.pitch_deg) > MOST_PITCH_DEG
        return None if turned_far else ready

    def close(self) -> None:
        self._finder.close()
        self._matte.close()


@contextmanager
def portrait_reader(data_folder: Path) -> Iterator[PortraitReader]:
    """data_folder: where the ICT model lies. Raises DataMissing."""
    reader = PortraitReader(data_folder)
    try:
        yield reader
    finally:
        reader.close()


def _read(path: Path) -> Rgb:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataMissing(f"{path}: no picture can be read from it: {error}") from error


def _gap(shape_S3: Floats, pairs: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> float:
    return float(np.linalg.norm(shape_S3[pairs[:, 0]] - shape_S3[pairs[:, 1]], axis=1).mean())


def _canvas(photo: Rgb, points_px: Floats, size_px: int) -> tuple[Rgb, Floats]:
    """The canvas, and (scale, shift x, shift y) from photo to canvas pixels. Beyond the photo it is mirrored."""
    low, high = points_px[:, :2].min(axis=0), points_px[:, :2].max(axis=0)
    side = float(min(CROP_FACES * (high - low).max(), *photo.shape[:2]))
    centre = (low + high) / 2 - (0, 0.06 * side)  # more hair than chest
    last = np.array([photo.shape[1], photo.shape[0]]) - side
    left, top = np.clip(centre - side / 2, 0, last)
    frame_px = SUPERSAMPLE * size_px
    margin_px = round(MARGIN * frame_px)
    scale = frame_px / side
    border = int(np.ceil(margin_px / scale)) + 2
    wide = np.pad(photo, ((border, border), (border, border), (0, 0)), mode="reflect")
    reach = margin_px / scale
    box = (left - reach + border, top - reach + border, left + side + reach + border, top + side + reach + border)
    total_px = frame_px + 2 * margin_px
    canvas = Image.fromarray(wide).resize((total_px, total_px), Image.Resampling.BICUBIC, box=box)
    # Pixel centres: photo x -> (x + 0.5 - left) * scale + margin - 0.5
    shift_x, shift_y = (0.5 - left) * scale + margin_px - 0.5, (0.5 - top) * scale + margin_px - 0.5
    return np.ascontiguousarray(canvas), np.array([scale, shift_x, shift_y], np.float32)
