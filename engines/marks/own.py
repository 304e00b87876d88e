"""What this installation writes into its pictures: who it is, and today."""

from __future__ import annotations

from datetime import UTC, datetime

from engines.marks.payload import INSTANCE_BITS, Payload
from engines.trust import key


def own_payload() -> Payload:
    """Today's payload (UTC). The instance is the upper 24 of the 32 bits by which the local key is known, so that who
    holds the key can prove that a mark is theirs. Makes the key at first use; raises KeyFault where that fails.
    """
    return Payload.of(key.instance_id() >> (key.INSTANCE_BITS - INSTANCE_BITS), datetime.now(UTC).date())
