"""What a source gives: a picture or some sound, each with the moment at which it was captured."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from engines import Rgb
from streamer.colour import EXACT, Colour
from streamer.media import Turn

SOUND_RATE_HZ = 48_000
SOUND_TIME_BASE = Fraction(1, SOUND_RATE_HZ)
SOUND_SAMPLES = 960  # 20 ms, as Opus takes them
UPRIGHT = Turn()


@dataclass(frozen=True, slots=True)
class CapturedPicture:
    """A decoded picture, not yet RGB: `streamer.worker.Picture`, so a worker's seat takes it as it is.

    frame       as it was decoded, usually 4:2:0 or 4:2:2
    captured_s  when the camera took it, or when a file is due to show it: monotonic seconds, as `time.monotonic()`
    number      counts the source's pictures from 1, over reconnects
    colour      how its numbers mean colours
    turn        how a stored picture is brought upright
    size_px     width and height that `to_rgb` gives: the picture is scaled into it, with black bars where the
                proportions differ. None: as it comes, less a last odd row or column. A live picture is fitted before
                it is drawn, so that label and mark are not scaled afterwards
    """

    frame: VideoFrame
    captured_s: float
    number: int
    colour: Colour
    turn: Turn = UPRIGHT
    size_px: tuple[int, int] | None = None

    def to_rgb(self) -> Rgb:
        """uint8 [H, W, 3], contiguous, upright. Costs a conversion: in the worker thread only."""
        stored = self.frame.width, self.frame.height
        upright = stored[::-1] if self.turn.swap else stored
        if self.size_px is None:
            width_px, height_px = upright[0] // 2 * 2, upright[1] // 2 * 2
            rgb_HW3 = self.turn.upright(self.colour.to_rgb(self.frame))
            return np.ascontiguousarray(rgb_HW3[:height_px, :width_px])
        width_px, height_px = inside(upright, self.size_px)
        scaled_px = (height_px, width_px) if self.turn.swap else (width_px, height_px)
        picture_HW3 = self.turn.upright(_to_rgb(self.frame, self.colour, scaled_px))
        if (width_px, height_px) == self.size_px:
            return picture_HW3
        whole_HW3 = np.zeros((self.size_px[1], self.size_px[0], 3), np.uint8)
        left, top = (self.size_px[0] - width_px) // 2, (self.size_px[1] - height_px) // 2
        whole_HW3[top : top + height_px, left : left + width_px] = picture_HW3
        return whole_HW3


def inside(size_px: tuple[int, int], frame_px: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same proportions that fits into the frame: width and height, at least 1."""
    scale = min(frame_px[0] / size_px[0], frame_px[1] / size_px[1])
    return max(round(size_px[0] * scale), 1), max(round(size_px[1] * scale), 1)


def _to_rgb(frame: VideoFrame, colour: Colour, size_px: tuple[int, int]) -> Rgb:
    """Colours and size in one pass."""
    if size_px == (frame.width, frame.height):
        return colour.to_rgb(frame)
    rgb = frame.reformat(
        size_px[0],
        size_px[1],
        format="rgb24",
        interpolation=EXACT,
        src_colorspace=colour.matrix,
        src_color_range=colour.range,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return np.ascontiguousarray(rgb.to_ndarray(), np.uint8)


@dataclass(frozen=True, slots=True)
class CapturedSound:
    """20 ms of sound.

    frame       s16, packed, stereo, 48 kHz, 960 samples; `pts` counts samples (time base 1/48,000)
    captured_s  when its first sample was heard, on the clock of the pictures
    """

    frame: AudioFrame
    captured_s: float
