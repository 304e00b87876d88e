"""What a face does in a picture: pose, gaze, expression. And how far two faces are apart in it.

Both pictures, the driver's and the result, are read at the same place: where the driver's face was tracked. So a result
that equals the input is read as the input, to the last bit, and a swap cannot move the place it is judged at.
"""

from __future__ import annotations

import hashlib
import math
import struct
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines import EngineUnavailable, Rgb
from engines.errors import EngineFault
from engines.face.align import face_pose
from engines.face.landmarks import FaceMesh, Square
from engines.face.mediapipe_graph import Graph, bindings, image_packet
from engines.face.mesh import LEFT_IRIS, RIGHT_IRIS
from engines.types import Floats

LEAST_SCORE = 0.5  # of the landmark net: below this it sees no face
EYEBALL_CM = 1.2  # its radius: the iris on it turns shifts into angles
EYES = ((33, 133, 159, 145, RIGHT_IRIS.start), (362, 263, 386, 374, LEFT_IRIS.start))  # corners, lids, iris
LEAST_OPEN = 0.12  # of an eye's width: below this the iris is a guess
SHAPES = 52  # blendshapes; the first is "neutral" and means nothing
BLENDSHAPES_FILE = "face_blendshapes.tflite"
# Which of the 478 landmarks the blendshape net takes (mediapipe: face_blendshapes_graph.cc, Apache-2.0).
NEEDED = np.array(
    "0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103 "
    "105 107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173 176 "
    "178 181 185 191 195 197 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 "
    "311 312 314 317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382 384 385 386 "
    "387 388 389 390 397 398 400 402 405 409 415 454 466 468 469 470 471 472 473 474 475 476 477".split(),
    np.int32,
)


@dataclass(frozen=True, slots=True)
class Face:
    """One face as it was read.

    points_px  float32 [478, 3]
    pose_deg   float32 [3]: yaw, pitch, roll
    gaze_deg   float32 [2, 2]: right and left eye, yaw and pitch in the head; NaN for an eye that is closed
    shapes     float32 [52], 0..1; None without the file of the net
    """

    points_px: Floats
    pose_deg: Floats
    gaze_deg: Floats
    shapes: Floats | None


class FaceReader:
    """Landmarks, and what follows from them. One thread at a time; remembers nothing.

    blendshapes: `face_landmarker.task`, or the net out of it. Raises EngineUnavailable where it cannot be opened.
    """

    def __init__(self, blendshapes: Path | None = None) -> None:
        self._mesh = FaceMesh()
        self._shapes = None if blendshapes is None else Blendshapes(blendshapes)
        self.sha256 = "" if blendshapes is None else hashlib.sha256(blendshapes.read_bytes()).hexdigest()

    def read(self, rgb_HW3: Rgb, square: Square) -> Face | None:
        """The face in that square; None where the net sees none."""
        height_px, width_px = rgb_HW3.shape[:2]
        points, score = self._mesh.find(image_packet(rgb_HW3), square, height_px, width_px)
        if score < LEAST_SCORE:
            return None
        shapes = None if self._shapes is None else self._shapes.of(points)
        return Face(points, pose_deg(points), gaze_deg(points), shapes)

    def close(self) -> None:
        self._mesh.close()
        if self._shapes is not None:
            self._shapes.close()


def pose_deg(points_px: Floats) -> Floats:
    """Yaw, pitch, roll of the head that is laid over the landmarks by MediaPipe's weights. float32 [3]."""
    return euler_deg(face_pose(points_px).rotation_33)


def euler_deg(rotation_33: Floats) -> Floats:
    """R = Rz(roll) Ry(yaw) Rx(pitch), degrees."""
    r = rotation_33.astype(np.float64)
    yaw = math.asin(max(-1.0, min(1.0, -r[2, 0])))
    pitch, roll = math.atan2(r[2, 1], r[2, 2]), math.atan2(r[1, 0], r[0, 0])
    return np.asarray(np.degrees([yaw, pitch, roll]), np.float32)


def gaze_deg(points_px: Floats) -> Floats:
    """Where the eyes look, in the head: from how far each iris lies off the middle between its eye's corners."""
    pose = face_pose(points_px)
    canonical = pose.to_canonical(points_px)
    found = np.full((2, 2), np.nan, np.float32)
    for eye, (one, other, upper, lower, iris) in enumerate(EYES):
        width_cm = float(np.linalg.norm(canonical[one] - canonical[other]))
        if np.linalg.norm(canonical[upper, :2] - canonical[lower, :2]) < LEAST_OPEN * width_cm:
            continue
        shift = (canonical[iris] - (canonical[one] + canonical[other]) / 2)[:2] / EYEBALL_CM
        found[eye] = np.degrees(np.arcsin(np.clip(shift, -1, 1)))
    return found


def pose_error(one: Face, other: Face) -> float:
    """Euclidean distance of yaw, pitch and roll, degrees (as REFace's evaluation of Hopenet's angles)."""
    return angle_error(one.pose_deg, other.pose_deg)


def angle_error(one_deg: Floats, other_deg: Floats) -> float:
    """Euclidean distance of angles, the short way round."""
    apart = (one_deg.astype(np.float64) - other_deg + 180) % 360 - 180
    return float(np.linalg.norm(apart))


def gaze_error(one: Face, other: Face) -> float:
    """Mean over eyes that are open in both, degrees; NaN where none is."""
    apart = np.linalg.norm(one.gaze_deg.astype(np.float64) - other.gaze_deg, axis=1)
    return float("nan") if np.isnan(apart).all() else float(np.nanmean(apart))


def expression_error(one: Face, other: Face) -> float:
    """Euclidean distance of 51 blendshapes, each 0..1; NaN without them."""
    if one.shapes is None or other.shapes is None:
        return float("nan")
    return float(np.linalg.norm(one.shapes[1:].astype(np.float64) - other.shapes[1:]))


class Blendshapes:
    """MediaPipe's 52 blendshapes of 478 landmarks, from the file that MediaPipe publishes."""

    def __init__(self, path: Path) -> None:
        content = _model(path)
        if content[4:8] != b"TFL3":  # mediapipe would say it less well
            raise EngineUnavailable(f"{path}: is no blendshape model: no TensorFlow Lite file")
        self._folder = tempfile.TemporaryDirectory()
        model = Path(self._folder.name) / BLENDSHAPES_FILE
        model.write_bytes(content)
        try:
            self._graph = Graph(_SHAPES.replace("MODEL_PATH", str(model)), ("values",))
        except EngineUnavailable as error:
            self._folder.cleanup()
            raise EngineUnavailable(f"{path}: is no blendshape model: {error}") from error

    def of(self, points_px: Floats) -> Floats:
        """float32 [52], 0..1."""
        message = b"".join(_landmark(float(x), float(y)) for x, y in points_px[NEEDED, :2])
        packet = bindings()._packet_creator._create_proto("mediapipe.LandmarkList", message)
        outputs = self._graph.run({"points": packet})
        values = np.array(bindings()._packet_getter.get_float_list(outputs["values"]), np.float32)
        if values.shape != (SHAPES,):
            raise EngineFault(f"the blendshape model gave {values.size} numbers, not {SHAPES}")
        return values

    def close(self) -> None:
        self._graph.close()
        self._folder.cleanup()


def _model(path: Path) -> bytes:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as bundle:
                return bundle.read(BLENDSHAPES_FILE)
        return path.read_bytes()
    except KeyError as error:
        raise EngineUnavailable(f"{path}: holds no {BLENDSHAPES_FILE}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise EngineUnavailable(f"{path}: cannot be read: {error}") from error


def _landmark(x: float, y: float) -> bytes:
    """An entry of a LandmarkList: field 1, with x and y as its fields 1 and 2."""
    inner = struct.pack("<BfBf", 0x0D, x, 0x15, y)
    return bytes([0x0A, len(inner)]) + inner


_SHAPES = """
input_stream: "points"
output_stream: "values"
node {
  calculator: "LandmarksToTensorCalculator"
  input_stream: "LANDMARKS:points"
  output_stream: "TENSORS:input"
  options { [mediapipe.LandmarksToTensorCalculatorOptions.ext] { attributes: X attributes: Y flatten: false } }
}
node {
  calculator: "ConstantSidePacketCalculator"
  output_side_packet: "PACKET:path"
  options { [mediapipe.ConstantSidePacketCalculatorOptions.ext] { packet { string_value: "MODEL_PATH" } } }
}
node {
  calculator: "ResourceProviderCalculator"
  input_side_packet: "RESOURCE_ID:path"
  output_side_packet: "RESOURCE:resource"
}
node {
  calculator: "TfLiteModelCalculator"
  input_side_packet: "MODEL_RESOURCE:resource"
  output_side_packet: "MODEL:model"
}
node { calculator: "TfLiteCustomOpResolverCalculator" output_side_packet: "OP_RESOLVER:ops" }
node {
  calculator: "InferenceCalculator"
  input_stream: "TENSORS:input"
  output_stream: "TENSORS:output"
  input_side_packet: "MODEL:model"
  input_side_packet: "OP_RESOLVER:ops"
  options { [mediapipe.InferenceCalculatorOptions.ext] { delegate { xnnpack { } } } }
}
node {
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:output"
  output_stream: "FLOATS:values"
}
"""
