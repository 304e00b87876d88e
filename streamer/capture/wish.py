"""What is asked of a source, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """What the source should look like; it gives what comes nearest."""

    width_px: int = 1280
    height_px: int = 720
    fps: float = 30.0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What an opened source gives."""

    width_px: int
    height_px: int
    fps: float  # 0 where it does not say
    format: str  # MJPG, YUYV, h264, ...
    has_sound: bool = False
