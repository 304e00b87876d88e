"""Which of a camera's modes to take: arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from streamer.v4l2.devices import Mode

# What can be read, best first. MJPEG before all: uncompressed pictures fill USB 2 at 5 a second in 1080p, and most
# cameras offer their rate only with it. H.264 from cameras comes with delay and is left alone.
READABLE = ("MJPG", "JPEG", "NV12", "YU12", "YUYV", "UYVY", "RGB3", "BGR3", "GREY")
ENOUGH = 0.95  # of the wished rate: 29.97 will do for 30
LEAST_FPS = 24.0  # below, a face stutters; more than this is worth less than the size that was asked for


def choose_mode(modes: Sequence[Mode], width_px: int, height_px: int, fps: float) -> Mode | None:
    """The mode that comes nearest to the wish; None where none can be read.

    First it must be fast enough, then near in size (one that is too small counts double), then MJPEG, then faster.
    """
    readable = [mode for mode in modes if mode.format in READABLE]
    if not readable:
        return None

    def badness(mode: Mode) -> tuple[bool, bool, float, int, float]:
        known = mode.fps or fps  # one that does not say is believed
        far = math.log2(mode.width_px * mode.height_px / (width_px * height_px))
        return (
            known < ENOUGH * min(fps, LEAST_FPS),
            known < ENOUGH * min(fps, 10.0),  # of slow ones rather 10 a second than 5
            abs(far) if far >= 0 else -2 * far,
            READABLE.index(mode.format),
            abs(known - fps),
        )

    return min(readable, key=badness)
