"""Networks that a person brings as a file, and what they take: face recognisers, Hopenet, Deep3D. None comes with this
project; each is named in reports by its sha256.

A = side of the net's picture. Every net is an ONNX file of one input [1, 3, A, A] (a first side that the file leaves
open is taken as 1), and is run by ONNX Runtime on the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distill.evaluate.judge import Judge as Dlib
from distill.evaluate.judge import dlib_box
from engines import EngineUnavailable, Rgb, SettingError
from engines.errors import EngineRefused
from engines.face.align import crop
from engines.face.five_points import TEMPLATES, Template, five_points, similarity
from engines.graph import GraphSpec, TensorSpec
from engines.runtimes.base import Runtime
from engines.swappers.onnx.graph_file import GraphFile, read_graph
from engines.types import Floats

Vector = NDArray[np.float64]  # [D], of length 1
CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Raises EngineUnavailable where the file cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise EngineUnavailable(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


class Net:
    """An ONNX file of one input and any outputs. Raises EngineRefused where its input is another than `shape`."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        from engines.runtimes.ort import OrtFile

        graph = read_graph(path)
        if len(graph.inputs) != 1 or not _fits(graph.inputs[0].shape, shape):
            raise EngineRefused(f"{path}: takes {graph}, not one picture {list(shape)}")
        self.path, self.sha256 = path, sha256_of(path)
        self._input = graph.inputs[0].name
        outputs = tuple(TensorSpec(one.name, _known(graph, one.shape)) for one in graph.outputs)
        spec = GraphSpec(path.stem, (TensorSpec(self._input, shape),), outputs)
        self._runtime: Runtime = OrtFile(path, spec, threads=1)
        self.outputs = tuple(one.name for one in outputs)

    def run(self, given: Floats) -> list[Floats]:
        """All outputs, in the file's order, float32."""
        found = self._runtime.run(self._runtime.init(), {self._input: given}, {})
        return [np.asarray(found[name], np.float32) for name in self.outputs]

    def close(self) -> None:
        self._runtime.close()


def _fits(has: tuple[int | None, ...], wants: tuple[int, ...]) -> bool:
    return len(has) == len(wants) and all(a is None or a == b for a, b in zip(has, wants))


def _known(graph: GraphFile, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """An output's shape for a batch of 1. Only the first side may be open."""
    sides = (1 if shape and shape[0] is None else shape[0] if shape else None, *shape[1:])
    if any(side is None for side in sides):
        raise EngineRefused(f"{graph.path}: leaves the size of what it gives open: {graph}")
    return tuple(side for side in sides if side is not None)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a recogniser is shown.

    template, template_px   where the face's five points lie, and the side of the picture that is cut
    within                  left, top, right, bottom in that picture: the part that is shown, enlarged to `side_px`
    bgr                     channels in the order blue, green, red; levels are -1..1 for all
    """

    side_px: int = 112
    template: Template = "arcface_112_v2"
    template_px: int = 112
    within: tuple[int, int, int, int] = (0, 0, 112, 112)
    bgr: bool = False

    def picture(self, rgb_HW3: Rgb, points_px: Floats) -> Floats:
        """float32 [1, 3, A, A], -1..1."""
        left, top, right, bottom = self.within
        scale = self.side_px / np.array([right - left, bottom - top])
        # Pixel centres are whole numbers: the middle of the first one lies half a pixel inside.
        onto = (TEMPLATES[self.template] * self.template_px - (left, top) + 0.5) * scale - 0.5
        if np.array_equal(scale, (1, 1)):
            onto = TEMPLATES[self.template] * self.template_px - (left, top)
        cut = crop(rgb_HW3, similarity(five_points(points_px), np.asarray(onto, np.float32)), self.side_px)
        cut = cut[..., ::-1] if self.bgr else cut
        return np.ascontiguousarray(cut.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1, np.float32)


PREPROCESSINGS: Mapping[str, Preprocessing] = MappingProxyType(
    {
        "arcface": Preprocessing(),  # insightface's (w600k_r50, glint360k), BlendFace, CurricularFace
        "adaface": Preprocessing(bgr=True),
        # As REFace's evaluation shows it: FFHQ's crop at 256, its middle, at 112; but without face parsing's mask.
        "ir_se50": Preprocessing(template="ffhq_512", template_px=256, within=(32, 35, 220, 223)),
    }
)


class Judge(Protocol):
    """Says who a face is. `networks`: sha256 of each file, so that a training loss's network can be told."""

    name: str
    networks: tuple[str, ...]

    def describe(self, rgb_HW3: Rgb, points_px: Floats) -> Vector:
        """A vector of length 1 of the face with those landmarks."""
        ...

    def close(self) -> None: ...


class DlibJudge:
    """dlib's recogniser (extra `eval`): no engine and no loss of this project ever saw it."""

    name = "dlib"

    def __init__(self) -> None:
        self._judge = Dlib()
        self.networks = tuple(map(sha256_of, self._judge.files))

    def describe(self, rgb_HW3: Rgb, points_px: Floats) -> Vector:
        return unit(self._judge.describe(rgb_HW3, dlib_box(points_px[:468])))

    def close(self) -> None:
        """Nothing is held."""


class OnnxJudge:
    """A recogniser from a file."""

    def __init__(self, kind: str, path: Path) -> None:
        if kind not in PREPROCESSINGS:
            raise SettingError(f'no judge is called "{kind}"; valid: dlib, {", ".join(PREPROCESSINGS)}')
        self.name = f"{kind} {path.name}"
        self._shown = PREPROCESSINGS[kind]
        self._net = Net(path, (1, 3, self._shown.side_px, self._shown.side_px))
        self.networks: tuple[str, ...] = (self._net.sha256,)

    def describe(self, rgb_HW3: Rgb, points_px: Floats) -> Vector:
        return unit(self._net.run(self._shown.picture(rgb_HW3, points_px))[0].reshape(-1))

    def close(self) -> None:
        self._net.close()


def open_judge(text: str) -> Judge:
    """`dlib`, or KIND=FILE with a kind of PREPROCESSINGS."""
    kind, equals, path = text.partition("=")
    if not equals:
        if kind == "dlib":
            return DlibJudge()
        raise SettingError(f'"{text}" is no judge: dlib, or KIND=FILE.onnx with {", ".join(PREPROCESSINGS)}')
    return OnnxJudge(kind, Path(path))


def unit(vector: Floats | Vector) -> Vector:
    """The same direction, length 1. Raises EngineRefused where it has none."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not 1e-9 < length < float("inf"):
        raise EngineRefused("a judge gave a vector that has no direction")
    return np.asarray(vector.astype(np.float64) / length)


class PoseNet:
    """Hopenet's angles (Ruiz et al., arXiv 1710.00925): softmax over 66 bins of 3 degrees each, for yaw, pitch, roll.

    The crop is ours: upright, REACH times the landmarks' box; Hopenet's own demo takes a detector's box, half enlarged.
    """

    SIDE_PX, BINS, REACH = 224, 66, 1.5

    def __init__(self, path: Path) -> None:
        self._net = Net(path, (1, 3, self.SIDE_PX, self.SIDE_PX))
        self.sha256 = self._net.sha256
        if len(self._net.outputs) < 3:
            raise EngineRefused(f"{path}: has {len(self._net.outputs)} outputs; Hopenet has three, one for each angle")

    def angles_deg(self, rgb_HW3: Rgb, points_px: Floats) -> Floats:
        """Yaw, pitch, roll, float32 [3]."""
        bins = [row.reshape(-1)[: self.BINS] for row in self._net.run(imagenet(self._picture(rgb_HW3, points_px)))[:3]]
        return np.array([expected_angle(row) for row in bins], np.float32)

    def _picture(self, rgb_HW3: Rgb, points_px: Floats) -> Rgb:
        low, high = points_px[:, :2].min(axis=0), points_px[:, :2].max(axis=0)
        scale = self.SIDE_PX / (self.REACH * float((high - low).max()))
        shift = (self.SIDE_PX - 1) / 2 - scale * (low + high) / 2
        return crop(rgb_HW3, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32), self.SIDE_PX)

    def close(self) -> None:
        self._net.close()


def expected_angle(logits: Floats) -> float:
    """Of 66 bins: 3 sum(i p_i) - 99 degrees."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return float(3 * (np.arange(len(powers)) @ powers) / powers.sum() - 99)


def imagenet(rgb_SS3: Rgb) -> Floats:
    """float32 [1, 3, A, A] by ImageNet's mean and spread."""
    scaled = (rgb_SS3.astype(np.float32) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], np.float32)


class ExpressionNet:
    """Deep3DFaceRecon's 64 expression coefficients (Deng et al., arXiv 1903.08527), numbers 80 to 143 of 257."""

    SIDE_PX, FACE_PX, FIRST, COUNT = 224, 102.0, 80, 64
    # Its five points in space, x to the picture's right and y up (lm3D_std; MIT, sicxu/Deep3DFaceRecon_pytorch).
    STANDARD = np.array(
        "-.31148657 .29036078 .13377953  .30979887 .28972036 .13179526  .0032535 -.04617932 .55244243 "
        "-.25216928 -.38133916 .22405732  .2484662 -.38128236 .22235769".split(),
        np.float64,
    ).reshape(5, 3)

    def __init__(self, path: Path) -> None:
        self._net = Net(path, (1, 3, self.SIDE_PX, self.SIDE_PX))
        self.sha256 = self._net.sha256

    def coefficients(self, rgb_HW3: Rgb, points_px: Floats) -> Floats:
        """float32 [64]."""
        scale, shift = self.laid(five_points(points_px).astype(np.float64))
        cut = crop(rgb_HW3, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32), self.SIDE_PX)
        given = np.ascontiguousarray(cut.transpose(2, 0, 1)[None].astype(np.float32) / 255, np.float32)
        found = self._net.run(given)[0].reshape(-1)
        if found.size < self.FIRST + self.COUNT:
            raise EngineRefused(f"{self._net.path}: gives {found.size} numbers; Deep3D's network gives 257")
        return found[self.FIRST : self.FIRST + self.COUNT]

    def laid(self, points_52: Vector) -> tuple[float, Vector]:
        """Scale and shift of the crop: the camera that fits the five points best (scaled orthography), then the face
        at 102 px per unit with its origin in the middle."""
        design = np.concatenate([self.STANDARD, np.ones((5, 1))], 1)
        across, down = (np.linalg.lstsq(design, points_52[:, i], rcond=None)[0] for i in (0, 1))
        size = (np.linalg.norm(across[:3]) + np.linalg.norm(down[:3])) / 2
        scale = self.FACE_PX / float(size)
        return scale, self.SIDE_PX / 2 - scale * np.array([across[3], down[3]])

    def close(self) -> None:
        self._net.close()
