"""Real faces for tests of the server, and a check of whether a picture shows one of them as the camera saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from engines import Box, Identity, Rgb
from engines.face.texture import Photo, build_texture
from engines.face.track import FaceTracker
from tests.streamer.calls import identity

# Likeness is a correlation of fine detail: 1 the same face, about 0 none or another one. A raw face that went through
# two encoders still reaches 0.8; the test of the check itself holds these apart.
RAW = 0.6


def clip_pictures(path: Path, most: int = 72) -> list[Rgb]:
    """The first pictures of a clip, uint8 [H, W, 3]."""
    with av.open(str(path)) as media:
        pictures = [np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in media.decode(video=0)]
    return pictures[:most]


def face_box(pictures: Sequence[Rgb]) -> Box:
    """Around brows, eyes, nose and mouth of the only face, in all of the pictures."""
    tracker = FaceTracker(max_faces=1, follow="one")
    state = tracker.init()
    points = []
    for number, picture in enumerate(pictures):
        tracking = tracker.step(state, picture, number / 30)
        points += [face.points_px[:468, :2] for face in tracking.faces]
    tracker.close()
    assert points, "no face in the clip"
    every = np.concatenate(points)
    (left, top), (right, bottom) = every.min(0), every.max(0)
    inset_x, inset_y = 0.15 * (right - left), 0.15 * (bottom - top)
    return Box(left + inset_x, top + inset_y, right - inset_x, bottom - inset_y)


@dataclass(frozen=True)
class RawFace:
    """The real face in each picture of the camera: `likeness` says how much of it a picture shows."""

    box: Box
    details: NDArray[np.float32]  # [pictures, pixels], zero mean, unit length

    @classmethod
    def of(cls, pictures: Sequence[Rgb], box: Box) -> RawFace:
        return cls(box, np.stack([_detail(picture, box) for picture in pictures]))

    def likeness(self, rgb_HW3: Rgb) -> float:
        """The greatest correlation with any of the camera's pictures, -1..1. Another size is scaled by the caller."""
        return float((self.details @ _detail(rgb_HW3, self.box)).max())

    def negative(self, rgb_HW3: Rgb) -> float:
        """The smallest correlation: -1 for the negative of one of the camera's pictures."""
        return float((self.details @ _detail(rgb_HW3, self.box)).min())


def _detail(rgb_HW3: Rgb, box: Box) -> NDArray[np.float32]:
    """Fine detail of the box, brightness and broad light taken out: what makes a face recognisable."""
    grey = rgb_HW3[int(box.top_px) : int(box.bottom_px), int(box.left_px) : int(box.right_px)].mean(2, dtype=np.float32)
    band = ndimage.gaussian_filter(grey, 1.0) - ndimage.gaussian_filter(grey, 8.0)
    flat = (band - band.mean()).ravel()
    length = float(np.linalg.norm(flat))
    # A plain card has no detail: its noise must not be blown up to a face.
    return np.asarray(flat / max(length, 0.5 * flat.size**0.5), np.float32)


def photo_identity(photo: Path) -> Identity:
    """Somebody to wear, from a photo of a person who does not exist."""
    picture = np.array(Image.open(photo).convert("RGB"))
    tracker = FaceTracker(max_faces=1, follow="one")
    face = tracker.step(tracker.init(), picture, 0.0).faces[0]
    tracker.close()
    texture = build_texture([Photo(picture, face.points_px)])
    return replace(
        identity(photo.stem),
        albedo_AA3=texture.albedo_AA3,
        confidence_AA=texture.confidence_AA,
        shape_S3=texture.shape_S3,
        iris_rgb=texture.iris_rgb,
    )
