"""One direction of a call over bad lines, without sockets, clocks or processor time: the same figures on any machine.

    python -m benchmarks.simulated_calls            loss x round trip x rate, outages of 0.5, 2 and 10 s: 3 min
    python -m benchmarks.simulated_calls --quick    four lines, one run each: 10 s
    python -m benchmarks.simulated_calls --write

The real rate control, pacer, history of packets, limit on key frames, feedback and reception of a call; only encoder
and line are arithmetic (`benchmarks/bad_line.py`: seeded losses, a throttle that keeps 300 ms). The encoder keeps its
rate within 30 %, a key frame is four times as large. 640x480 at 30 a second. Three runs of each line, the worst is
shown.
Age: from the camera to a whole picture at the other side, first 6 s left out. `benchmarks.impairment` measures the same
with real calls, and needs an idle machine.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

import click
import numpy as np

from benchmarks.bad_line import UDP, Queue, Way
from benchmarks.report import table, write_report
from streamer.transport.feedback import ArrivalLog, SentLog, TolerantRtcp, TransportFeedback
from streamer.transport.history import History, KeyLimit, SentPacket
from streamer.transport.pacer import LONGEST_WAIT_S, SHORT_WAIT_S, Pacer
from streamer.transport.rate import Meter, RateLimits, SendRate
from streamer.transport.reception import Due, Reception
from streamer.transport.round_trip import RoundTrip
from streamer.transport.sender import BEHIND_S, COPY_AFTER_S, FAR_S
from streamer.transport.types import RTP_CLOCK_HZ, CodedPicture

LOSSES, RTTS_MS, RATES_MBIT = (0.0, 0.5, 1.0, 3.0, 5.0), (20, 80, 200), (0.5, 1.0, 3.0)
QUICK = ((0.0, 20, 3.0), (1.0, 80, 1.0), (1.0, 200, 3.0), (5.0, 80, 0.5))
OUTAGES_S = (0.5, 2.0, 10.0)
SETTLE_S, STEADY_S, AFTER_S = 6.0, 30.0, 8.0
FPS = 30
OVERHEAD_BYTES = 76  # RTP with extensions, SRTP, UDP, IP
PAYLOAD_BYTES = 1_100
SHARE = 0.92  # of the rate that is picture
MOST_BPS = 1_100_000  # of a picture of 640x480
KEY_TIMES = 4
SPREAD = 0.3
SSRC, OWN = 7, 8
HEADER = bytes(9) + bytes([UDP]) + bytes(18)
HEAD = (
    "loss %",
    "RTT ms",
    "Mbit/s",
    "fps",
    "age p50",
    "p95",
    "longest gap",
    "over 500 ms",
    "keys",
    "back after 0.5 s",
    "2 s",
    "10 s",
)


@dataclass
class Shown:
    at_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    keys: int = 0

    def gaps_s(self, since_s: float, until_s: float) -> list[float]:
        times_s = [since_s, *(at_s for at_s in self.at_s if since_s <= at_s < until_s), until_s]
        return [after - before for before, after in pairwise(times_s)]

    def back_s(self, since_s: float) -> float:
        """How long after this moment the first picture came that was taken after it."""
        return next(
            (at_s - since_s for at_s, age_s in zip(self.at_s, self.ages_s, strict=True) if at_s - age_s >= since_s),
            float("inf"),
        )


class SimulatedCall:
    """A sender and a receiver on one line; the reports take the same line back."""

    def __init__(self, loss: float, rtt_s: float, bits_per_s: float | None, seed: int = 1) -> None:
        way = Way(loss, rtt_s / 2, bits_per_s)
        self.up, self.down = Queue(seed, way), Queue(seed + 1, way)
        self.rate, self.pacer = SendRate(RateLimits()), Pacer[tuple[SentPacket, bool]](RateLimits().start_bps)
        self.history, self.keys, self.sent_log = History(), KeyLimit(), SentLog()
        self.reception, self.arrivals, self.shown = Reception(), ArrivalLog(), Shown()
        trip = RoundTrip()
        trip.add(rtt_s)
        self.reception.begin(SSRC, "VP8", trip, 0.0)
        self.rate.rtt_s = self.rtt_s = rtt_s
        self._dice = random.Random(seed)
        self._again = Meter()
        self._copies: list[tuple[float, SentPacket]] = []
        self._pictures = self._sequence = self._number = 0

    def run(self, until_s: float, since_s: float = 0.0, dead: tuple[float, float] = (0.0, 0.0)) -> Shown:
        """On from `since_s`; nothing gets through within `dead` (from, to)."""
        now_s = since_s
        while now_s < until_s:
            for queue in (self.up, self.down):
                is_dead = dead[0] <= now_s < dead[1]
                if queue.way.dead != is_dead:
                    queue.way = Way(queue.way.loss, queue.way.delay_s, queue.way.bits_per_s, dead=is_dead)
            self._send_side(now_s)
            for data in self.up.take(now_s):
                self._arrived(data, now_s)
            self._answer(self.reception.due(now_s), now_s)
            for message in self.arrivals.take(now_s, OWN, SSRC):
                self.down.put(HEADER + b"F" + message, now_s)
            for data in self.down.take(now_s):
                self._reported(data, now_s)
            now_s = self._next_s(now_s)
        return self.shown

    def _next_s(self, now_s: float) -> float:
        times_s = [
            self.up.next_s, self.down.next_s, self.reception.next_s(now_s), self.arrivals.due_s(),
            self.pacer.next_s(now_s), self._pictures / FPS, self._copies[0][0] if self._copies else None,
        ]  # fmt: skip
        return max(min(time_s for time_s in times_s if time_s is not None), now_s + 1e-5)

    def _send_side(self, now_s: float) -> None:
        if self._pictures / FPS <= now_s:
            if self.pacer.wait_s() <= BEHIND_S:
                self._picture(now_s)
            self._pictures += 1
        while self._copies and self._copies[0][0] <= now_s:
            self._queue_again(self._copies.pop(0)[1], now_s)
        for packet, again in self.pacer.due(now_s):
            self._transmit(packet, again, now_s)

    def _picture(self, now_s: float) -> None:
        bps = self.rate.target_bps(now_s)
        self.pacer.bps = bps
        self.pacer.longest_wait_s = SHORT_WAIT_S if self.rate.is_free(now_s) else LONGEST_WAIT_S
        is_key = self.keys.due(now_s) or self._pictures == 0
        if is_key:
            self.keys.made(now_s)
        picture_bps = min((bps - min(self._again.bps(now_s) or 0.0, bps / 2)) * SHARE, MOST_BPS)
        times = self._dice.uniform(1 - SPREAD, 1 + SPREAD) * (KEY_TIMES if is_key else 1)
        size_bytes = max(round(picture_bps / 8 / FPS * times), 20)
        count = -(-size_bytes // PAYLOAD_BYTES)
        timestamp = self._pictures * RTP_CLOCK_HZ // FPS
        for place in range(count):
            head = (b"\x10" if place == 0 else b"\x00") + (b"\x00" if is_key else b"\x01") + struct.pack("!d", now_s)
            payload = head + bytes(max(size_bytes // count - len(head), 0))
            packet = SentPacket(self._sequence, timestamp, int(place == count - 1), payload, [], now_s)
            self._sequence = (self._sequence + 1) % 65_536
            self.history.keep(packet)
            self.pacer.add((packet, False), len(payload) + OVERHEAD_BYTES, now_s)

    def _transmit(self, packet: SentPacket, again: bool, now_s: float) -> None:
        head = (
            HEADER
            + (b"R" if again else b"M")
            + struct.pack("!HHLB", self._number, packet.sequence, packet.timestamp, packet.marker)
        )
        data = head + packet.payload
        data += bytes(max(len(packet.payload) + OVERHEAD_BYTES - len(data), 0))
        self.sent_log.add(self._number, now_s, len(data))
        self._number = (self._number + 1) % 65_536
        self.up.put(data, now_s)
        if again:
            self._again.add(now_s, len(data))

    def _queue_again(self, packet: SentPacket, now_s: float) -> None:
        self.pacer.add((packet, True), len(packet.payload) + OVERHEAD_BYTES, now_s, urgent=True)

    def _arrived(self, data: bytes, now_s: float) -> None:
        number, sequence, timestamp, marker = struct.unpack_from("!HHLB", data, 29)
        self.arrivals.add(number, now_s)
        pictures = self.reception.packet(sequence, timestamp, bool(marker), data[38:], now_s, data[28:29] == b"R")
        self._show(pictures, now_s)

    def _answer(self, due: Due, now_s: float) -> None:
        self._show(due.pictures, now_s)
        if due.nacks:
            self.down.put(HEADER + b"N" + struct.pack(f"!{len(due.nacks)}H", *due.nacks), now_s)
        if due.key:
            self.down.put(HEADER + b"P", now_s)

    def _reported(self, data: bytes, now_s: float) -> None:
        kind, body = data[28:29], data[29:]
        if kind == b"P":
            self.keys.ask(self.rtt_s, now_s)
        elif kind == b"F":
            for feedback in TolerantRtcp.parse(body):
                assert isinstance(feedback, TransportFeedback)
                self.rate.on_feedback(self.sent_log.fates(feedback, now_s), now_s)
        else:
            copies = 2 if self.rtt_s > FAR_S and self.rate.has_room else 1
            for (sequence,) in struct.iter_unpack("!H", body):
                packet = self.history.again(sequence, self.rate.target_bps(now_s), self.rtt_s, now_s, copies)
                if packet is not None:
                    self._queue_again(packet, now_s)
                    self._copies += [(now_s + COPY_AFTER_S, packet)] * (copies - 1)

    def _show(self, pictures: Sequence[CodedPicture], now_s: float) -> None:
        for picture in pictures:
            taken_s = struct.unpack_from("!d", picture.payload, 1)[0]
            self.shown.at_s.append(now_s)
            self.shown.ages_s.append(now_s - taken_s)
            self.shown.keys += picture.is_key


@dataclass(frozen=True, slots=True)
class Cell:
    """One line, the worst of its runs. Milliseconds."""

    loss: float
    rtt_ms: int
    mbit: float
    fps: float
    age_p50: float
    age_p95: float
    longest_gap: float
    freezes: int
    keys: int
    back: tuple[float, ...]

    def row(self) -> tuple[str, ...]:
        numbers = (self.age_p50, self.age_p95, self.longest_gap, float(self.freezes), float(self.keys), *self.back)
        return (f"{self.loss:g}", str(self.rtt_ms), f"{self.mbit:g}", f"{self.fps:.1f}", *(f"{n:.0f}" for n in numbers))


def measure(loss: float, rtt_ms: int, mbit: float, seeds: Sequence[int]) -> Cell:
    ages, gaps, freezes, keys, fps = list[list[float]](), 0.0, 0, 0, 99.0
    back = [0.0] * len(OUTAGES_S)
    for seed in seeds:
        call = SimulatedCall(loss / 100, rtt_ms / 1e3, mbit * 1e6, seed)
        end_s = SETTLE_S + STEADY_S
        shown = call.run(end_s)
        steady = [(at, age) for at, age in zip(shown.at_s, shown.ages_s, strict=True) if at >= SETTLE_S]
        all_gaps_s = shown.gaps_s(SETTLE_S, end_s)
        ages.append([age * 1e3 for _, age in steady])
        gaps, fps = max(gaps, max(all_gaps_s) * 1e3), min(fps, len(steady) / STEADY_S)
        freezes, keys = max(freezes, sum(gap > 0.5 for gap in all_gaps_s)), max(keys, shown.keys)
        for index, outage_s in enumerate(OUTAGES_S):
            call.run(end_s + outage_s + AFTER_S, end_s, (end_s, end_s + outage_s))
            back[index] = max(back[index], shown.back_s(end_s + outage_s) * 1e3)
            end_s += outage_s + AFTER_S
    p50 = max(float(np.percentile(run, 50)) for run in ages)
    p95 = max(float(np.percentile(run, 95)) for run in ages)
    return Cell(loss, rtt_ms, mbit, fps, p50, p95, gaps, freezes, keys, tuple(back))


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="four lines, one run each")
@click.option("--write", is_flag=True, help="writes docs/benchmarks")
def main(quick: bool, write: bool) -> None:
    began_s = time.monotonic()
    lines = QUICK if quick else tuple(product(LOSSES, RTTS_MS, RATES_MBIT))
    cells = [measure(*line, seeds=(1,) if quick else (1, 2, 3)) for line in lines]
    few = [cell for cell in cells if cell.loss <= 1]
    text = "\n".join(
        (
            "# Simulated calls over bad lines\n",
            f"The worst of {1 if quick else 3} runs, milliseconds. `python -m benchmarks.simulated_calls`\n",
            table(HEAD, [cell.row() for cell in cells]),
            f"\n- Up to 1 % loss: {sum(cell.freezes for cell in few)} freezes over 500 ms in {len(few)} lines.",
            f"- Back within 1 s: {sum(ms < 1e3 for cell in cells for ms in cell.back)} of {3 * len(cells)} outages.",
            f"- Age p95 at most {max(cell.age_p95 for cell in cells):.0f} ms.",
            f"\nTook {time.monotonic() - began_s:.0f} s.",
        )
    )
    click.echo(text)
    if write:
        figures = {"cells": [{name: getattr(cell, name) for name in Cell.__slots__} for cell in cells]}
        click.echo(write_report("simulated-calls", text, figures))


if __name__ == "__main__":
    main()
