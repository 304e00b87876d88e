"""Layouts of a virtual camera's pictures, held against FFmpeg's reading of them."""

from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame

from streamer.camera.layouts import LAYOUTS, picture_bytes, row_bytes
from streamer.camera.sink import PixelFormat

FFMPEG = {"i420": "yuv420p", "nv12": "nv12", "yuyv": "yuyv422"}


@pytest.mark.parametrize("pixels", ["i420", "nv12", "yuyv"])
def test_ffmpeg_reads_the_same_picture(pixels: PixelFormat) -> None:
    height_px, width_px = 240, 320
    rgb = np.zeros((height_px, width_px, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.linspace(0, 255, width_px)[None], np.linspace(0, 255, height_px)[:, None]
    rgb[40:80, 40:80] = (0, 0, 255)
    flat = LAYOUTS[pixels](rgb)
    assert flat.size == picture_bytes(pixels, width_px, height_px)
    rows = flat.reshape(height_px, width_px, 2) if pixels == "yuyv" else flat.reshape(-1, row_bytes(pixels, width_px))
    seen = VideoFrame.from_ndarray(rows, format=FFMPEG[pixels]).to_ndarray(format="rgb24").astype(int)
    assert np.median(np.abs(seen - rgb)) <= 3
    assert np.percentile(np.abs(seen - rgb), 99) < 16
