"""Things that pass before a face, with their exact outlines: drawn ones, and a hand cut out of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from engines.types import Rgb
from tests.engines.face.scenes import clip

Outline = NDArray[np.bool_]
HAND_CLIP, HAND_FRAME = "clips/asl/asl_please.mkv", 36  # a flat hand before a grey shirt


@dataclass(frozen=True)
class Thing:
    """Pixels uint8 [h, w, 3], and which of them belong to it."""

    rgb: Rgb
    outline: Outline

    def over(self, scene: Rgb, x_px: float, y_px: float) -> tuple[Rgb, Outline]:
        """The scene with the thing's middle at x, y, and where it covers the scene."""
        height, width = self.outline.shape
        left, top = int(x_px - width / 2), int(y_px - height / 2)
        rows = slice(max(top, 0), min(top + height, scene.shape[0]))
        columns = slice(max(left, 0), min(left + width, scene.shape[1]))
        out, truth = scene.copy(), np.zeros(scene.shape[:2], bool)
        if rows.start < rows.stop and columns.start < columns.stop:
            cut = np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            out[rows, columns][self.outline[cut]] = self.rgb[cut][self.outline[cut]]
            truth[rows, columns] = self.outline[cut]
        return out, truth


def paper() -> Thing:
    rgb = np.full((150, 120, 3), 232, np.uint8)
    rgb[20:130:12, 15:105] = 140
    return Thing(rgb, np.ones((150, 120), bool))


def cup() -> Thing:
    shade = 0.7 + 0.6 * np.sin(np.pi * np.arange(90) / 90)
    rgb = np.clip(np.array([40, 70, 140]) * shade[None, :, None] * np.ones((110, 1, 1)), 0, 255)
    return Thing(rgb.astype(np.uint8), np.ones((110, 90), bool))


def microphone() -> Thing:
    down, across = np.mgrid[:220, :60]
    outline = ((across - 30) ** 2 + (down - 30) ** 2 < 28**2) | ((abs(across - 30) < 10) & (down > 40))
    glint = 40 * np.exp(-((across - 22) ** 2 + (down - 22) ** 2) / 150.0)
    return Thing(np.repeat((35 + glint)[..., None], 3, axis=2).astype(np.uint8), outline)


def hand(data: Path, enlarged: float = 2.3) -> Thing:
    """A real hand, told from a grey shirt by its colour."""
    frame = clip(data / HAND_CLIP)[HAND_FRAME]
    red, green, blue = (frame[..., channel].astype(np.float32) + 8 for channel in range(3))
    skin = (np.log(red / green) > 0.10) & (np.log(blue / green) < 0.02)
    skin[:200] = False  # the face
    labels, count = ndimage.label(ndimage.binary_opening(skin))
    largest = 1 + int(np.argmax(ndimage.sum(skin, labels, range(1, count + 1))))
    outline = ndimage.binary_fill_holes(ndimage.binary_closing(labels == largest, iterations=2))
    (rows, columns) = ndimage.find_objects(outline.astype(int))[0]
    size = int((columns.stop - columns.start) * enlarged), int((rows.stop - rows.start) * enlarged)
    rgb = np.array(Image.fromarray(frame[rows, columns]).resize(size, Image.Resampling.BICUBIC))
    large = np.array(Image.fromarray(outline[rows, columns]).resize(size, Image.Resampling.NEAREST))
    return Thing(rgb, large)


def passing(
    scene: tuple[Rgb, ...], thing: Thing, clear: int, count: int, down_px: float = 240
) -> Iterator[tuple[Rgb, Outline]]:
    """A clip, forward and back, with a thing that crosses it from left to right after `clear` frames without it."""
    last = len(scene) - 1
    for index in range(clear + count):
        frame = scene[last - abs(last - index % (2 * last))]
        if index < clear:
            yield frame, np.zeros(frame.shape[:2], bool)
        else:
            way = (index - clear) / (count - 1)
            yield thing.over(frame, 130 + 310 * way, down_px + 40 * np.sin(5 * way))
