"""A sink that is opened again where it is lost."""

from __future__ import annotations

import logging

from engines import Rgb
from streamer.camera.sink import PixelFormat, Shape, Sink
from streamer.errors import SinkError

REOPEN_S = 2.0  # how often a sink that is gone is tried again

log = logging.getLogger(__name__)


class Outlet:
    """One sink, reopened where it is lost. In the output thread, but for `readers`."""

    def __init__(self, sink: Sink, fps: float, pixel_format: PixelFormat | None) -> None:
        self.sink = sink
        self._fps, self._pixel_format = fps, pixel_format
        self.shape: Shape | None = None
        self.lost = ""
        self.written = self.losses = 0
        self._retry_s = 0.0

    def open(self, width_px: int, height_px: int) -> None:
        """Raises SinkError."""
        self.shape = self.sink.open(width_px, height_px, self._fps, self._pixel_format)
        self.lost = ""

    def write(self, rgb_HW3: Rgb, captured_s: float, now_s: float) -> bool:
        """Whether it was written. A sink that is gone is tried again now and then."""
        try:
            if self.shape is None:
                if now_s < self._retry_s:
                    return False
                self._retry_s = now_s + REOPEN_S
                self.open(rgb_HW3.shape[1], rgb_HW3.shape[0])
                self._check(rgb_HW3)
            self.sink.write(rgb_HW3, captured_s)
        except SinkError as error:
            if str(error) != self.lost:
                log.warning("%s", error)
            self.lost = str(error)
            self.losses += self.shape is not None
            self.shape, self._retry_s = None, now_s + REOPEN_S
            self.sink.close()
            return False
        self.written += 1
        return True

    def _check(self, rgb_HW3: Rgb) -> None:
        assert self.shape is not None
        size_px = rgb_HW3.shape[1], rgb_HW3.shape[0]
        if size_px != (self.shape.width_px, self.shape.height_px):
            held = f"{self.shape.width_px}x{self.shape.height_px}"
            raise SinkError(f"{self.sink.name} came back with {held}; close the programs that read it")
