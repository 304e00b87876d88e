"""What a source gives: a picture or some sound, each with the moment at which it was captured."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from engines import Rgb
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
    turn        how a stored picture is brought upright
    size_px     width and height that `to_rgb` gives: the picture is scaled into it, with black bars where the
                proportions differ. None: as it comes. A live picture is fitted before it is drawn, so that label and
                mark are not scaled afterwards
    """

    frame: VideoFrame
    captured_s: float
    number: int
    turn: Turn = UPRIGHT
    size_px: tuple[int, int] | None = None

    def to_rgb(self) -> Rgb:
        """uint8 [H, W, 3], contiguous, upright. Costs a conversion: in the worker thread only."""
        rgb = self.frame.reformat(format="rgb24", threads=1)
        return self.turn.upright(np.ascontiguousarray(rgb.to_ndarray(), np.uint8))


@dataclass(frozen=True, slots=True)
class CapturedSound:
    """20 ms of sound.

    frame       s16, packed, stereo, 48 kHz, 960 samples; `pts` counts samples (time base 1/48,000) without a gap while
                the source is live
    captured_s  when its first sample was heard, on the clock of the pictures
    """

    frame: AudioFrame
    captured_s: float
