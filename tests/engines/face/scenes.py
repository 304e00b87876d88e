"""Pictures for the tests of the face side: clips read once, and people moved about in made scenes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

from engines.face.detect import FaceDetector
from engines.face.mediapipe_graph import image_packet
from engines.types import Box, Rgb

GREY = 150


@lru_cache(maxsize=8)
def clip(path: Path, limit: int = 120) -> tuple[Rgb, ...]:
    """The first frames of a clip, uint8 [H, W, 3]."""
    with av.open(str(path)) as container:
        frames: list[Rgb] = []
        for frame in container.decode(video=0):
            frames.append(np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8))
            if len(frames) == limit:
                break
    return tuple(frames)


def detected_box(rgb: Rgb) -> Box:
    """The surest face of a picture."""
    detector = FaceDetector()
    try:
        detector.feed(image_packet(rgb), both=True)
        return detector.collect(*rgb.shape[:2])[0].box_px
    finally:
        detector.close()


@dataclass(frozen=True)
class Actor:
    """A head cut out of a clip by an ellipse, that can be put anywhere."""

    frames: tuple[Rgb, ...]
    box_px: Box

    @classmethod
    def of(cls, path: Path) -> Actor:
        frames = clip(path)
        return cls(frames, detected_box(frames[0]))

    def put(self, scene: Rgb, index: int, x_px: float, y_px: float, width_px: int = 220) -> None:
        """Pastes the head of one frame with its middle at x, y. The clip runs forward and back."""
        last = len(self.frames) - 1
        frame = self.frames[last - abs(last - index % (2 * last))]
        reach = int(self.box_px.width_px * 1.15)
        middle_x = int((self.box_px.left_px + self.box_px.right_px) / 2)
        middle_y = int((self.box_px.top_px + self.box_px.bottom_px) / 2)
        head = frame[max(middle_y - reach, 0) : middle_y + reach, middle_x - reach : middle_x + reach]
        head = np.array(Image.fromarray(head).resize((width_px, width_px * head.shape[0] // head.shape[1])))
        down, across = np.mgrid[: head.shape[0], : head.shape[1]]
        inside = ((across / width_px - 0.5) / 0.34) ** 2 + ((down / width_px - 0.5) / 0.45) ** 2 < 1
        left, top = int(x_px - width_px / 2), int(y_px - width_px / 2)
        rows = slice(max(top, 0), min(top + head.shape[0], scene.shape[0]))
        columns = slice(max(left, 0), min(left + width_px, scene.shape[1]))
        cut = np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        scene[rows, columns][inside[cut]] = head[cut][inside[cut]]


def empty(height_px: int = 480, width_px: int = 640) -> Rgb:
    return np.full((height_px, width_px, 3), GREY, np.uint8)
