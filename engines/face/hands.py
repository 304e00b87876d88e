"""Hands near a face: MediaPipe's bundled palm detector and hand net, each in a square of our choice.

The palm detector looks at the face's surroundings only, so a hand is as large for it as it can be. Found hands are
followed by the hand net from their own last landmarks, as long as it is sure of them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from engines.face.landmarks import Square
from engines.face.mediapipe_graph import (
    Graph,
    Packet,
    float_value,
    landmark_values,
    messages,
    network,
    square_packet,
    wire_fields,
)
from engines.types import Floats

_INTO_NET = """
input_stream: "image"
input_stream: "square"
node {{
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  input_stream: "NORM_RECT:square"
  output_stream: "TENSORS:input"
  options {{ [mediapipe.ImageToTensorCalculatorOptions.ext] {{
    output_tensor_width: {side} output_tensor_height: {side} output_tensor_float_range {{ min: 0 max: 1 }}
    border_mode: BORDER_ZERO }} }}
}}
"""
_PALMS = """
output_stream: "detections"
node {
  calculator: "SsdAnchorsCalculator"
  output_side_packet: "anchors"
  options { [mediapipe.SsdAnchorsCalculatorOptions.ext] {
    input_size_width: 192 input_size_height: 192 min_scale: 0.1484375 max_scale: 0.75
    anchor_offset_x: 0.5 anchor_offset_y: 0.5 num_layers: 4 strides: 8 strides: 16 strides: 16 strides: 16
    aspect_ratios: 1 fixed_anchor_size: true } }
}
node {
  calculator: "TensorsToDetectionsCalculator"
  input_stream: "TENSORS:output"
  output_stream: "DETECTIONS:unfiltered"
  input_side_packet: "ANCHORS:anchors"
  options { [mediapipe.TensorsToDetectionsCalculatorOptions.ext] {
    num_classes: 1 num_boxes: 2016 num_coords: 18 x_scale: 192 y_scale: 192 w_scale: 192 h_scale: 192
    keypoint_coord_offset: 4 num_keypoints: 7 num_values_per_keypoint: 2 box_coord_offset: 0
    reverse_output_order: true sigmoid_score: true score_clipping_thresh: 100 min_score_thresh: 0.4 } }
}
node {
  calculator: "NonMaxSuppressionCalculator"
  input_stream: "unfiltered"
  output_stream: "detections"
  options { [mediapipe.NonMaxSuppressionCalculatorOptions.ext] {
    min_suppression_threshold: 0.3 overlap_type: INTERSECTION_OVER_UNION algorithm: WEIGHTED } }
}
"""
_HAND = """
output_stream: "landmarks"
output_stream: "score"
node {
  calculator: "SplitTensorVectorCalculator"
  input_stream: "output"
  output_stream: "points"
  output_stream: "flag"
  options { [mediapipe.SplitVectorCalculatorOptions.ext] { ranges { begin: 0 end: 1 } ranges { begin: 1 end: 2 } } }
}
node {
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:flag"
  output_stream: "FLOAT:score"
}
node {
  calculator: "TensorsToLandmarksCalculator"
  input_stream: "TENSORS:points"
  output_stream: "NORM_LANDMARKS:landmarks"
  options { [mediapipe.TensorsToLandmarksCalculatorOptions.ext] {
    num_landmarks: 21 input_image_width: 224 input_image_height: 224 normalize_z: 0.4 } }
}
"""

HAND_POINTS = 21
WRIST, MIDDLE_KNUCKLE = 0, 9
_ROOTS = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)  # the palm and the fingers' first bones: they turn with the hand


@dataclass(frozen=True, slots=True)
class Palm:
    """A palm as the detector sees it: its box's middle and side, and its direction from wrist to knuckles."""

    x_px: float
    y_px: float
    size_px: float
    roll_rad: float
    score: float


@dataclass(frozen=True, slots=True)
class Hand:
    """points_px float32 [21, 2] in frame pixels; score 0..1."""

    points_px: Floats
    score: float


class HandFinder:
    """Both nets. One thread at a time; remembers nothing."""

    def __init__(self) -> None:
        self._palms = Graph(
            _INTO_NET.format(side=192) + network("palm_detection/palm_detection_lite") + _PALMS, ("detections",)
        )
        self._hand = Graph(
            _INTO_NET.format(side=224) + network("hand_landmark/hand_landmark_lite") + _HAND, ("landmarks", "score")
        )

    def feed_palms(self, image: Packet, square: Square, height_px: int, width_px: int) -> None:
        """Starts the palm detector in a square; `collect_palms` waits for it."""
        self._palms.feed({"image": image, "square": _rect(square, height_px, width_px)})

    def collect_palms(self, square: Square) -> list[Palm]:
        packet = self._palms.wait().get("detections")
        return [] if packet is None else [parse_palm(message, square) for message in messages(packet)]

    def hand(self, image: Packet, square: Square, height_px: int, width_px: int) -> Hand:
        """The hand in a square. The net always answers: only the score tells."""
        outputs = self._hand.run({"image": image, "square": _rect(square, height_px, width_px)})
        shares = landmark_values(outputs["landmarks"])[:, :2] - np.float32(0.5 + 0.5 / 224)
        return Hand(_turned(shares * np.float32(square.size_px), square), float_value(outputs["score"]))

    def close(self) -> None:
        self._palms.close()
        self._hand.close()


def _rect(square: Square, height_px: int, width_px: int) -> Packet:
    return square_packet(
        square.x_px / width_px,
        square.y_px / height_px,
        square.size_px / width_px,
        square.size_px / height_px,
        square.roll_rad,
    )


def _turned(offsets_N2: Floats, square: Square) -> Floats:
    """Offsets in a square's own directions -> frame pixels."""
    cos, sin = math.cos(square.roll_rad), math.sin(square.roll_rad)
    out = offsets_N2 @ np.array([[cos, sin], [-sin, cos]], np.float32)
    out += np.array([square.x_px, square.y_px], np.float32)
    return out


def parse_palm(message: bytes, square: Square) -> Palm:
    """Reads a serialised mediapipe.Detection whose coordinates are shares of a square."""
    score, box, points = 0.0, {}, []
    for number, value in wire_fields(message):
        if number == 3:
            score = struct.unpack("<f", value)[0] if isinstance(value, bytes) else float(value)
        elif number == 4 and isinstance(value, bytes):
            for part, content in wire_fields(value):
                if part in (3, 5) and isinstance(content, bytes):
                    floats = {key: float(one) for key, one in wire_fields(content) if not isinstance(one, bytes)}
                    if part == 3:
                        box = floats
                    else:
                        points.append((floats.get(1, 0.0), floats.get(2, 0.0)))
    middle = (box.get(1, 0.0) + box.get(3, 0.0) / 2, box.get(2, 0.0) + box.get(4, 0.0) / 2)
    shares = np.array([middle, points[0], points[2]], np.float32) - np.float32(0.5)
    (x, y), wrist, knuckle = _turned(shares * np.float32(square.size_px), square)
    size_px = max(box.get(3, 0.0), box.get(4, 0.0)) * square.size_px
    return Palm(float(x), float(y), size_px, _upright(wrist, knuckle), score)


def _upright(wrist: Floats, knuckle: Floats) -> float:
    """The turn of a square in which the fingers point up."""
    return math.atan2(float(knuckle[0] - wrist[0]), float(wrist[1] - knuckle[1]))


def square_of_palm(palm: Palm) -> Square:
    """Where the hand net looks for a hand that was only just detected (MediaPipe's: 2.6 palms, half a palm up)."""
    return _shifted(palm.x_px, palm.y_px, palm.size_px, palm.roll_rad, up=0.5, scale=2.6)


def square_of_hand(points_px: Floats) -> Square:
    """Where the hand net looks in the next frame (MediaPipe's: twice the palm and finger roots, a tenth up)."""
    roots = points_px[list(_ROOTS)]
    knuckle = (points_px[5] + points_px[13]) / 4 + points_px[MIDDLE_KNUCKLE] / 2
    roll_rad = _upright(points_px[WRIST], knuckle)
    cos, sin = math.cos(roll_rad), math.sin(roll_rad)
    across, along = roots[:, 0] * cos + roots[:, 1] * sin, roots[:, 1] * cos - roots[:, 0] * sin
    x, y = float(across.min() + across.max()) / 2, float(along.min() + along.max()) / 2
    size_px = float(max(np.ptp(across), np.ptp(along)))
    return _shifted(x * cos - y * sin, x * sin + y * cos, size_px, roll_rad, up=0.1, scale=2.0)


def _shifted(x_px: float, y_px: float, size_px: float, roll_rad: float, up: float, scale: float) -> Square:
    x_px += math.sin(roll_rad) * up * size_px
    y_px -= math.cos(roll_rad) * up * size_px
    return Square(x_px, y_px, size_px * scale, roll_rad)
