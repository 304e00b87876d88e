"""An identity judge that had no part in building the swap: dlib's face recogniser (extra `eval`).

A face becomes 128 numbers; the distance of two faces is Euclidean: about 0.35 for one person, 0.8 for strangers.
The judge finds faces itself, on the *input* frame, so that a swap can neither hide from it nor move the place it looks
at; the same box is then judged in the result.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distill.evaluate.metrics import face_width_px
from engines import EngineUnavailable
from engines.types import Box, Floats, Rgb

Descriptor = NDArray[np.float64]  # [128]
Points = NDArray[np.float64]  # [68, 2], dlib's 68 landmarks, x and y in frame pixels

RECOGNISER = "dlib_face_recognition_resnet_model_v1.dat"
FACE_PX = 150  # the recogniser's own chip size; smaller faces are enlarged to it before their landmarks are found
MARGIN = 0.8  # of the box's width, kept on each side of it
DLIB_SIDE, DLIB_MIDDLE = 1.18, 0.49  # of the face's width, and of its landmarks' height from above
HOG_FACE_PX = 80  # the smallest face that dlib's detector was trained for


def judge_is_available() -> bool:
    """Whether the extra `eval` is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("dlib", "face_recognition_models"))


def _model(name: str) -> str:
    """The path of a model file. The package is not imported: it needs pkg_resources, gone since setuptools 81."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise EngineUnavailable('the judge needs face_recognition_models: pip install -e ".[eval]"')
    return str(Path(spec.submodule_search_locations[0]) / "models" / name)


@dataclass(frozen=True, slots=True)
class _Enlarged:
    """A piece of a frame, enlarged: frame = piece / scale + corner."""

    rgb: Rgb
    scale: float
    left_px: int
    top_px: int


def _enlarge(rgb_HW3: Rgb, box: Box, face_px: float) -> _Enlarged:
    height_px, width_px = rgb_HW3.shape[:2]
    side = MARGIN * box.width_px
    left, top = max(0, int(box.left_px - side)), max(0, int(box.top_px - side))
    right, bottom = min(width_px, int(box.right_px + side) + 1), min(height_px, int(box.bottom_px + side) + 1)
    piece = Image.fromarray(rgb_HW3[top:bottom, left:right])
    scale = face_px / box.width_px if box.width_px < face_px else 1.0
    size = (max(1, round(piece.width * scale)), max(1, round(piece.height * scale)))
    return _Enlarged(np.array(piece.resize(size, Image.Resampling.BICUBIC)), scale, left, top)


class Judge:
    """Finds, describes and compares faces. Not thread safe.

    Raises EngineUnavailable where the extra `eval` is not installed.
    """

    def __init__(self) -> None:
        if not judge_is_available():
            raise EngineUnavailable('the judge is not installed: pip install -e ".[eval]"')
        self._dlib: Any = importlib.import_module("dlib")
        self._hog = self._dlib.get_frontal_face_detector()
        self._cnn: Any = None
        shapes, recogniser = _model("shape_predictor_68_face_landmarks.dat"), _model(RECOGNISER)
        self.files = (Path(recogniser), Path(shapes))
        self._align = self._dlib.shape_predictor(shapes)
        self._recogniser = self._dlib.face_recognition_model_v1(recogniser)

    def find(self, rgb_HW3: Rgb, near: Box | None = None) -> Box | None:
        """The largest face, or with `near` the one that overlaps that box most; None where dlib sees none.

        The quick detector looks first (enlarged, since it was trained on faces over 80 px), then the thorough one.
        """
        for detect in (self._find_hog, self._find_cnn):
            boxes = detect(rgb_HW3) if near is None else self._find_near(detect, rgb_HW3, near)
            if boxes:
                return max(boxes, key=lambda box: box.width_px)
        return None

    def points(self, rgb_HW3: Rgb, box: Box) -> Points:
        """dlib's 68 landmarks of the face in that box, float64 [68, 2], in frame pixels."""
        piece = _enlarge(rgb_HW3, box, FACE_PX)
        shape = self._shape(piece, box)
        points = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
        return points / piece.scale + (piece.left_px, piece.top_px)

    def describe(self, rgb_HW3: Rgb, box: Box) -> Descriptor:
        """The 128 numbers of the face in that box. There is always an answer: a picture of no face gets one too."""
        piece = _enlarge(rgb_HW3, box, FACE_PX)
        return np.array(self._recogniser.compute_face_descriptor(piece.rgb, self._shape(piece, box)))

    def describe_photo(self, rgb_HW3: Rgb) -> Descriptor | None:
        """The largest face of a photo; None where there is none."""
        box = self.find(rgb_HW3)
        return None if box is None else self.describe(rgb_HW3, box)

    def _shape(self, piece: _Enlarged, box: Box) -> Any:
        edges = (
            (box.left_px - piece.left_px) * piece.scale,
            (box.top_px - piece.top_px) * piece.scale,
            (box.right_px - piece.left_px) * piece.scale,
            (box.bottom_px - piece.top_px) * piece.scale,
        )
        return self._align(piece.rgb, self._dlib.rectangle(*(round(edge) for edge in edges)))

    def _find_hog(self, rgb_HW3: Rgb) -> list[Box]:
        return [_box(found) for found in self._hog(np.ascontiguousarray(rgb_HW3), 1)]

    def _find_cnn(self, rgb_HW3: Rgb) -> list[Box]:
        if self._cnn is None:
            self._cnn = self._dlib.cnn_face_detection_model_v1(_model("mmod_human_face_detector.dat"))
        return [_box(found.rect) for found in self._cnn(np.ascontiguousarray(rgb_HW3), 1)]

    def _find_near(self, detect: Any, rgb_HW3: Rgb, near: Box) -> list[Box]:
        piece = _enlarge(rgb_HW3, near, HOG_FACE_PX)
        boxes = [_to_frame(box, piece) for box in detect(piece.rgb)]
        return [box for box in boxes if overlap(box, near) > 0.3]


def _box(found: Any) -> Box:
    return Box(float(found.left()), float(found.top()), float(found.right() + 1), float(found.bottom() + 1))


def _to_frame(box: Box, piece: _Enlarged) -> Box:
    def x(value: float) -> float:
        return value / piece.scale + piece.left_px

    def y(value: float) -> float:
        return value / piece.scale + piece.top_px

    return Box(x(box.left_px), y(box.top_px), x(box.right_px), y(box.bottom_px))


def dlib_box(landmarks_N3: Floats) -> Box:
    """The box that dlib's detector draws round such a face: a square, brows to chin."""
    low, high = landmarks_N3[:, :2].min(axis=0), landmarks_N3[:, :2].max(axis=0)
    x, y = (low[0] + high[0]) / 2, low[1] + DLIB_MIDDLE * (high[1] - low[1])
    half = DLIB_SIDE * face_width_px(landmarks_N3) / 2
    return Box(float(x - half), float(y - half), float(x + half), float(y + half))


def overlap(first: Box, second: Box) -> float:
    """Shared area over joint area, 0..1."""
    width = min(first.right_px, second.right_px) - max(first.left_px, second.left_px)
    height = min(first.bottom_px, second.bottom_px) - max(first.top_px, second.top_px)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (first.width_px * first.height_px + second.width_px * second.height_px - shared)


def distance(first: Descriptor, second: Descriptor) -> float:
    """Euclidean distance of two faces: about 0.35 for one person, 0.8 for strangers."""
    return float(np.linalg.norm(first - second))
