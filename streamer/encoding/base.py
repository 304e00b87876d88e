"""What all encoders share: a picture at a time, a rate that counts from the next one on, and an end at any moment."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from av.video.frame import VideoFrame

from streamer.transport.types import EncodedUnit, VideoCodec


class LockedEncoder(ABC):
    """The part of `types.Encoder` that does not depend on the codec. `close` may come while a picture is being coded:
    it waits for that one, and every later one is None."""

    codec: VideoCodec
    _closed = True  # an encoder whose `__init__` raised has nothing to free

    def __init__(self, name: str, bits_per_s: int) -> None:
        self.name = name
        self._wanted_bps = bits_per_s
        self._using = threading.Lock()
        self._closed = False

    def set_rate(self, bits_per_s: int) -> None:
        self._wanted_bps = bits_per_s

    def set_size(self, height_px: int, width_px: int) -> None:  # noqa: B027  there is nothing to do, for any of them
        """The next picture's own size counts."""

    def encode(self, frame: VideoFrame, force_key: bool) -> EncodedUnit | None:
        with self._using:
            return None if self._closed else self._encode(frame, force_key)

    def close(self) -> None:
        with self._using:
            self._closed = True
            self._free()

    def __del__(self) -> None:
        if not self._closed:
            self._free()

    @abstractmethod
    def _encode(self, frame: VideoFrame, force_key: bool) -> EncodedUnit | None: ...

    @abstractmethod
    def _free(self) -> None:
        """Frees the codec; there may be none, and another picture may open one again."""
