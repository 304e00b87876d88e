"""How long a call is waited for: to connect, to show something, to go on, and at all."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.config import GuardSettings


@dataclass(slots=True)
class Patience:
    """One call's time limits. All times are monotonic seconds."""

    settings: GuardSettings
    begun_s: float
    connected_s: float | None = None
    media_s: float | None = None  # when the newest picture came

    def connected(self, now_s: float) -> None:
        """The connection is up; only the first time counts."""
        if self.connected_s is None:
            self.connected_s = now_s

    def media(self, now_s: float) -> None:
        """A picture came from the camera."""
        self.connected(now_s)
        self.media_s = now_s

    def over(self, now_s: float) -> str | None:
        """Why the call has to end now, or None where it may go on."""
        due_s, why = self._nearest()
        return why if now_s >= due_s else None

    def wait_s(self, now_s: float) -> float:
        """How long `over` stays None if nothing happens."""
        return max(0.0, self._nearest()[0] - now_s)

    def _nearest(self) -> tuple[float, str]:
        limits = [self._waiting_for()]
        if self.settings.longest_call_s is not None:
            limits.append((self.begun_s + self.settings.longest_call_s, "the longest time of a call is over"))
        return min(limits)

    def _waiting_for(self) -> tuple[float, str]:
        if self.connected_s is None:
            return self.begun_s + self.settings.handshake_s, "the connection did not come about in time"
        if self.media_s is None:
            return self.connected_s + self.settings.first_media_s, "no picture came from the camera"
        return self.media_s + self.settings.silence_s, "the camera fell silent"
