"""How pictures leave: takes the place of aiortc's sender for video.

aiortc codes with x264's slowest useful preset, opens a codec anew when the rate changes, sends a picture's packets in
one burst, remembers 128 of them and knows no feedback but REMB. Here are the loop and the packets; what is decided
about them (rate, pace, what is sent again, when a key frame is made) is arithmetic elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import random
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any

import aiortc.rtcpeerconnection
from aiortc import MediaStreamTrack, RTCRtpSender, clock
from aiortc.codecs import is_rtx
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    unpack_remb_fci,
)
from aiortc.stats import RTCRemoteInboundRtpStreamStats, RTCStatsReport
from av.packet import Packet
from av.video.frame import VideoFrame

from streamer.encoding.choose import instead, make_encoder
from streamer.encoding.native import NotUsable
from streamer.encoding.packets import Packetiser
from streamer.encoding.settings import EncodingSettings
from streamer.transport.changes import Changes
from streamer.transport.extensions import FirstPacket, SendExtensions, has_transport_feedback, header_block
from streamer.transport.feedback import SentLog, TransportFeedback
from streamer.transport.history import History, KeyLimit, SentPacket
from streamer.transport.outgoing import PACKET_OVERHEAD_BYTES, Outgoing, rtp_header
from streamer.transport.pacer import BURST_S, LONGEST_WAIT_S, MOST_BURST_S, SHORT_WAIT_S, Pacer
from streamer.transport.rate import Meter, RateLimits, SendRate
from streamer.transport.reports import SenderReports
from streamer.transport.round_trip import RoundTrip
from streamer.transport.source_filter import round_trip_of
from streamer.transport.types import (
    RTP_CLOCK_HZ,
    EncodedPicture,
    EncodedUnit,
    Encoder,
    PictureTimes,
    SendCounters,
    SendNumbers,
    TimedTrack,
    VideoCodec,
)

log = logging.getLogger(__name__)

CODECS: dict[str, VideoCodec] = {"VP8": "VP8", "H264": "H264"}
# Private names of aiortc's sender that are read or set here (checked by pin.py).
PRIVATE = (
    "rtp_started", "rtp_exited", "rtcp_started", "rtcp_exited", "cname", "mid", "rtx_payload_type", "stats",
    "packet_count", "octet_count", "rtp_timestamp", "ntp_timestamp",
)  # fmt: skip
BITS_PER_PIXEL = 0.12  # a person is then coded with 46 dB and more (docs/benchmarks): nobody sees the difference
FIRST_SHARE = 0.9  # of the rate that is picture, until it is measured
SHARE_WEIGHT = 0.02
PERIOD_WEIGHT = 0.1
RATE_STEP = 0.02  # smaller changes are not worth telling the encoder
BEHIND_S = 0.030  # the next picture is not coded while packets would wait for so long
LATE_S = 0.120  # a picture that came while packets wait for so long is not coded at all
PLAYOUT_DELAY_MS = (0, 500)  # from 0: Chrome then shows pictures at once
FIRST_REPORT_S = 0.1
MOST_TIMES = 120  # of the encoder, for the numbers
SEQUENCES = 1 << 16
NO_TRACK_S = 0.02
FAR_S = 0.05  # a round trip from which on a second loss costs a picture its deadline
COPY_AFTER_S = 0.015  # losses come in bursts


class PictureSender(RTCRtpSender):
    """aiortc's sender for video with another way from frame to packets. Lives on the event loop.

    It asks its track for the next frame only when the frame would leave at once: what is too much is dropped in the
    track's mailbox before it is coded, never after.
    """

    def __init__(self, track: MediaStreamTrack | str, transport: RTCDtlsTransport, encoding: EncodingSettings) -> None:
        super().__init__(track, transport)
        self.encoding = encoding
        self.rtp_origin = random.getrandbits(32)
        self.key_limit = KeyLimit()
        self.history = History()
        self._rate = SendRate(_limits(encoding))
        self._pacer: Pacer[Outgoing] = Pacer(self._rate.limits.start_bps)
        self._encoder: Encoder | None = None
        self._encoder_bps = 0
        self._most_bps = self._rate.limits.most_bps  # for pictures of the size that is sent now
        self._encode_ms: deque[float] = deque(maxlen=MOST_TIMES)
        self._packetiser = Packetiser()
        self._extensions = SendExtensions()
        self._numbers_packets = False
        self._sent_log = SentLog()
        self._share = FIRST_SHARE
        self._sequence = random.getrandbits(15)
        self._rtx_sequence = random.getrandbits(15)
        self._transport_sequence = 0
        self._counted: Counter[str] = Counter()
        self._round_trip: RoundTrip | None = None
        self._reports = SenderReports()
        self._payload_type = 0
        self._again = Meter()
        self._period_s = 1 / 30
        self._last_s: float | None = None
        self._waiting = asyncio.Event()
        self._followers: list[Callable[[int], None]] = []
        self._followed_bps = 0

    @property
    def counters(self) -> SendCounters:
        return SendCounters(
            **self._counted,
            key_requests=self.key_limit.asked,
            key_requests_held=self.key_limit.held,
            nacks=self.history.asked,
            nacks_unknown=self.history.unknown,
        )

    @property
    def numbers(self) -> SendNumbers:
        now_s = time.monotonic()
        rtt = self._round_trip
        return SendNumbers(
            target_bps=self._rate.target_bps(now_s),
            encoder_bps=self._encoder_bps,
            rtt_s=rtt.rtt_s if rtt is not None and rtt.samples else None,
            loss=self._rate.by_loss.loss,
            queue_ms=self._pacer.wait_s() * 1e3,
            encode_ms=median(self._encode_ms) if self._encode_ms else 0.0,
            encoder=getattr(self._encoder, "name", "none"),
            has_feedback=self._rate.has_feedback,
        )

    def set_limits(self, limits: RateLimits) -> None:
        """Other limits of the bit rate, from now on; `start_bps` counts only before the first picture."""
        started = self._counted["packets"] > 0
        delay_bps, loss_bps = self._rate.delay.bps, self._rate.by_loss.bps
        self._rate.limits = self._rate.delay.limits = self._rate.by_loss.limits = limits
        self._rate.delay.bps = float(limits.clamp(delay_bps if started else limits.start_bps))
        self._rate.by_loss.bps = float(limits.clamp(loss_bps if started else limits.start_bps))
        self._follow()

    def on_rate(self, follower: Callable[[int], None]) -> None:
        """Tells the follower, on the event loop, when the bit rate changes by 5 % or more."""
        self._followers.append(follower)

    def request_key(self, why: str) -> None:
        """The next picture is to be a key frame, as soon as the limit allows."""
        log.debug("key frame: %s", why)
        self.key_limit.ask(self._rtt_s(), time.monotonic())

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        self._extensions = SendExtensions.agreed(parameters)
        self._numbers_packets = has_transport_feedback(parameters.codecs[0], parameters)
        await super().send(parameters)
        if any(is_rtx(codec) for codec in parameters.codecs):
            # Feedback may name the stream of retransmissions as its media.
            self.transport._rtp_router.register_sender(self, ssrc=self._rtx_ssrc)

    async def getStats(self) -> RTCStatsReport:
        _set(self, "packet_count", self._counted["packets"])
        _set(self, "octet_count", self._counted["bytes"])
        return await super().getStats()

    # In: RTCP

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        now_s = time.monotonic()
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._ssrc:
                    self._take_report(packet.ssrc, report, now_s)
        elif isinstance(packet, TransportFeedback):
            self._rate.rtt_s = self._rtt_s()
            self._rate.on_feedback(self._sent_log.fates(packet, now_s), now_s)
        elif isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            self._send_again(packet.lost, now_s)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
            self.key_limit.ask(self._rtt_s(), now_s)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            self._take_remb(packet.fci, now_s)
        self._follow()

    def _take_report(self, from_ssrc: int, report: RtcpReceiverInfo, now_s: float) -> None:
        answered = self._reports.answered(report, now_s)
        if answered.rtt_s is not None:
            self._way().add(answered.rtt_s)
        self._rate.on_report(answered.loss, answered.expected, now_s)
        _get(self, "stats").add(
            RTCRemoteInboundRtpStreamStats(
                timestamp=clock.current_datetime(),
                type="remote-inbound-rtp",
                id=f"remote-inbound-rtp_{id(self)}",
                ssrc=from_ssrc,
                kind=self.kind,
                transportId=self.transport._stats_id,
                packetsReceived=self._counted["packets"] - report.packets_lost,
                packetsLost=report.packets_lost,
                jitter=report.jitter,
                roundTripTime=self._rtt_s(),
                fractionLost=report.fraction_lost,
            )
        )

    def _take_remb(self, fci: bytes, now_s: float) -> None:
        try:
            bps, ssrcs = unpack_remb_fci(fci)
        except (ValueError, struct.error):
            return
        if self._ssrc in ssrcs or self._rtx_ssrc in ssrcs:
            self._rate.on_remb(min(bps, 1_000_000_000), now_s)

    def _send_again(self, sequences: list[int], now_s: float) -> None:
        """Twice, where it takes long to learn that a retransmission was lost too, and nothing is in the way."""
        bps, rtt_s = self._rate.target_bps(now_s), self._rtt_s()
        copies = 2 if rtt_s > FAR_S and self._rate.has_room else 1
        for sequence in dict.fromkeys(sequences):
            packet = self.history.again(sequence, bps, rtt_s, now_s, copies)
            if packet is not None:
                self._add_again(packet)
                if copies > 1:
                    asyncio.get_running_loop().call_later(COPY_AFTER_S, self._add_again, packet)

    def _add_again(self, packet: SentPacket) -> None:
        outgoing = Outgoing(packet, again=True)
        self._pacer.add(outgoing, outgoing.size_bytes, time.monotonic(), urgent=True)
        self._waiting.set()

    def _follow(self) -> None:
        """Whoever must know of the rate learns it: pacer, encoder, the call."""
        now_s = time.monotonic()
        bps = self._rate.target_bps(now_s)
        self._pacer.bps = bps
        self._pacer.longest_wait_s = SHORT_WAIT_S if self._rate.is_free(now_s) else LONGEST_WAIT_S
        again_bps = min(self._again.bps(now_s) or 0.0, bps / 2)  # what is sent again is not there for pictures
        picture_bps = min(round((bps - again_bps) * self._share), self._most_bps)
        if self._encoder is not None and abs(picture_bps - self._encoder_bps) > RATE_STEP * self._encoder_bps:
            self._encoder.set_rate(picture_bps)
            self._encoder_bps = picture_bps
        if abs(bps - self._followed_bps) > 0.05 * self._followed_bps:
            self._followed_bps = bps
            for follower in self._followers:
                follower(bps)

    # Out: pictures

    async def _run_rtp(self, codec: RTCRtpCodecParameters) -> None:
        _get(self, "rtp_started").set()
        self._payload_type = int(codec.payloadType or 0)
        executor = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        pump = asyncio.ensure_future(self._pump())
        try:
            while True:
                await self._next_picture(CODECS[codec.name], executor)
        except (asyncio.CancelledError, ConnectionError, MediaStreamError):
            pass
        except Exception:  # the boundary to tracks: aiortc's `stop` waits for ever for a sender that died
            log.exception("the sender of pictures stopped")
        finally:
            _get(self, "rtp_exited").set()  # before anything is awaited: `stop` may cancel this a second time
            pump.cancel()
            track: MediaStreamTrack | None = self.track
            if track is not None:
                track.stop()
                self.replaceTrack(None)
            if self._encoder is not None:
                executor.submit(self._encoder.close)  # behind the picture that is being coded
                self._encoder = None
            executor.shutdown(wait=False)
            self._pacer.clear()
            await asyncio.gather(pump, return_exceptions=True)

    async def _next_picture(self, codec: VideoCodec, executor: ThreadPoolExecutor) -> None:
        behind_s = self._pacer.wait_s() - BEHIND_S
        if behind_s > 0:
            await asyncio.sleep(behind_s)
            return
        track: MediaStreamTrack | None = self.track
        if track is None:
            await asyncio.sleep(NO_TRACK_S)
            return
        frame = await track.recv()
        if not self._enabled:
            return
        times = track.times_of(frame) if isinstance(track, TimedTrack) and isinstance(frame, VideoFrame) else None
        now_s = time.monotonic()
        if self._pacer.wait_s() > LATE_S:
            self._counted.update(dropped_late=1)
            return
        if frame.pts is None or frame.time_base is None:
            return
        timestamp = int(frame.pts * frame.time_base.numerator * RTP_CLOCK_HZ // frame.time_base.denominator)
        if isinstance(frame, Packet):
            unit: EncodedUnit | None = EncodedUnit(codec, bytes(frame), frame.is_keyframe)
        elif isinstance(frame, VideoFrame):
            unit = await self._encode(codec, frame, executor, now_s)
        else:
            return
        if unit is None:
            return
        encoded_s = time.monotonic()
        if unit.is_key:
            self.key_limit.made(encoded_s)
        times = times or PictureTimes(now_s, now_s)
        picture = EncodedPicture(self._packetiser.payloads(unit), timestamp, unit.is_key, times.at(encoded_s=encoded_s))
        self._queue(picture, encoded_s)
        await self._flush()

    async def _encode(
        self, codec: VideoCodec, frame: VideoFrame, executor: ThreadPoolExecutor, now_s: float
    ) -> EncodedUnit | None:
        self._most_bps = round(frame.width * frame.height * 30 * BITS_PER_PIXEL)
        if self._encoder is None:
            self._encoder_bps = min(round(self._rate.target_bps(now_s) * self._share), self._most_bps)
            self._encoder = make_encoder(codec, self.encoding, self._encoder_bps)
        self._follow()
        force_key, loop = self.key_limit.due(now_s), asyncio.get_running_loop()
        while True:
            encoder = self._encoder
            try:
                unit = await loop.run_in_executor(executor, encoder.encode, frame, force_key)
                self._encode_ms.append((time.monotonic() - now_s) * 1e3)
                return unit
            except NotUsable as error:
                executor.submit(encoder.close)
                self._encoder, force_key = instead(encoder, error, self.encoding, self._encoder_bps), True

    def _queue(self, picture: EncodedPicture, now_s: float) -> None:
        """Makes the packets of a picture and queues them."""
        timestamp = (self.rtp_origin + picture.rtp_timestamp) % (1 << 32)
        captured_unix_s = time.time() - (now_s - picture.times.first_packet_s)
        self._note_period(timestamp_s=picture.rtp_timestamp / RTP_CLOCK_HZ)
        first = FirstPacket(captured_unix_s, PLAYOUT_DELAY_MS)
        last = len(picture.payloads) - 1
        for index, payload in enumerate(picture.payloads):
            values = self._extensions.of_picture(first) if index == 0 else []
            packet = SentPacket(self._sequence, timestamp, int(index == last), payload, values, now_s)
            self._sequence = (self._sequence + 1) % SEQUENCES
            outgoing = Outgoing(packet, picture if index == last else None)
            self._pacer.add(outgoing, outgoing.size_bytes, now_s)
            self.history.keep(packet)
        self._counted.update(pictures=1, key_pictures=int(picture.is_key))
        self._waiting.set()

    def _note_period(self, timestamp_s: float) -> None:
        """How far apart pictures are: one and a half of them may leave at once."""
        if self._last_s is not None and 0 < timestamp_s - self._last_s < 1:
            self._period_s += PERIOD_WEIGHT * (timestamp_s - self._last_s - self._period_s)
        self._last_s = timestamp_s
        self._pacer.burst_s = min(max(1.5 * self._period_s, BURST_S), MOST_BURST_S)

    async def _pump(self) -> None:
        """Sends what the pacer held back, until cancelled."""
        while True:
            await self._waiting.wait()
            await self._flush()
            next_s = self._pacer.next_s(time.monotonic())
            if next_s is None:
                self._waiting.clear()
            else:
                await asyncio.sleep(max(next_s - time.monotonic(), 0.0))

    async def _flush(self) -> None:
        """Sends every packet whose time has come."""
        for outgoing in self._pacer.due(time.monotonic()):
            try:
                await self._transmit(outgoing)
            except ConnectionError:
                if not outgoing.again:
                    raise

    async def _transmit(self, outgoing: Outgoing) -> None:
        packet, now_s, unix_s = outgoing.packet, time.monotonic(), time.time()
        rtx_type = _get(self, "rtx_payload_type")
        as_rtx = outgoing.again and rtx_type is not None
        number = self._transport_sequence if self._numbers_packets else None
        values = self._extensions.of_packet(
            mid=str(_get(self, "mid") or "").encode(), sent_unix_s=unix_s, transport_sequence=number
        )
        data = rtp_header(
            payload_type=rtx_type if as_rtx else self._payload_type,
            marker=packet.marker,
            sequence=self._rtx_sequence if as_rtx else packet.sequence,
            timestamp=packet.timestamp,
            ssrc=self._rtx_ssrc if as_rtx else self._ssrc,
            extension=header_block([*values, *packet.extension]),
        )
        data += struct.pack("!H", packet.sequence) + packet.payload if as_rtx else packet.payload
        await self.transport._send_rtp(data)
        if number is not None:
            self._sent_log.add(number, now_s, len(data) + PACKET_OVERHEAD_BYTES)
            self._transport_sequence = (number + 1) % SEQUENCES
        if outgoing.again:
            self._rtx_sequence = (self._rtx_sequence + 1) % SEQUENCES if as_rtx else self._rtx_sequence
            self._counted.update(retransmitted=1)
            self._again.add(now_s, len(data))
            return
        self._note_sent(outgoing, len(data), now_s, unix_s)

    def _note_sent(self, outgoing: Outgoing, size_bytes: int, now_s: float, unix_s: float) -> None:
        packet = outgoing.packet
        self._share += SHARE_WEIGHT * (len(packet.payload) / (size_bytes + PACKET_OVERHEAD_BYTES) - self._share)
        self._counted.update(packets=1, bytes=len(packet.payload))
        self._reports.sent(packet.timestamp, unix_s)
        _set(self, "rtp_timestamp", packet.timestamp)
        track = self.track
        if outgoing.last_of is not None and isinstance(track, TimedTrack):
            track.sent(replace(outgoing.last_of, times=outgoing.last_of.times.at(sent_s=now_s)))

    # Out: RTCP

    async def _run_rtcp(self) -> None:
        _get(self, "rtcp_started").set()
        try:
            await asyncio.sleep(FIRST_REPORT_S)
            while True:
                await self._send_report()
                await asyncio.sleep(0.5 + random.random())
        except asyncio.CancelledError:
            pass
        await self._send_rtcp([RtcpByePacket(sources=[self._ssrc])])
        _get(self, "rtcp_exited").set()

    async def _send_report(self) -> None:
        cname, packets, octets = _get(self, "cname"), self._counted["packets"], self._counted["bytes"]
        report = self._reports.make(self._ssrc, cname, packets, octets, time.monotonic(), time.time())
        if report:
            await self._send_rtcp(report)

    def _way(self) -> RoundTrip:
        """The measure of the round trip that everything on this transport shares."""
        if self._round_trip is None or not self._round_trip.samples:
            self._round_trip = round_trip_of(self.transport)
        return self._round_trip

    def _rtt_s(self) -> float:
        return self._way().rtt_s


def make_sender(encoding: EncodingSettings) -> Callable[[MediaStreamTrack | str, RTCDtlsTransport], RTCRtpSender]:
    """What takes the place of the class `RTCRtpSender` where connections make their senders."""

    def make(track: MediaStreamTrack | str, transport: RTCDtlsTransport) -> RTCRtpSender:
        kind = track if isinstance(track, str) else track.kind
        if kind != "video":
            return RTCRtpSender(track, transport)
        return PictureSender(track, transport, encoding)

    return make


def install(changes: Changes, encoding: EncodingSettings | None = None) -> None:
    """Lets every connection of this process send its pictures with a `PictureSender`."""
    changes.replace(aiortc.rtcpeerconnection, "RTCRtpSender", make_sender(encoding or EncodingSettings()))


def _limits(encoding: EncodingSettings) -> RateLimits:
    least, start, most = encoding.min_kbps * 1000, encoding.start_kbps * 1000, encoding.max_kbps * 1000
    return RateLimits(least, min(max(start, least), most), most)


def _get(sender: RTCRtpSender, name: str) -> Any:
    return getattr(sender, f"_RTCRtpSender__{name}")


def _set(sender: RTCRtpSender, name: str, value: object) -> None:
    setattr(sender, f"_RTCRtpSender__{name}", value)
