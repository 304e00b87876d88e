"""The rolling latent window: which frames a temporal layer sees, and where they lie. Arithmetic only.

A window of W frames is the current one and R = W - 1 slots of the past. The first `sinks` frames after a reset stay
in their slots for good; the other slots are a ring, the oldest frame gives way. Keys and values are stored before the
position code, which belongs to a slot's age and is added after reading: nothing stored is ever rewritten (after
Live2Diff). Positions count up to the present: the current frame is at W - 1, a frame of age a at W - 1 - a, a sink
never below its own number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Longs = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """The window's shape. frames: W >= 1, the current one included; sinks: kept first frames, below W - 1."""

    frames: int = 8
    sinks: int = 2

    def __post_init__(self) -> None:
        if self.frames < 1 or self.sinks < 0:
            raise ValueError(f"a window of {self.frames} frames with {self.sinks} sinks cannot be")
        if self.sinks and self.sinks >= self.slots:
            raise ValueError(f"{self.sinks} sinks leave no room to roll in {self.slots} slots")

    @property
    def slots(self) -> int:
        """R, the past frames that are kept."""
        return self.frames - 1

    def slot_of(self, frame: int) -> int:
        """The slot that frame number `frame` (0 after a reset) is written to; -1 where nothing is kept (W = 1)."""
        if self.slots == 0:
            return -1
        if frame < self.sinks:
            return frame
        return self.sinks + (frame - self.sinks) % (self.slots - self.sinks)

    def frames_in(self, frame: int) -> Longs:
        """Which frame lies in each slot when frame number `frame` is computed: int64 [R], -1 for a slot unfilled."""
        held = np.full(self.slots, -1, np.int64)
        for past in range(max(frame - self.slots, 0), frame):
            held[self.slot_of(past)] = past
        first = min(self.sinks, frame)
        held[:first] = np.arange(first)
        return held

    def positions(self, frame: int) -> Longs:
        """The position code's index for each slot, int64 [R], 0..W-2; 0 for a slot unfilled (its bias hides it)."""
        held = self.frames_in(frame)
        by_age = self.frames - 1 - (frame - held)
        floor = np.where(np.arange(self.slots) < self.sinks, np.arange(self.slots), 0)
        return np.where(held < 0, 0, np.maximum(by_age, floor)).astype(np.int64)

    def bias(self, frame: int) -> Floats:
        """Added to attention's scores, float32 [R]: 0 for a filled slot, -inf for an unfilled one."""
        return np.where(self.frames_in(frame) < 0, -np.inf, 0).astype(np.float32)

    def seen(self, frames: int) -> tuple[Longs, Floats]:
        """The same for a whole sequence of T frames after a reset, at once: positions int64 [T, T] and bias float32
        [T, T]. Row t says at which position frame t sees each past frame, and hides (-inf) what a stream no longer
        holds then, what is still to come, and t itself, which attends to itself apart."""
        positions = np.zeros((frames, frames), np.int64)
        bias = np.full((frames, frames), -np.inf, np.float32)
        for frame in range(frames):
            held = self.frames_in(frame)
            filled = held >= 0
            positions[frame, held[filled]] = self.positions(frame)[filled]
            bias[frame, held[filled]] = 0
        return positions, bias


def recent_slot(frame: int, slots: int) -> int:
    """Where a plain ring of the last `slots` frames takes frame number `frame`."""
    return frame % slots


def recent_order(frame: int, slots: int) -> Longs:
    """Slots of a plain ring from the oldest to the newest when frame number `frame` is computed: int64 [slots]."""
    return (np.arange(slots, dtype=np.int64) + frame) % slots
