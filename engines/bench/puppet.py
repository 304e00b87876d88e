"""A face that nobody owns, moving before a wall: what `vividstream bench` films where there is no camera.

A built-in persona (a person who does not exist) is laid over a plain head that turns, nods, speaks and blinks. The
tracker takes it for a face, and all stages of a step have their usual work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engines.face.mesh import LEFT_EYE, RIGHT_EYE
from engines.identity import Identity
from engines.settings import SwapSettings
from engines.swappers.base import Inputs
from engines.swappers.proxy import Proxy
from engines.types import LANDMARKS, SKIN_LANDMARKS, Floats, Rgb, TrackedFace

FACE_SHARE = 0.5  # of the picture's height, brow to chin
IRIS_CM, EYE_WHITE, PUPIL = 0.6, (226, 222, 218), (24, 18, 16)
CORNERS = ((33, 133, 159, 145), (263, 362, 386, 374))  # of each eye: outer, inner, upper, lower
NOISE_LEVELS = 2.0  # of 255, so that nothing in the pictures is too clean


@dataclass(frozen=True, slots=True)
class Puppet:
    """Frames of uint8 [height, width, 3], `fps` a second, the same for the same seed."""

    identity: Identity
    height_px: int
    width_px: int
    fps: float = 25.0
    seed: int = 0

    def frames(self, count: int) -> Iterator[Rgb]:
        """`count` pictures, each new."""
        proxy = Proxy()
        state, settings = proxy.init(), SwapSettings(tone="identity")
        rng = np.random.default_rng(self.seed)
        try:
            for index in range(count):
                captured_s = index / self.fps
                points = self.points_px(captured_s)
                scene = self._scene(points)
                picture = scene.copy()
                face = TrackedFace(0, points, points, 1.0)
                proxy.draw(state, self.identity, Inputs(scene, face, None, captured_s), settings, picture)
                noisy = picture + rng.normal(0, NOISE_LEVELS, picture.shape)
                yield np.clip(np.round(noisy), 0, 255).astype(np.uint8)
        finally:
            proxy.close()

    def points_px(self, captured_s: float) -> Floats:
        """The puppet's 478 landmarks at a time, float32 [478, 3]: it turns by 20 degrees, nods by 8, and speaks."""
        shape = self.identity.shape_S3.astype(np.float64)
        shape = shape - shape.mean(axis=0)
        chin = np.clip((shape[:, 1] - np.percentile(shape[:, 1], 80)) / 2.0, 0, 1)
        shape[:, 1] += 0.5 * chin * (1 + math.sin(9.0 * captured_s))
        turned = shape @ _turn(0.35 * math.sin(1.3 * captured_s), 0.14 * math.sin(2.1 * captured_s)).T
        points = np.zeros((LANDMARKS, 3))
        points[:SKIN_LANDMARKS] = turned * self._px_per_cm()
        for first, corners in zip((468, 473), CORNERS, strict=True):
            radius = IRIS_CM * self._px_per_cm()
            around = [(0, 0), (radius, 0), (0, -radius), (-radius, 0), (0, radius)]
            points[first : first + 5] = points[list(corners)].mean(axis=0)
            points[first : first + 5, :2] += around
        sway = 0.05 * self.height_px * math.sin(0.9 * captured_s)
        points[:, :2] += (self.width_px / 2 + sway, self.height_px * 0.52)
        return points.astype(np.float32)

    def _px_per_cm(self) -> float:
        return FACE_SHARE * self.height_px / float(np.ptp(self.identity.shape_S3[:, 1]))

    def _scene(self, points: Floats) -> Rgb:
        """Wall, head and eyes; the face itself is laid over it."""
        y, x = np.mgrid[: self.height_px, : self.width_px] / self.height_px
        wall = np.stack([140 + 40 * np.sin(4 * x), 150 + 30 * np.cos(5 * y), 160 - 30 * x], axis=-1)
        image = Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        skin = tuple(int(value) for value in np.median(self.identity.albedo_AA3[256:768:16, 256:768:16], axis=(0, 1)))
        middle, reach = points[:SKIN_LANDMARKS, :2].mean(axis=0), np.ptp(points[:SKIN_LANDMARKS, :2], axis=0)
        for grown, lift, colour in ((0.68, 0.2, (48, 36, 30)), (0.58, 0.08, skin)):
            top = middle - np.array([grown * reach[0], (grown + lift) * reach[1]])
            bottom = middle + np.array([grown * reach[0], 0.6 * reach[1]])
            draw.ellipse((*top, *bottom), fill=colour)
        for first, outline in zip((468, 473), (RIGHT_EYE, LEFT_EYE), strict=True):
            draw.polygon([(float(px), float(py)) for px, py in points[outline, :2]], fill=EYE_WHITE)
            (cx, cy), radius = points[first, :2], 0.45 * float(np.ptp(points[first : first + 5, 0]))
            iris = tuple(int(value) for value in self.identity.iris_rgb)
            for size, colour in ((radius, iris), (0.45 * radius, PUPIL)):
                draw.ellipse((cx - size, cy - size, cx + size, cy + size), fill=colour)
        return np.array(image)


def _turn(yaw_rad: float, pitch_rad: float) -> NDArray[np.float64]:
    cy, sy, cp, sp = math.cos(yaw_rad), math.sin(yaw_rad), math.cos(pitch_rad), math.sin(pitch_rad)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.asarray(yaw @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]))
