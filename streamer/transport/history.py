"""Packets that were sent, for as long as they may be asked for again; and how often that may be done. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

MOST_KEPT = 2_048  # 5 s of 4 Mbit/s; aiortc keeps 128
KEPT_S = 3.0
LEAST_APART_S = 0.010  # the same packet again
SHARE = 0.25  # of the bit rate that retransmissions may take
BURST_S = 0.2  # of the bit rate may be sent again at once: more would fill the queue that has just lost packets
LEAST_AGAIN_BYTES = 10_000
SEQUENCES = 1 << 16


@dataclass(slots=True)
class SentPacket:
    """One packet as it can be sent again."""

    sequence: int
    timestamp: int
    marker: int
    payload: bytes
    extension: list[tuple[int, bytes]]  # those that belong to the packet, not to its sending
    sent_s: float
    again_s: float | None = None


@dataclass(slots=True)
class History:
    """A bounded history and a budget: a receiver that asks for everything, or for the same again and again, gets only
    what the budget allows."""

    asked: int = 0
    unknown: int = 0
    too_soon: int = 0
    over_budget: int = 0
    _kept: OrderedDict[int, SentPacket] = field(default_factory=OrderedDict)
    _budget_bytes: float = float(LEAST_AGAIN_BYTES)
    _budget_s: float | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, packet: SentPacket) -> None:
        self._kept.pop(packet.sequence, None)
        self._kept[packet.sequence] = packet
        while len(self._kept) > MOST_KEPT or next(iter(self._kept.values())).sent_s < packet.sent_s - KEPT_S:
            self._kept.popitem(last=False)

    def again(self, sequence: int, bps: int, rtt_s: float, now_s: float, copies: int = 1) -> SentPacket | None:
        """The packet, if it may be sent again now, so many times."""
        self.asked += 1
        self._earn(bps, now_s)
        packet = self._kept.get(sequence % SEQUENCES)
        if packet is None or now_s - packet.sent_s > KEPT_S:
            self.unknown += 1
            return None
        if packet.again_s is not None and now_s - packet.again_s < max(0.8 * rtt_s, LEAST_APART_S):
            self.too_soon += 1
            return None
        if self._budget_bytes < copies * len(packet.payload):
            self.over_budget += 1
            return None
        self._budget_bytes -= copies * len(packet.payload)
        packet.again_s = now_s
        return packet

    def _earn(self, bps: int, now_s: float) -> None:
        if self._budget_s is not None:
            earned_bytes = SHARE * bps / 8 * max(now_s - self._budget_s, 0.0)
            self._budget_bytes = min(self._budget_bytes + earned_bytes, max(BURST_S * bps / 8, LEAST_AGAIN_BYTES))
        self._budget_s = now_s


@dataclass(slots=True)
class KeyLimit:
    """When a requested key frame is made: at most one in 300 ms, however many are asked for."""

    least_apart_s: float = 0.3
    asked: int = 0
    held: int = 0
    _wanted: bool = False
    _made_s: float | None = None

    def ask(self, rtt_s: float, now_s: float) -> None:
        """Somebody cannot show pictures. What was asked before the last key frame can have arrived, that answers."""
        self.asked += 1
        since_s = None if self._made_s is None else now_s - self._made_s
        if since_s is not None and since_s < self.least_apart_s:
            self.held += 1
            if since_s < rtt_s:
                return
        self._wanted = True

    def due(self, now_s: float) -> bool:
        """Whether the next picture is to be a key frame."""
        return self._wanted and (self._made_s is None or now_s - self._made_s >= self.least_apart_s)

    def made(self, now_s: float) -> None:
        """A key frame was made, asked for or not."""
        self._wanted, self._made_s = False, now_s
