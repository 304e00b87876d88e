"""What this installation writes into its pictures: who it is, and today."""

from __future__ import annotations

from datetime import UTC, date, datetime

from engines.marks.invisible import Marker
from engines.marks.payload import INSTANCE_BITS, Payload
from engines.trust import key


def utc_today() -> date:
    return datetime.now(UTC).date()


def own_payload() -> Payload:
    """Today's payload (UTC). The instance is the upper 24 of the 32 bits by which the local key is known, so that who
    holds the key can prove that a mark is theirs. Makes the key at first use; raises KeyFault where that fails.
    """
    return Payload.of(key.instance_id() >> (key.INSTANCE_BITS - INSTANCE_BITS), utc_today())


def marker_on(day: date, marker: Marker) -> Marker:
    """The same marker, if it is of that day; else one of the same installation that is. No key is read for it.

    The first picture of a new day takes as long as that of a new size: 25 ms at 1280x720.
    """
    payload = Payload.of(marker.payload.instance, day)
    return marker if payload.day == marker.payload.day else Marker(payload)
