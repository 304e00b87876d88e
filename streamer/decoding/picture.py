"""A decoded picture, and the memory that it lies in: the decoder process writes it, the picture's holder borrows it."""

from __future__ import annotations

import os
import weakref
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from mmap import mmap

import numpy as np
from av.video.frame import VideoFrame

from streamer.decoding.wire import MEMORY_BYTES, SLOT_BYTES, SLOTS, Answer
from streamer.transport.types import RTP_CLOCK_HZ, PictureTimes

TIME_BASE = Fraction(1, RTP_CLOCK_HZ)


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A camera's picture. `frame` is planar 4:2:0 of even size; `pts` is its unwrapped RTP timestamp, 90 kHz.

    The pixels lie in memory that few pictures share: who keeps more than two for long, or one for ever, stops the call.
    """

    frame: VideoFrame
    pts: int
    times: PictureTimes


class _Lent(np.ndarray[tuple[int, int], np.dtype[np.uint8]]):
    """A view of a slot, as a type of its own: else NumPy would let frames refer to the whole memory instead of this."""


class Slots:
    """The memory of one decoder. A slot is free again when the last reference to its picture is gone.

    shared  with a process, by the descriptor `fd`; else with a thread here, by `memory`
    """

    def __init__(self, shared: bool = True) -> None:
        self.fd = _sealed_memory() if shared else -1
        try:
            self.memory = mmap(self.fd, MEMORY_BYTES)
        except OSError:
            self.close()
            raise
        self._slots = np.frombuffer(self.memory, np.uint8).reshape(SLOTS, SLOT_BYTES)
        self._lent: set[int] = set()
        self._freed: deque[int] = deque()  # by the thread that dropped the picture, whichever that is

    @property
    def lent(self) -> int:
        """How many slots are in somebody's hands."""
        return len(self._lent) - len(self._freed)

    def take_freed(self) -> int:
        """Bit mask of the slots that came back since the last time."""
        mask = 0
        while self._freed:
            slot = self._freed.popleft()
            self._lent.discard(slot)
            mask |= 1 << slot
        return mask

    def frame(self, answer: Answer, pts: int) -> VideoFrame:
        """The picture of an answer. Raises ValueError where the slot is not the decoder's to give."""
        if answer.slot in self._lent:
            raise ValueError("a decoder wrote into a picture that is in use")
        self._lent.add(answer.slot)
        size = answer.width_px * answer.height_px * 3 // 2
        pixels = self._slots[answer.slot, :size].reshape(-1, answer.width_px).view(_Lent)
        weakref.finalize(pixels, self._freed.append, answer.slot).atexit = False
        frame = _frame_of(pixels, answer)
        frame.pts, frame.time_base = pts, TIME_BASE
        frame.colorspace, frame.color_range = answer.colorspace, answer.color_range
        return frame

    def close(self) -> None:
        """Closes the descriptor. The memory goes with the last picture."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _sealed_memory() -> int:
    """Descriptor of memory without a name. It cannot be cut: else the other side could, and reading it would kill."""
    from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl

    fd = os.memfd_create("vividstream-pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, MEMORY_BYTES)
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def _frame_of(pixels: _Lent, answer: Answer) -> VideoFrame:
    if answer.height_px % 4 == 0:
        return VideoFrame.from_numpy_buffer(pixels, format="yuv420p")
    frame = VideoFrame(answer.width_px, answer.height_px, "yuv420p")  # what from_numpy_buffer cannot: copied
    flat, at = np.asarray(pixels).reshape(-1), 0
    for plane, divisor in zip(frame.planes, (1, 2, 2)):
        rows, columns = answer.height_px // divisor, answer.width_px // divisor
        into = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * rows].reshape(rows, plane.line_size)
        into[:, :columns] = flat[at : at + rows * columns].reshape(rows, columns)
        at += rows * columns
    return frame
