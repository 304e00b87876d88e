"""Pictures leave with their last packet, and a lost packet is waited for no longer than the deadline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from aiortc.jitterbuffer import JitterBuffer as StockBuffer
from aiortc.rtp import RtpPacket
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.transport import jitter
from streamer.transport.jitter import JitterBuffer, Out, Unwrap
from streamer.transport.payload import PADDING, Part
from streamer.transport.round_trip import RoundTrip
from streamer.transport.types import CodedPicture

FRAME_S = 1 / 30
TICKS = 3000


@dataclass(frozen=True)
class Packet:
    number: int
    picture: int
    marker: bool
    part: Part
    sent_s: float
    timestamp: int


def stream(
    pictures: int, per_picture: int = 5, keys: tuple[int, ...] = (0,), markers: bool = True, first: int = 0
) -> Iterator[Packet]:
    """VP8-like packets of a camera at 30 pictures a second; each packet's data names picture and place."""
    for picture in range(pictures):
        for place in range(per_picture):
            begins = place == 0
            part = Part(f"{picture}.{place} ".encode(), begins, begins and picture in keys)
            number = picture * per_picture + place + first
            marker = markers and place == per_picture - 1
            sent_s = picture * FRAME_S + place * 1e-4
            yield Packet(number, picture, marker, part, sent_s, picture * TICKS)


class Bench:
    """A buffer that is fed, polled exactly when it asks for it, and answers its own requests where told to."""

    def __init__(self, rtt_s: float = 0.05) -> None:
        self.round_trip = RoundTrip()
        self.round_trip.add(rtt_s)
        self.buffer = JitterBuffer("VP8", self.round_trip)
        self.pictures: list[tuple[int, float]] = []  # (picture, when it came out)
        self.asked: list[tuple[float, int]] = []
        self.key_wanted: list[tuple[float, str]] = []

    def note(self, out: Out, now_s: float) -> None:
        self.pictures += [(number_of(picture), now_s) for picture in out.pictures]
        if out.key_wanted:
            self.key_wanted.append((now_s, out.key_wanted))

    def feed(self, packet: Packet, now_s: float | None = None, resent: bool = False) -> None:
        now_s = packet.sent_s if now_s is None else now_s
        self.until(now_s)
        out = self.buffer.add(
            packet.number % 65536, packet.timestamp % 2**32, packet.marker, packet.part, now_s, resent
        )
        self.note(out, now_s)
        self.ask(now_s)

    def until(self, then_s: float) -> None:
        while (next_s := self.buffer.next_s) is not None and next_s < then_s:
            now_s = next_s + 1e-9
            self.note(self.buffer.poll(now_s), now_s)
            self.ask(now_s)

    def ask(self, now_s: float) -> None:
        self.asked += [(now_s, number) for number in self.buffer.missing.due(now_s, self.round_trip.rtt_s)]

    @property
    def shown(self) -> list[int]:
        return [picture for picture, _ in self.pictures]


def number_of(picture: CodedPicture) -> int:
    return int(picture.payload.split(b".")[0])


def stock_freeze(lost: int, per_picture: int) -> int:
    """Pictures that come in while aiortc's own buffer hands none out, where one packet is lost for ever."""
    buffer, out = StockBuffer(capacity=512, is_video=True), []
    for packet in stream(300, per_picture):
        if packet.number == lost:
            continue
        rtp = RtpPacket(97, int(packet.marker), packet.number, packet.timestamp, ssrc=1)
        rtp._data = packet.part.data  # type: ignore[attr-defined]
        _, frame = buffer.add(rtp)
        if frame is not None:
            out.append(packet.picture)
    return max(after - before for before, after in pairwise(out))


def test_a_picture_leaves_with_its_last_packet() -> None:
    bench = Bench()
    for packet in stream(10):
        bench.feed(packet)
        if packet.marker:
            assert bench.shown[-1:] == [packet.picture]
    first = next(iter(bench.pictures))
    assert first[1] < FRAME_S / 10  # aiortc hands it out 33 ms later, on the first packet of the next one


def test_aiortc_holds_it_until_the_next_one_begins() -> None:
    buffer = StockBuffer(capacity=512, is_video=True)
    for packet in stream(1):
        rtp = RtpPacket(97, int(packet.marker), packet.number, packet.timestamp, ssrc=1)
        rtp._data = packet.part.data  # type: ignore[attr-defined]
        assert buffer.add(rtp) == (False, None)


def test_without_markers_it_leaves_when_the_next_one_begins() -> None:
    bench = Bench()
    for packet in stream(10, markers=False):
        bench.feed(packet)
    assert bench.shown == list(range(9))


def test_the_whole_payload_and_the_times_come_out() -> None:
    buffer = JitterBuffer("VP8", RoundTrip())
    pictures: list[CodedPicture] = []
    for packet in stream(2, first=65534):
        timestamp = (packet.timestamp + 2**32 - 1) % 2**32  # both wrap after the first
        out = buffer.add(packet.number % 65536, timestamp, packet.marker, packet.part, packet.sent_s)
        pictures += out.pictures
    assert [picture.payload for picture in pictures] == [b"0.0 0.1 0.2 0.3 0.4 ", b"1.0 1.1 1.2 1.3 1.4 "]
    assert [picture.is_key for picture in pictures] == [True, False]
    assert pictures[1].rtp_timestamp - pictures[0].rtp_timestamp == TICKS
    assert pictures[1].first_packet_s == pytest.approx(FRAME_S)
    assert pictures[1].last_packet_s == pytest.approx(FRAME_S + 4e-4)


@pytest.mark.parametrize("rtt_s", [0.02, 0.08, 0.2])
@pytest.mark.parametrize("per_picture", [5, 20])
def test_a_packet_that_never_comes_costs_the_deadline_not_512_packets(rtt_s: float, per_picture: int) -> None:
    lost = 30 * per_picture + 2
    bench = Bench(rtt_s)
    key_at_s = None
    for packet in stream(120, per_picture):
        if packet.number == lost:
            continue
        if bench.key_wanted and key_at_s is None:
            key_at_s = bench.key_wanted[0][0] + rtt_s  # the camera's side obeys after a round trip
        is_key = key_at_s is not None and packet.sent_s >= key_at_s and packet.part.begins
        if is_key:
            key_at_s = float("inf")
            packet = replace(packet, part=replace(packet.part, key=True))
        bench.feed(packet)
    times_s = [shown_s for _, shown_s in bench.pictures]
    longest_s = max(after - before for before, after in pairwise(times_s))
    deadline_s = max(2 * rtt_s, 0.1)
    assert longest_s <= deadline_s + rtt_s + 3 * FRAME_S
    assert bench.buffer.counters.dropped_incomplete == 1
    assert stock_freeze(lost, per_picture) * FRAME_S > longest_s + 0.1
    assert 29 in bench.shown
    assert 30 not in bench.shown


def test_a_packet_lost_twice_is_asked_for_again_and_shown() -> None:
    """aiortc asks once: then nothing more, unless another packet is lost."""
    bench = Bench(rtt_s=0.1)
    lost = next(packet for packet in stream(20) if packet.number == 52)
    for packet in stream(20):
        if packet.number == 52:
            continue
        bench.feed(packet)
        if len(bench.asked) == 3 and 52 in bench.buffer.missing._wanted:
            bench.feed(lost, packet.sent_s + 1e-6, resent=True)  # the answer to the third request
    assert bench.shown == list(range(20))
    assert [number for _, number in bench.asked] == [52, 52, 52]
    gaps_s = [after - before for (before, _), (after, _) in pairwise(bench.asked)]
    assert gaps_s == pytest.approx([0.05, 0.05], abs=FRAME_S)
    assert bench.buffer.counters.recovered == 1


def test_a_key_frame_is_wanted_before_the_deadline_so_that_it_comes_soon_after_it() -> None:
    bench = Bench(rtt_s=0.2)
    for packet in stream(60):
        if packet.number != 52:
            bench.feed(packet)
    noticed_s = 10 * FRAME_S + 3e-4
    assert bench.key_wanted[0][0] == pytest.approx(noticed_s + 0.3, abs=1e-3)
    assert bench.key_wanted[0][1] == jitter.LATE
    assert bench.key_wanted[1][0] == pytest.approx(noticed_s + 0.4, abs=1e-3)
    assert bench.key_wanted[1][1] == "there is no key frame to start from"


def test_a_whole_key_frame_is_jumped_to_at_once() -> None:
    bench = Bench(rtt_s=0.2)
    for packet in stream(14, keys=(0, 12)):
        if packet.number != 52:
            bench.feed(packet)
    assert bench.shown == [*range(10), 12, 13]
    assert bench.pictures[10][1] == pytest.approx(12 * FRAME_S + 4e-4)  # with its last packet
    assert bench.buffer.held == 0


def test_a_key_frame_with_a_hole_is_waited_for_before_what_lies_before_it() -> None:
    bench = Bench(rtt_s=0.05)
    packets = list(stream(12, keys=(0, 9)))
    for packet in packets:
        if packet.number not in (32, 46):
            bench.feed(packet)
    bench.feed(packets[46], packets[-1].sent_s + 0.01, resent=True)
    assert bench.shown == [*range(6), 9, 10, 11]


def test_after_an_outage_nothing_old_is_asked_for() -> None:
    bench = Bench(rtt_s=0.08)
    for packet in stream(120, keys=(0, 95)):
        if not 30 <= packet.picture < 90:  # two seconds
            bench.feed(packet)
    assert bench.asked == []
    assert bench.key_wanted[0][0] == pytest.approx(90 * FRAME_S)
    assert bench.key_wanted[0][1] == "an outage"
    assert bench.buffer.counters.dropped_undecodable == 5
    assert bench.shown == [*range(30), *range(95, 120)]


def test_an_overrun_line_is_not_overrun_more() -> None:
    """A router that drops every second packet: a key frame is asked for, and not all that is missing, ever again."""
    bench = Bench(rtt_s=0.08)
    for packet in stream(60, per_picture=10, keys=(0, 40)):
        if not (15 <= packet.picture < 30 and packet.number % 2):
            bench.feed(packet)
    assert "too much is missing" in [why for _, why in bench.key_wanted]
    assert max(list(Counter(number for _, number in bench.asked).values())) <= 4
    assert len(bench.asked) < 120  # of 75 packets that were lost
    assert bench.shown == [*range(15), *range(40, 60)]


def test_where_very_much_is_missing_at_once_only_a_key_frame_is_asked_for() -> None:
    bench = Bench(rtt_s=0.08)
    for packet in stream(20, per_picture=10, keys=(0, 12)):
        if not 50 <= packet.number < 80:
            bench.feed(packet)
    assert bench.asked == []
    assert bench.key_wanted[0][1] == "too much is missing"
    assert bench.shown == [*range(5), *range(12, 20)]


def test_a_slow_camera_is_no_outage() -> None:
    bench = Bench()
    for packet in stream(10, per_picture=1):
        if packet.number != 5:
            bench.feed(packet, packet.number * 0.5)
    assert [number for _, number in bench.asked][:1] == [5]


def test_packets_that_overtake_each_other_lose_nothing() -> None:
    bench = Bench()
    packets = list(stream(30))
    for at in range(0, len(packets), 3):
        for place, packet in enumerate(reversed(packets[at : at + 3])):
            bench.feed(packet, packets[at].sent_s + place * 1e-4)
    assert bench.shown == list(range(30))
    assert bench.key_wanted == []


def test_retransmissions_that_come_too_late_are_counted_and_change_nothing() -> None:
    bench = Bench(rtt_s=0.05)
    packets = list(stream(60, keys=(0, 20)))
    for packet in packets:
        if packet.number != 52:
            bench.feed(packet)
    bench.feed(packets[52], packets[-1].sent_s + 0.001, resent=True)
    bench.feed(packets[53], packets[-1].sent_s + 0.002)
    assert bench.buffer.counters.late == 2
    assert bench.shown == [*range(10), *range(20, 60)]


def test_duplicates_are_counted() -> None:
    bench = Bench()
    for packet in stream(3):
        bench.feed(packet)
        if not packet.marker:
            bench.feed(packet, packet.sent_s + 1e-5)
    assert bench.buffer.counters.duplicates == 12
    assert bench.shown == [0, 1, 2]


def test_nothing_comes_before_the_first_key_frame() -> None:
    bench = Bench()
    for packet in stream(10, keys=(4,)):
        bench.feed(packet)
    assert bench.shown == list(range(4, 10))
    assert bench.key_wanted[0][0] == pytest.approx(4e-4)
    assert bench.key_wanted[0][1] == "there is no key frame to start from"
    assert bench.buffer.counters.dropped_undecodable == 4


def test_padding_belongs_to_no_picture() -> None:
    bench = Bench()
    number = 0
    for packet in stream(5):
        bench.feed(replace(packet, number=number))
        number += 1
        if packet.marker:  # as browsers probe: padding after a picture, with its timestamp
            bench.feed(replace(packet, number=number, marker=False, part=PADDING), packet.sent_s + 1e-4)
            number += 1
    assert bench.shown == list(range(5))
    assert bench.buffer.markers_trusted


def test_a_sender_that_marks_every_packet_is_read_by_timestamps() -> None:
    bench = Bench()
    for packet in stream(20, keys=(0, 10)):
        bench.feed(replace(packet, marker=True))
    assert not bench.buffer.markers_trusted
    assert bench.shown[-9:] == list(range(10, 19))


def test_the_buffer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jitter, "MOST_BYTES", 20_000)
    buffer = JitterBuffer("VP8", RoundTrip(), most_packets=64)
    for number in range(1, 5000):
        buffer.add(number % 65536, 7, False, Part(bytes(1000)), number * 1e-3)
        assert buffer.held <= 64
        assert buffer.held_bytes <= 21_000
    assert buffer.counters.dropped_full > 0


def test_a_new_stream_under_the_same_number_begins_anew() -> None:
    bench = Bench()
    for packet in stream(10):
        bench.feed(packet)
    for packet in stream(10, first=30_000):
        bench.feed(replace(packet, timestamp=packet.timestamp + 900_000), packet.sent_s + 1.0)
    assert bench.shown == list(range(10))  # of its key frame the first packet was taken for a stray one
    assert bench.buffer.held < 20
    for packet in stream(10, first=31_000, keys=(0, 5)):
        bench.feed(replace(packet, timestamp=packet.timestamp + 1_900_000), packet.sent_s + 2.0)
    assert bench.shown[-5:] == list(range(5, 10))


def test_a_restart_behind_leaves_nothing_missing() -> None:
    bench = Bench()
    for packet in stream(10, first=40_000):
        if packet.number != 40_048:
            bench.feed(packet)
    for packet in stream(10, keys=(0, 1), first=20_000):
        bench.feed(packet, packet.sent_s + 0.4)
    assert bench.shown[-9:] == list(range(1, 10))
    assert len(bench.buffer.missing) == 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_lost_and_however_it_comes(data: st.DataObject) -> None:
    """Order is kept, nothing comes twice, bounds hold, and a picture is shown only after all since a key frame were."""
    keys = frozenset(data.draw(st.sets(st.integers(0, 39), max_size=6)) | {0})
    packets = list(stream(40, per_picture=3, keys=tuple(keys), first=65_500))
    delays = data.draw(st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.07, 0.3, None]), min_size=120, max_size=120))
    arrivals = sorted(
        ((packet.sent_s + delay, packet) for packet, delay in zip(packets, delays) if delay is not None),
        key=lambda arrival: arrival[0],
    )
    bench = Bench(rtt_s=0.05)
    for now_s, packet in arrivals:
        bench.feed(packet, now_s)
        assert bench.buffer.held <= 120
    bench.until(100.0)
    assert bench.shown == sorted(set(bench.shown))
    for before, after in pairwise([-1, *bench.shown]):
        assert after == before + 1 or after in keys
    assert len(bench.buffer.missing) == 0
    assert bench.buffer.next_s is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.booleans(), st.binary(max_size=3))))
def test_any_packets_at_all_keep_it_bounded(packets: list[tuple[int, int, bool, bytes]]) -> None:
    buffer, now_s = JitterBuffer("VP8", RoundTrip()), 0.0
    for number, timestamp, marker, data in packets:
        now_s += 0.01
        buffer.add(number, timestamp, marker, Part(data, bool(data), data[:1] == b"\0"), now_s)
        buffer.poll(now_s)
        buffer.missing.due(now_s, 0.05)
    assert buffer.held <= len(packets)
    assert len(buffer.missing) <= 512
    assert buffer.held_bytes == sum(len(piece.part.data) for piece in buffer._pieces.values())


def test_unwrapping_goes_both_ways() -> None:
    unwrap = Unwrap(16)
    assert [unwrap(value) for value in (65534, 1, 65535, 3)] == [65534, 65537, 65535, 65539]


def test_lost_parts_of_a_key_frame_are_waited_for_until_the_rest_of_it_has_come() -> None:
    """On a slow line their second copies queue behind it, for longer than the deadline of any other packet."""
    bench = Bench(rtt_s=0.02)
    key = list(stream(1, per_picture=60))
    for place, packet in enumerate(key):
        if place not in (10, 30):
            bench.feed(packet, place * 5e-3)
    assert bench.key_wanted == []
    bench.feed(key[10], 0.31, resent=True)
    bench.feed(key[30], 0.32, resent=True)
    assert bench.shown == [0]


def test_lost_parts_of_a_key_frame_outlive_what_is_given_up_before_it() -> None:
    bench = Bench(rtt_s=0.02)
    packets = list(stream(5, keys=(0, 4)))
    for packet in packets:
        if packet.number not in (12, 22):
            bench.feed(packet)
    bench.note(bench.buffer.poll(packets[-1].sent_s + 0.09995), packets[-1].sent_s + 0.09995)
    bench.feed(packets[22], packets[-1].sent_s + 0.09996, resent=True)
    assert bench.shown == [0, 1, 4]


def test_the_rest_of_a_key_frame_whose_beginning_is_lost_is_no_key_frame() -> None:
    """H.264: its first packet holds the parameter sets, every other one says that it is of a key frame."""
    trip = RoundTrip()
    buffer = JitterBuffer("H264", trip)
    shown: list[CodedPicture] = []
    for number, (timestamp, marker, part) in enumerate(
        [
            (0, False, Part(b"set", True, True)), (0, True, Part(b"key", False, True)),
            (3000, True, Part(b"next")),
            (6000, False, Part(b"set", True, True)), (6000, False, Part(b"key", False, True)),
            (6000, True, Part(b"key", False, True)),
            (9000, True, Part(b"next")),
        ]
    ):  # fmt: skip
        if number != 3:
            shown += buffer.add(number, timestamp, marker, part, number * 0.01).pictures
    shown += buffer.poll(1.0).pictures
    assert [picture.rtp_timestamp for picture in shown] == [0, 3000]
    assert buffer.needs_key
    assert buffer.counters.dropped_undecodable == 2
