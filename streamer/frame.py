"""One picture and its clock: they enter together and leave together."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from engines import Rgb


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with the times that must never leave it.

    rgb_HW3      uint8 [H, W, 3], sRGB, contiguous
    pts          when it is shown, in units of `time_base`
    time_base    seconds per unit of `pts`
    captured_ns  when it was captured on the clock that the session steps on: monotonic nanoseconds for a camera, the
                 time of presentation for a file
    duration     how long it is shown, in units of `time_base`; 0 where nobody knows
    """

    rgb_HW3: Rgb
    pts: int
    time_base: Fraction
    captured_ns: int
    duration: int = 0

    @property
    def captured_s(self) -> float:
        """What `Session.step` takes as its clock."""
        return self.captured_ns / 1e9
