"""Buffers that are shared with the driver, for both directions: a camera's pictures, a loopback device's."""

from __future__ import annotations

import mmap
import os
import select
from contextlib import suppress
from ctypes import c_int32
from dataclasses import dataclass

from streamer.v4l2 import abi

BUFFERS = 4


@dataclass(frozen=True, slots=True)
class Taken:
    """One picture as the driver gave it."""

    data: bytes
    captured_s: float | None  # monotonic seconds; None where the driver's clock is another
    sequence: int
    damaged: bool


class Stream:
    """The buffers of one open device in one direction. Raises OSError, as every call here may; then `close`."""

    def __init__(self, fd: int, direction: int) -> None:
        self._fd, self._direction = fd, direction
        self._maps: list[mmap.mmap] = []
        self._running = False
        self._next = 0  # buffer to fill

    def start(self) -> None:
        """Shares the buffers and begins."""
        request = abi.RequestBuffers(count=BUFFERS, type=self._direction, memory=abi.MMAP)
        abi.call(self._fd, abi.REQBUFS, request)
        for index in range(request.count):
            buffer = self._buffer(index)
            abi.call(self._fd, abi.QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.m.offset))
            if self._direction == abi.CAPTURE:
                abi.call(self._fd, abi.QBUF, self._buffer(index))
        abi.call(self._fd, abi.STREAMON, c_int32(self._direction))
        self._running = True

    def take(self, timeout_s: float) -> Taken | None:
        """The next picture of a camera, copied; None where none came in time."""
        ready, _, broken = select.select([self._fd], [], [self._fd], timeout_s)
        if not ready and not broken:
            return None
        buffer = self._buffer(0)
        try:
            abi.call(self._fd, abi.DQBUF, buffer)
        except BlockingIOError:
            return None
        data = self._maps[buffer.index][: buffer.bytesused]
        stamp = buffer.timestamp
        known = buffer.flags & abi.BUF_FLAG_TIMESTAMP_MASK == abi.BUF_FLAG_TIMESTAMP_MONOTONIC
        captured_s = stamp.tv_sec + stamp.tv_usec / 1e6 if known else None
        taken = Taken(data, captured_s, buffer.sequence, bool(buffer.flags & abi.BUF_FLAG_ERROR))
        abi.call(self._fd, abi.QBUF, self._buffer(buffer.index))
        return taken

    def give(self, data: memoryview) -> None:
        """The next picture for a loopback device's readers, all planes after each other. Never waits for them.

        Buffers are filled in turn, without asking the driver for a free one: v4l2loopback 0.12 would hand out the one
        that was written last, which readers are reading. The driver stamps the picture.
        """
        index, self._next = self._next, (self._next + 1) % len(self._maps)
        shared, filled = self._maps[index], data.nbytes
        shared[:filled] = data
        buffer = self._buffer(index)
        buffer.bytesused, buffer.length, buffer.field = filled, len(shared), abi.FIELD_NONE
        abi.call(self._fd, abi.QBUF, buffer)

    def close(self) -> None:
        """Safe to call twice, and with a device that is gone."""
        if self._running:
            self._running = False
            with suppress(OSError):  # the device is gone, and its stream with it
                abi.call(self._fd, abi.STREAMOFF, c_int32(self._direction))
        for shared in self._maps:
            shared.close()
        self._maps.clear()

    def _buffer(self, index: int) -> abi.Buffer:
        return abi.Buffer(index=index, type=self._direction, memory=abi.MMAP)


def open_device(path: str) -> int:
    """Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
