"""When pictures really arrived and what their timestamps are on the wire: the one reader of aiortc's private parts.

aiortc hands out decoded frames without saying when their packets came in. The age of a picture must count from its
first packet, so the receiver's packet handler is wrapped and the arrival of every new RTP timestamp is noted.
Written for aiortc 1.16 (pinned); where a private name is missing, callers get None and say so.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.rtp import RtpPacket

MOST_ARRIVALS = 512
WRAP = 1 << 32


class PacketClock:
    """Arrival times of the pictures (or sounds) of one receiver, by RTP timestamp; remembers the last 512."""

    def __init__(self, receiver: RTCRtpReceiver) -> None:
        self._receiver = receiver
        self._arrived_s: OrderedDict[int, float] = OrderedDict()
        self._handle = receiver._handle_rtp_packet
        receiver._handle_rtp_packet = self._note_and_handle  # type: ignore[method-assign]

    async def _note_and_handle(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        if packet.timestamp not in self._arrived_s:
            self._arrived_s[packet.timestamp] = time.monotonic()
            if len(self._arrived_s) > MOST_ARRIVALS:
                self._arrived_s.popitem(last=False)
        await self._handle(packet, arrival_time_ms)

    def arrived_s(self, pts: int) -> float | None:
        """When the first packet of the frame with this (90 kHz or audio clock) `pts` arrived, monotonic seconds."""
        mapper = getattr(self._receiver, "_RTCRtpReceiver__timestamp_mapper", None)
        origin = getattr(mapper, "_origin", None)
        return None if origin is None else self._arrived_s.get((pts + origin) % WRAP)


def sent_rtp_timestamp(sender: RTCRtpSender) -> int | None:
    """The RTP timestamp of the last packet that was sent, or None where it cannot be known."""
    timestamp = getattr(sender, "_RTCRtpSender__rtp_timestamp", None)
    return timestamp if isinstance(timestamp, int) and timestamp else None
