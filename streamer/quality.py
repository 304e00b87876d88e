"""What the camera is asked for while the machine or the line cannot keep up: values in, values out, time passed in.

The newest picture always wins, so nothing queues up; but pictures that are decoded only to be dropped are wasted work,
and what is late at the worker is delay. So the camera is asked for fewer pictures, then for smaller ones, before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

FULL_FPS = 30
LADDER: tuple[tuple[int, float], ...] = (
    *product((FULL_FPS, 24, 20, 15), (1.0,)),  # the rate first: a face that moves a little less often is still itself
    *product((15,), (1.5, 2.0)),
    *product((12, 10), (2.0, 3.0)),
)
MOST_SHARE = 0.85  # of a worker's time: above it pictures begin to wait for each other
UP_SHARE = 0.70  # that a higher step may take, as far as can be told
MOST_DROPPED = 0.15  # of the pictures that came: an engine that is a little slower than the camera drops this much
MOST_QUEUE_S = 0.080  # that packets wait to be sent
LEAST_BITS_PER_PIXEL = 0.020  # below it a picture of a person falls apart
UP_BITS_PER_PIXEL = 0.035
BITS_PER_PIXEL_IN = 0.12  # that a camera is allowed, for those that only know a bit rate
LOOKS_UNTIL_DOWN = 2  # in a row with pressure
SETTLE_S = 3.0  # after a change: it takes a moment until the camera does it and the numbers show it
FIRST_PATIENCE_S = 10.0  # without pressure before a step up is tried
MOST_PATIENCE_S = 160.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """What the last second was like.

    share            of the worker's time that pictures take, 0..1
    came, dropped    pictures that the camera sent, and those of them that a newer one overtook before the worker
    queue_s          how long packets wait to be sent
    bits_per_s       that the line to the viewer carries, as far as is known; 0: not known
    pixels           of one picture as it comes now
    """

    share: float
    came: int
    dropped: int
    queue_s: float = 0.0
    bits_per_s: int = 0
    pixels: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """What the camera is asked for. `scale` 2: half the width, half the height. `why`: "" when nothing presses."""

    fps: int = FULL_FPS
    scale: float = 1.0
    why: str = ""

    def bits_per_s(self, full_pixels: int) -> int:
        """For a sender that cannot be asked for more than a bit rate; `full_pixels` at scale 1."""
        return round(BITS_PER_PIXEL_IN * full_pixels / self.scale**2 * self.fps)


class Quality:
    """Goes down the ladder before delay can grow, and up again with more and more patience where that was too early."""

    def __init__(self) -> None:
        self.ask = Ask()
        self._step = 0
        self._pressed = 0  # looks in a row
        self._changed_s = float("-inf")
        self._calm_since_s: float | None = None
        self._patience_s = FIRST_PATIENCE_S
        self._went_up_s = float("-inf")

    def look(self, now_s: float, pressure: Pressure) -> Ask | None:
        """Once a second. What to ask for from now on, or None where that stays as it is."""
        if now_s - self._changed_s < SETTLE_S or pressure.came == 0:
            return None
        why = self._why(pressure)
        if why:
            self._calm_since_s = None
            self._pressed += 1
            return self._down(now_s, pressure, why) if self._pressed >= LOOKS_UNTIL_DOWN else None
        self._pressed = 0
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        if self._step > 0 and now_s - self._calm_since_s >= self._patience_s and self._fits(self._step - 1, pressure):
            self._went_up_s = now_s
            return self._go(self._step - 1, now_s, self.ask.why)
        return None

    def _why(self, pressure: Pressure) -> str:
        """What presses, as a word."""
        if pressure.share > MOST_SHARE or pressure.dropped > MOST_DROPPED * pressure.came:
            return "engine"
        if pressure.queue_s > MOST_QUEUE_S:
            return "line"
        if 0 < self._bits_per_pixel(self._step, pressure) < LEAST_BITS_PER_PIXEL:
            return "line"
        return ""

    def _down(self, now_s: float, pressure: Pressure, why: str) -> Ask | None:
        if self._step == len(LADDER) - 1:
            return None
        if now_s - self._went_up_s < 2 * FIRST_PATIENCE_S:  # the step up was too early
            self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
        step = self._step + 1
        if why == "engine":  # straight to the rate that it can do, where that is known
            possible = MOST_SHARE * max(pressure.came - pressure.dropped, 1) / max(pressure.share, 0.01)
            while step + 1 < len(LADDER) and LADDER[step][0] > possible and LADDER[step + 1][1] == LADDER[step][1]:
                step += 1
        return self._go(step, now_s, why)

    def _go(self, step: int, now_s: float, why: str) -> Ask:
        self._step, self._changed_s, self._calm_since_s, self._pressed = step, now_s, None, 0
        fps, scale = LADDER[step]
        self.ask = Ask(fps, scale, why if step else "")
        return self.ask

    def _fits(self, step: int, pressure: Pressure) -> bool:
        """Whether a higher step would not press, as far as can be told: engines are taken to need time by the pixel."""
        (fps, scale), (fps_now, scale_now) = LADDER[step], LADDER[self._step]
        more = fps / fps_now * (scale_now / scale) ** 2
        per_pixel = self._bits_per_pixel(step, pressure)
        return pressure.share * more <= UP_SHARE and (per_pixel == 0 or per_pixel >= UP_BITS_PER_PIXEL)

    def _bits_per_pixel(self, step: int, pressure: Pressure) -> float:
        """What the line would give each pixel at this step; 0: not known."""
        fps, scale = LADDER[step]
        pixels = pressure.pixels * (LADDER[self._step][1] / scale) ** 2
        return pressure.bits_per_s / (pixels * fps) if pixels else 0.0
