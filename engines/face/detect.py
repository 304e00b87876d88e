"""Finding faces in a whole picture, with MediaPipe's two bundled detectors.

Measured (640x480, one core): the short-range detector takes 1.9 ms, misses faces under about 70 px and mistakes hands
for faces; the full-range one takes 5 ms, sees faces from 30 px on, was right in every frame of our clips, but misses
some faces that fill the picture. So the full-range detector looks for newcomers, and when somebody is lost the
short-range one is asked as well, but only for large faces.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Literal

from engines.face.mediapipe_graph import Graph, Packet, messages, wire_fields
from engines.types import Box

_DETECTOR = """
input_stream: "image"
output_stream: "detections"
node {{
  calculator: "FaceDetection{kind}Cpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
  options {{ [mediapipe.FaceDetectionOptions.ext] {{ min_score_thresh: {least} }} }}
}}
"""

FULL_SURE, SHORT_SURE = 0.6, 0.5  # MediaPipe's own thresholds
WEAK = 0.45  # from here on the full-range detector may mean a face: background is rarely so much like one

SAME_FACE_OVERLAP = 0.3
LARGE_FACE = 0.3  # of the picture's height: below this the short-range detector is not believed


@dataclass(frozen=True, slots=True)
class Detection:
    """A face as a detector sees it: brow to chin, ear to ear, and the centres of its eyes."""

    box_px: Box
    picture_left_eye_px: tuple[float, float]  # the person's right eye, unless the picture is mirrored
    picture_right_eye_px: tuple[float, float]
    score: float

    @property
    def roll_rad(self) -> float:
        """How far the face is turned clockwise in the picture."""
        left, right = self.picture_left_eye_px, self.picture_right_eye_px
        return math.atan2(right[1] - left[1], right[0] - left[0])


class FaceDetector:
    """Both detectors. `feed` starts them, `collect` waits for them: the caller may work in between."""

    def __init__(self) -> None:
        self._full = detector_graph("FullRange", WEAK)
        self._short = detector_graph("ShortRange", SHORT_SURE)
        self._fed: tuple[Graph, ...] = ()

    def feed(self, image: Packet, both: bool) -> None:
        """Starts the full-range detector on this picture, and with `both` the short-range one as well."""
        self._fed = (self._full, self._short) if both else (self._full,)
        for graph in self._fed:
            graph.feed({"image": image})

    def collect(self, height_px: int, width_px: int) -> list[Detection]:
        """The faces of the picture that was fed, best first, each once."""
        return self.collect_all(height_px, width_px)[0]

    def collect_all(self, height_px: int, width_px: int) -> tuple[list[Detection], list[Detection]]:
        """The faces of the picture that was fed, and what only might be one: enough to hide it, not to follow it."""
        sure: list[Detection] = []
        weak: list[Detection] = []
        for graph in self._fed:
            seen = detections(graph, height_px, width_px)
            if graph is self._short:
                sure += [one for one in seen if one.box_px.height_px >= LARGE_FACE * height_px]
                continue
            sure += [one for one in seen if one.score >= FULL_SURE]
            weak += [one for one in seen if one.score < FULL_SURE]
        self._fed = ()
        return merge(sure), weak

    def close(self) -> None:
        self._full.close()
        self._short.close()


def detector_graph(kind: Literal["FullRange", "ShortRange"], least_score: float) -> Graph:
    """One of the detectors, from stream `image` to stream `detections`."""
    return Graph(_DETECTOR.format(kind=kind, least=least_score), ("detections",))


def detections(graph: Graph, height_px: int, width_px: int) -> list[Detection]:
    """What a detector found in the picture of that size that it was fed."""
    packet = graph.wait().get("detections")
    return [] if packet is None else [parse_detection(message, height_px, width_px) for message in messages(packet)]


def merge(found: list[Detection]) -> list[Detection]:
    """Keeps the best of several detections of the same face."""
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda one: -one.score):
        if all(overlap(detection.box_px, other.box_px) < SAME_FACE_OVERLAP for other in kept):
            kept.append(detection)
    return kept


def overlap(a: Box, b: Box) -> float:
    """Common area as a share of the smaller box: 1 where one lies inside the other."""
    width = min(a.right_px, b.right_px) - max(a.left_px, b.left_px)
    height = min(a.bottom_px, b.bottom_px) - max(a.top_px, b.top_px)
    smaller = min(a.width_px * a.height_px, b.width_px * b.height_px)
    if width <= 0 or height <= 0 or smaller <= 0:
        return 0.0
    return width * height / smaller


def parse_detection(message: bytes, height_px: int, width_px: int) -> Detection:
    """Reads a serialised mediapipe.Detection with a relative box and key points."""
    score = 0.0
    box: dict[int, float] = {}
    points: list[tuple[float, float]] = []
    for number, value in wire_fields(message):
        if number == 3:
            score = struct.unpack("<f", value)[0] if isinstance(value, bytes) else float(value)
        elif number == 4 and isinstance(value, bytes):
            for part, content in wire_fields(value):
                if part == 3 and isinstance(content, bytes):
                    box = _floats(content)
                elif part == 5 and isinstance(content, bytes):
                    point = _floats(content)
                    points.append((point.get(1, 0.0) * width_px, point.get(2, 0.0) * height_px))
    left, top = box.get(1, 0.0) * width_px, box.get(2, 0.0) * height_px
    right, bottom = left + box.get(3, 0.0) * width_px, top + box.get(4, 0.0) * height_px
    return Detection(Box(left, top, right, bottom), points[0], points[1], score)


def _floats(message: bytes) -> dict[int, float]:
    return {number: float(value) for number, value in wire_fields(message) if not isinstance(value, bytes)}
