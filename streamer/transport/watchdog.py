"""Says when a camera has gone silent, and how: arithmetic only.

ICE notices a dead peer after some 30 seconds (six checks, five seconds apart). Media says it sooner.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENT_S = 5.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Why there is no picture, in words for the person at the camera, and for how long there has been none."""

    why: str
    since_s: float


class SilenceWatch:
    """Is told of packets and pictures, and asked whether there has been silence for too long."""

    def __init__(self, begun_s: float, limit_s: float = SILENT_S) -> None:
        self.spells = 0  # how often it fell silent
        self._limit_s = limit_s
        self._began_s = begun_s
        self._packet_s: float | None = None
        self._picture_s: float | None = None
        self._is_silent = False

    @property
    def next_s(self) -> float:
        """When to look again: silence cannot be too long before."""
        return self._last_s + self._limit_s

    def packet(self, now_s: float) -> None:
        self._packet_s = now_s

    def picture(self, now_s: float) -> None:
        """A whole picture has come."""
        self._picture_s = now_s

    def look(self, now_s: float) -> Silence | None:
        """The silence, where there has been one for too long."""
        since_s = now_s - self._last_s
        was_silent, self._is_silent = self._is_silent, since_s >= self._limit_s
        self.spells += self._is_silent and not was_silent
        return Silence(self._why(now_s), since_s) if self._is_silent else None

    @property
    def _last_s(self) -> float:
        return self._began_s if self._picture_s is None else self._picture_s

    def _why(self, now_s: float) -> str:
        if self._packet_s is not None and now_s - self._packet_s < self._limit_s:
            return "packets come from the camera, but no whole picture"
        if self._packet_s is None:
            return "nothing has come from the camera yet"
        return "nothing comes from the camera any more"
