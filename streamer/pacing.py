"""Decisions about time, as values: what may be sent now, how long sound waits. No clocks and no sleeping in here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from engines import Status

HOLD_S = 0.300  # no picture is on the wire for longer after its capture
CARD_EVERY_S = 0.200  # how often the standby card is repeated, so that a new receiver is not left without a picture
MOST_SOUND_DELAY_S = 0.500
SLEW_S_PER_S = 0.05  # how fast the sound's delay may follow the picture's: slower than one hears


class Verdict(Enum):
    """What becomes of a result that has arrived."""

    SEND = "send"
    TOO_OLD = "too_old"  # captured over HOLD_S ago: showing it now would be showing the past
    OUT_OF_ORDER = "out_of_order"  # something with a later timestamp was sent already


@dataclass(slots=True)
class Curtain:
    """Fail closed at the output: decides which picture may be sent and when the standby card must fall.

    It knows nothing of engines that raise or stall: whatever happens before it, a picture is sent only while it is
    young, and when nothing young comes, the card is due.
    """

    hold_s: float = HOLD_S
    _good_s: float | None = None  # when the picture was captured that the receiver sees now; None: it sees the card
    _drawn_s: float | None = None  # capture of the last swap
    _card_due_s: float = math.inf  # before the first picture comes in there is nothing to stand in for
    _last_pts: int | None = None

    def begin(self, captured_s: float) -> None:
        """The first picture of the call came in: from now on the receiver must not be left without one."""
        self._card_due_s = captured_s + self.hold_s

    def judge(self, status: Status, captured_s: float, pts: int, now_s: float) -> Verdict:
        """Whether this result may be sent. A held picture (NO_FACE) is as old as the swap that it repeats."""
        shown_s = captured_s
        if status is Status.DRAWN:
            self._drawn_s = max(captured_s, self._drawn_s or captured_s)
        elif status is Status.NO_FACE and self._drawn_s is not None:
            shown_s = self._drawn_s
        if now_s - shown_s > self.hold_s:
            return Verdict.TOO_OLD
        if self._last_pts is not None and pts <= self._last_pts:
            return Verdict.OUT_OF_ORDER
        self._last_pts = pts
        self._good_s = shown_s
        return Verdict.SEND

    def wait_s(self, now_s: float) -> float:
        """How long the sender may wait for a result before the card must be sent; infinite before `begin`."""
        due_s = self._card_due_s if self._good_s is None else self._good_s + self.hold_s
        return max(due_s - now_s, 0.0)

    def card(self, suggested_pts: int, now_s: float) -> int:
        """The card is sent now. Returns its timestamp: the suggested one, or just after what was sent before."""
        self._good_s = None
        self._card_due_s = now_s + CARD_EVERY_S
        self._last_pts = suggested_pts if self._last_pts is None else max(suggested_pts, self._last_pts + 1)
        return self._last_pts


@dataclass(slots=True)
class SoundDelay:
    """How long sound waits so that it leaves with the picture of the same moment: bounded, changing unnoticeably."""

    delay_s: float = 0.0
    _at_s: float | None = None

    def follow(self, picture_age_s: float | None, now_s: float) -> float:
        """The delay to use now. `picture_age_s` None: no picture goes out, the delay stays as it is."""
        if picture_age_s is None:
            return self.delay_s
        wanted_s = min(max(picture_age_s, 0.0), MOST_SOUND_DELAY_S)
        if self._at_s is None:
            self.delay_s = wanted_s
        else:
            step_s = SLEW_S_PER_S * max(now_s - self._at_s, 0.0)
            self.delay_s = min(max(wanted_s, self.delay_s - step_s), self.delay_s + step_s)
        self._at_s = now_s
        return self.delay_s
