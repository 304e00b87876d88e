"""A camera, a line and a receiver without sockets or clocks: minutes of a bad call in a second, the same every time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from benchmarks.bad_line import UDP, Queue, Way
from streamer.transport.reception import Due, Reception
from streamer.transport.round_trip import RoundTrip
from streamer.transport.types import RTP_CLOCK_HZ, CodedPicture

FPS = 30
PACKET_BYTES = 1200
HEADER = bytes(9) + bytes([UDP]) + bytes(18)  # IP and UDP
SSRC = 7
SHARE = 0.8  # of the line's rate that the camera's side uses
KEY_TIMES = 6  # a key frame is so much larger than another picture
BEHIND_S = 0.1
HISTORY = 1000
KEY_EVERY_S = 0.3
PLI = HEADER + b"P"


@dataclass(frozen=True)
class Packet:
    number: int
    timestamp: int
    marker: bool
    payload: bytes


@dataclass
class Shown:
    """What came out of the receiver."""

    at_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    keys: int = 0

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        times_s = [since_s, *(at_s for at_s in self.at_s if since_s <= at_s < until_s), until_s]
        return max(after - before for before, after in pairwise(times_s))

    def age_p95_s(self) -> float:
        return float(np.percentile(self.ages_s, 95))


class Simulation:
    """One direction of a call. Feedback takes the same line back."""

    def __init__(self, loss: float, rtt_s: float, bits_per_s: float, seed: int = 1) -> None:
        way = Way(loss, rtt_s / 2, bits_per_s)
        self.up, self.down = Queue(seed, way), Queue(seed + 1, Way(loss, rtt_s / 2))
        self.reception, self.shown = Reception(), Shown()
        trip = RoundTrip()
        trip.add(rtt_s)
        self.reception.begin(SSRC, "VP8", trip, 0.0)
        self._per_picture = max(round(SHARE * bits_per_s / FPS / 8 / PACKET_BYTES), 1)
        self._sent: dict[int, Packet] = {}
        self._pictures = self._number = 0
        self._key_wanted, self._key_s = True, -1.0

    def run(self, seconds: float, outage: tuple[float, float] = (0.0, 0.0)) -> Shown:
        """From the start; the line is dead within `outage` (from, to)."""
        now_s = 0.0
        while now_s < seconds:
            for queue in (self.up, self.down):
                dead = outage[0] <= now_s < outage[1]
                if queue.way.dead != dead:
                    queue.way = Way(queue.way.loss, queue.way.delay_s, queue.way.bits_per_s, dead=dead)
            if self._pictures / FPS <= now_s:
                self._picture(now_s)
            for data in self.down.take(now_s):
                self._requested(data, now_s)
            for data in self.up.take(now_s):
                self._arrived(data, now_s)
            self._answer(self.reception.due(now_s), now_s)
            times_s = (self.up.next_s, self.down.next_s, self.reception.next_s(now_s), self._pictures / FPS)
            now_s = max(min(time_s for time_s in times_s if time_s is not None), now_s + 1e-6)
        return self.shown

    def _picture(self, now_s: float) -> None:
        """Another picture of the camera, a key frame where one was asked for."""
        is_key = self._key_wanted and now_s - self._key_s >= KEY_EVERY_S
        if is_key:
            self._key_wanted, self._key_s = False, now_s
        waits = (self.up.free_s - now_s) > BEHIND_S  # then a rate control codes less
        count = max(self._per_picture // (2 if waits else 1), 1) * (KEY_TIMES if is_key else 1)
        for place in range(count):
            first = b"\x10" if place == 0 else b"\x00"
            payload = first + (b"\x00" if is_key else b"\x01") + struct.pack("!d", now_s)
            timestamp = self._pictures * RTP_CLOCK_HZ // FPS
            packet = Packet(self._number, timestamp, place == count - 1, payload)
            self._sent[self._number % 65536] = packet
            self._sent.pop((self._number - HISTORY) % 65536, None)
            self._send(packet, b"M", now_s)
            self._number += 1
        self._pictures += 1

    def _send(self, packet: Packet, kind: bytes, now_s: float) -> None:
        data = HEADER + kind + struct.pack("!H", packet.number % 65536)
        self.up.put(data + bytes(PACKET_BYTES - len(data)), now_s)

    def _arrived(self, data: bytes, now_s: float) -> None:
        kind, number = data[28:29], struct.unpack_from("!H", data, 29)[0]
        packet = self._sent.get(number)
        if packet is not None:
            pictures = self.reception.packet(
                packet.number % 65536, packet.timestamp, packet.marker, packet.payload, now_s, kind == b"R"
            )
            self._show(pictures, now_s)

    def _answer(self, due: Due, now_s: float) -> None:
        self._show(due.pictures, now_s)
        if due.nacks:
            self.down.put(HEADER + b"N" + struct.pack(f"!{len(due.nacks)}H", *due.nacks), now_s)
        if due.key:
            self.down.put(PLI, now_s)

    def _requested(self, data: bytes, now_s: float) -> None:
        if data == PLI:
            self._key_wanted = True
            return
        for (number,) in struct.iter_unpack("!H", data[29:]):
            packet = self._sent.get(number)
            if packet is not None:
                self._send(packet, b"R", now_s)

    def _show(self, pictures: tuple[CodedPicture, ...], now_s: float) -> None:
        for picture in pictures:
            taken_s = struct.unpack_from("!d", picture.payload, 1)[0]
            self.shown.at_s.append(now_s)
            self.shown.ages_s.append(now_s - taken_s)
            self.shown.keys += picture.is_key
