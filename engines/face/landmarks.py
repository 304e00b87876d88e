"""The face mesh: 478 landmarks and a presence score inside a square of the picture.

The graph is MediaPipe's FaceLandmarkCpu with attention, rebuilt from its parts for two reasons: its own score is given
out instead of being compared with a threshold, and the square may come from any source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.face.detect import Detection
from engines.face.mediapipe_graph import Graph, Packet, float_value, landmark_values, network, square_packet
from engines.types import LANDMARKS, Box, Floats

_MESH = """
input_stream: "image"
input_stream: "square"
output_stream: "landmarks"
output_stream: "score"
node {
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  input_stream: "NORM_RECT:square"
  output_stream: "TENSORS:input"
  options { [mediapipe.ImageToTensorCalculatorOptions.ext] {
    output_tensor_width: 192 output_tensor_height: 192 output_tensor_float_range { min: 0 max: 1 } } }
}
node {
  calculator: "SplitTensorVectorCalculator"
  input_stream: "output"
  output_stream: "points"
  output_stream: "flag"
  options { [mediapipe.SplitVectorCalculatorOptions.ext] {
    ranges { begin: 0 end: 6 } ranges { begin: 6 end: 7 } } }
}
node {
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:flag"
  output_stream: "FLOAT:score"
  options { [mediapipe.TensorsToFloatsCalculatorOptions.ext] { activation: SIGMOID } }
}
node {
  calculator: "TensorsToFaceLandmarksWithAttention"
  input_stream: "TENSORS:points"
  output_stream: "LANDMARKS:landmarks"
}
"""

NET_PX = 192
# The net counts from the outer edge of its input's first pixel, pictures here from that pixel's centre. Found with
# mirrored photos: without this every landmark lies 0.47 (+-0.2) net pixels too far right, 0.7 px on a webcam's face.
HALF_NET_PIXEL = 0.5 / NET_PX
SQUARE_SCALE = 1.5  # what the net was trained with: the square's side over the longer side of the landmarks' box
EYE_OUTER_LEFT, EYE_OUTER_RIGHT = 33, 263  # left and right in the picture of a person who faces the camera


@dataclass(frozen=True, slots=True)
class Square:
    """A square of the picture, turned clockwise by `roll_rad` about its centre."""

    x_px: float
    y_px: float
    size_px: float
    roll_rad: float


class FaceMesh:
    """The landmark net. One thread at a time; remembers nothing."""

    def __init__(self) -> None:
        self._graph = Graph(_MESH + network("face_landmark/face_landmark_with_attention"), ("landmarks", "score"))

    def find(self, image: Packet, square: Square, height_px: int, width_px: int) -> tuple[Floats, float]:
        """float32 [478, 3] in pixels of the frame (x, y, and z on the same scale), and the score 0..1.

        The net always answers, on what is no face as well: only the score tells.
        """
        self.feed(image, square, height_px, width_px)
        return self.collect(square)

    def feed(self, image: Packet, square: Square, height_px: int, width_px: int) -> None:
        """Starts the net, in MediaPipe's own threads; `collect` waits for it."""
        rect = square_packet(
            square.x_px / width_px,
            square.y_px / height_px,
            square.size_px / width_px,
            square.size_px / height_px,
            square.roll_rad,
        )
        self._graph.feed({"image": image, "square": rect})

    def collect(self, square: Square) -> tuple[Floats, float]:
        """What `find` returns, of the latest `feed`, which was of that square."""
        outputs = self._graph.wait()
        return from_square(landmark_values(outputs["landmarks"]), square), float_value(outputs["score"])

    def close(self) -> None:
        self._graph.close()


def from_square(points_N3: Floats, square: Square) -> Floats:
    """Takes points from shares of the square (0..1) to pixels of the frame. float32 [N, 3]."""
    if points_N3.shape != (LANDMARKS, 3):
        raise ValueError(f"{LANDMARKS} landmarks expected, not {points_N3.shape}")
    cos, sin = math.cos(square.roll_rad) * square.size_px, math.sin(square.roll_rad) * square.size_px
    x, y = points_N3[:, 0] - (0.5 + HALF_NET_PIXEL), points_N3[:, 1] - (0.5 + HALF_NET_PIXEL)
    points = np.empty_like(points_N3)
    points[:, 0] = x * cos - y * sin + square.x_px
    points[:, 1] = x * sin + y * cos + square.y_px
    points[:, 2] = points_N3[:, 2] * square.size_px
    return points


def square_of_points(points_px: Floats) -> Square:
    """Where to look for a face in the next frame: around its landmarks, turned as its eyes are."""
    dx, dy = points_px[EYE_OUTER_RIGHT, :2] - points_px[EYE_OUTER_LEFT, :2]
    roll_rad = math.atan2(float(dy), float(dx))
    cos, sin = math.cos(roll_rad), math.sin(roll_rad)
    along = points_px[:, 0] * cos + points_px[:, 1] * sin
    down = points_px[:, 1] * cos - points_px[:, 0] * sin
    left, right, top, bottom = float(along.min()), float(along.max()), float(down.min()), float(down.max())
    x, y = (left + right) / 2, (top + bottom) / 2
    size_px = max(right - left, bottom - top) * SQUARE_SCALE
    return Square(x * cos - y * sin, x * sin + y * cos, size_px, roll_rad)


def square_of_detection(detection: Detection) -> Square:
    """Where to look for the landmarks of a face that was only just detected."""
    box = detection.box_px
    size_px = max(box.width_px, box.height_px) * SQUARE_SCALE
    return Square((box.left_px + box.right_px) / 2, (box.top_px + box.bottom_px) / 2, size_px, detection.roll_rad)


def box_of_points(points_px: Floats) -> Box:
    """The upright box around landmarks."""
    left, top = points_px[:, :2].min(axis=0)
    right, bottom = points_px[:, :2].max(axis=0)
    return Box(float(left), float(top), float(right), float(bottom))
