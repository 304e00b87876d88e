"""Where live pictures go: what a virtual camera of any kind has to be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from engines import Rgb

PixelFormat = Literal["yuyv", "i420", "nv12"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a sink's readers get. Sides are even."""

    width_px: int
    height_px: int
    fps: float
    pixel_format: PixelFormat


class Sink(Protocol):
    """A virtual camera. Opened, written to and closed by one thread; `readers` may be asked from any.

    Whatever is written may be seen by anybody: only pictures that a session made, and standby cards, get here.
    """

    @property
    def name(self) -> str:
        """What a person calls it: /dev/video9, "PipeWire camera"."""

    def open(self, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat | None) -> Shape:
        """Offers the camera to readers. None: what most readers take.

        Returns what was agreed on; pictures that are written have that size exactly. It differs from what was asked
        only where readers of an earlier writer still hold the device to another size.
        Raises SinkError: one sentence with a remedy (module not loaded, device missing, in use).
        """

    def write(self, rgb_HW3: Rgb, captured_s: float) -> None:
        """One picture of the agreed size, uint8 [H, W, 3], read only. Never waits for a reader; the newest wins.

        captured_s  when it was captured, monotonic seconds: for kinds whose readers get a timestamp
        Raises SinkError where the device is gone; then `close`, and `open` may be tried again.
        """

    def readers(self) -> int | None:
        """How many programs watch now; None where nobody can say (then everything is drawn). Cheap: asked 4 times a
        second."""

    def close(self) -> None:
        """The camera vanishes for its readers. Safe to call twice."""
