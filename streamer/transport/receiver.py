"""How a camera's packets become pictures: takes the place of aiortc's receiver for video.

It decides nothing itself: the jitter buffer, the list of missing packets and the limit on key-frame requests are
arithmetic elsewhere. Here are the timer, the packets to the other side, and who gets the pictures.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import fields, replace
from typing import Any

from aiortc import clock
from aiortc.codecs import is_rtx
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver, StreamStatistics, decoder_worker
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtpPacket,
    unwrap_rtx,
)

from streamer.transport.feedback import make_feedback
from streamer.transport.jitter import LATE, JitterBuffer, Out
from streamer.transport.key_requests import FRESH_S, KeyAsker
from streamer.transport.payload import read_part
from streamer.transport.round_trip import RoundTrip
from streamer.transport.sound import SoundReceiver
from streamer.transport.source_filter import round_trip_of
from streamer.transport.timeline import Timeline
from streamer.transport.types import CodedPicture, PictureSink, ReceiveCounters, VideoCodec

BACKLOG = 30  # pictures that may wait for aiortc's own decoder where nobody else takes them
SILENT_S = 0.5  # after which another stream (SSRC) may take a silent one's place
LEAST_TIMER_S = 0.001
HELD_BACK_S = 0.02  # until what is due and may not be done yet is looked at again
CODECS: dict[str, VideoCodec] = {"VP8": "VP8", "H264": "H264"}  # that can be taken apart here


class PictureReceiver(RTCRtpReceiver):
    """aiortc's receiver for video, with another way from packet to picture. Lives on the event loop.

    With `attach` whole coded pictures go to a sink (a decoder in a process of its own). Without a sink they go to
    aiortc's decoder thread and its track, bounded: so a client that knows nothing of this works as before.
    """

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__("video", transport)
        self.round_trip = RoundTrip()
        self.feedback = make_feedback(lambda: _get(self, "rtcp_ssrc"))
        self.last_packet_s: float | None = None
        self.last_picture_s: float | None = None
        self._sink: PictureSink | None = None
        self._asker = KeyAsker()
        self._buffer: JitterBuffer | None = None
        self._before = ReceiveCounters()  # of buffers that another has replaced
        self._ssrc: int | None = None
        self._codec: RTCRtpCodecParameters | None = None
        self._timeline = Timeline()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._telling: set[asyncio.Task[None]] = set()
        self._skip_to_key = False
        self._ended = False
        self._event_loop = asyncio.get_running_loop()

    def attach(self, sink: PictureSink) -> None:
        """From now on the sink gets the pictures. Call it when the track is announced, before packets come."""
        self._sink = sink

    @property
    def counters(self) -> ReceiveCounters:
        counted = _sum(self._before, self._buffer.counters if self._buffer is not None else ReceiveCounters())
        return replace(counted, plis=self._asker.asked)

    @property
    def held(self) -> int:
        """Packets in the jitter buffer."""
        return self._buffer.held if self._buffer is not None else 0

    def request_key(self, why: str) -> None:
        """Asks for a key frame, now or as soon as the limit allows."""
        self._asker.want(why)
        self._on_time()

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Begins. Unlike aiortc's own, without a decoder thread: that starts with the first picture nobody takes."""
        if _get(self, "started"):
            return
        for codec in parameters.codecs:
            _get(self, "codecs")[codec.payloadType] = codec
        for encoding in parameters.encodings:
            if encoding.rtx:
                _get(self, "rtx_ssrc")[encoding.rtx.ssrc] = encoding.ssrc
        self.transport._register_rtp_receiver(self, parameters)
        _set(self, "rtcp_task", asyncio.ensure_future(self._run_rtcp()))
        _set(self, "started", True)

    async def stop(self) -> None:
        self._finish()
        await super().stop()

    def _handle_disconnect(self) -> None:
        self._finish()
        super()._handle_disconnect()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpByePacket):
            self._finish()
        await super()._handle_rtcp_packet(packet)

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        now_s = time.monotonic()
        codec = _get(self, "codecs").get(packet.payload_type)
        if not self._enabled or self._ended or codec is None:
            return
        self.last_packet_s = now_s
        self._count_arrival(packet, codec, now_s)
        resent = is_rtx(codec)
        if resent:
            original = self._unwrap(packet, codec)
            if original is None:
                return
            packet, codec = original
        buffer = self._buffer_of(packet, codec, now_s)
        if buffer is None:
            return
        try:
            part = read_part(codec.name, packet.payload)
        except ValueError:
            buffer.count_malformed()
            return
        out = buffer.add(packet.sequence_number, packet.timestamp, bool(packet.marker), part, now_s, resent)
        self._hand_out(out)
        self._on_time()

    def _count_arrival(self, packet: RtpPacket, codec: RTCRtpCodecParameters, now_s: float) -> None:
        """What reports to the other side are made of."""
        self.feedback.packet(packet, len(packet.payload) + packet.padding_size, now_s)
        _get(self, "active_ssrc")[packet.ssrc] = clock.current_datetime()
        streams = _get(self, "remote_streams")
        if packet.ssrc not in streams:
            streams[packet.ssrc] = StreamStatistics(codec.clockRate)
        streams[packet.ssrc].add(packet)

    def _unwrap(
        self, packet: RtpPacket, codec: RTCRtpCodecParameters
    ) -> tuple[RtpPacket, RTCRtpCodecParameters] | None:
        """The packet that a retransmission (RFC 4588) carries; None where it carries none (padding, strangers)."""
        ssrc = _get(self, "rtx_ssrc").get(packet.ssrc)
        payload_type = codec.parameters.get("apt")
        original = _get(self, "codecs").get(payload_type)
        if ssrc is None or original is None or not isinstance(payload_type, int) or len(packet.payload) < 2:
            return None
        return unwrap_rtx(packet, payload_type=payload_type, ssrc=ssrc), original

    def _buffer_of(self, packet: RtpPacket, codec: RTCRtpCodecParameters, now_s: float) -> JitterBuffer | None:
        """The buffer, a new one for another codec or stream. None for a second stream beside one that goes on."""
        if self._buffer is not None and self._ssrc == packet.ssrc and _is_same(self._codec, codec):
            return self._buffer
        last_s = self.last_picture_s
        if self._ssrc not in (None, packet.ssrc) and last_s is not None and now_s - last_s < SILENT_S:
            return None
        known = CODECS.get(codec.name)
        if known is None:
            return None
        self._before = self.counters
        self.round_trip = round_trip_of(self.transport)
        self._buffer = JitterBuffer(known, self.round_trip)
        self._ssrc, self._codec = packet.ssrc, codec
        return self._buffer

    def _hand_out(self, out: Out) -> None:
        for coded in out.pictures:
            picture = replace(coded, rtp_timestamp=self._timeline(coded.rtp_timestamp, coded.last_packet_s))
            self.last_picture_s = picture.last_packet_s
            if picture.is_key:
                self._asker.got()
            if self._sink is not None:
                self._sink.coded(picture)
            else:
                self._to_track(picture)
        if out.key_wanted:
            self._asker.want(out.key_wanted)
        elif out.pictures:
            self._asker.withdraw(LATE)

    def _on_time(self) -> None:
        """Everything that is due now, and the timer for what is due next."""
        if self._ended:
            return
        now_s = time.monotonic()
        tell: list[bytes] = []
        buffer, own_ssrc = self._buffer, _get(self, "rtcp_ssrc")
        if buffer is not None:
            next_s = buffer.next_s
            if next_s is not None and next_s <= now_s:
                self._hand_out(buffer.poll(now_s))
            if own_ssrc is not None and self._ssrc is not None:
                tell += self._requests(buffer, own_ssrc, self._ssrc, now_s)
        tell += self.feedback.take(now_s)
        if tell:
            self._tell(tell)
        self._arm(now_s)

    def _requests(self, buffer: JitterBuffer, own_ssrc: int, ssrc: int, now_s: float) -> list[bytes]:
        """NACK and PLI, as they are due."""
        packets: list[bytes] = []
        numbers = buffer.missing.due(now_s, self.round_trip.rtt_s)
        if numbers:
            nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=own_ssrc, media_ssrc=ssrc)
            nack.lost = sorted(number & 0xFFFF for number in numbers)
            packets.append(bytes(nack))
        if self._is_fresh(now_s) and self._asker.due(now_s, buffer.is_key_arriving(now_s)):
            packets.append(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=own_ssrc, media_ssrc=ssrc)))
        return packets

    def _is_fresh(self, now_s: float) -> bool:
        return self.last_packet_s is not None and now_s - self.last_packet_s < FRESH_S

    def _arm(self, now_s: float) -> None:
        """Sets the timer to what is due next."""
        due = [self._buffer.next_s if self._buffer is not None else None]
        due.append(self._asker.next_s() if self._ssrc is not None and self._is_fresh(now_s) else None)
        due.append(self.feedback.next_s(now_s))
        times_s = [due_s if due_s > now_s else now_s + HELD_BACK_S for due_s in due if due_s is not None]
        if not times_s:
            return
        next_s = max(min(times_s), now_s + LEAST_TIMER_S)
        if self._timer is not None:
            if now_s < self._timer_s <= next_s:
                return  # it will look again by itself
            self._timer.cancel()
        self._timer_s = next_s
        self._timer = self._event_loop.call_later(next_s - now_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._on_time()

    def _tell(self, packets: list[bytes]) -> None:
        task = self._event_loop.create_task(self._send_all(packets))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _send_all(self, packets: list[bytes]) -> None:
        try:
            for packet in packets:
                await self.transport._send_rtp(packet)
        except ConnectionError:
            return  # the connection is ending; nothing needs to be told any more

    def _to_track(self, picture: CodedPicture) -> None:
        """To aiortc's decoder thread and track, never more than a backlog behind."""
        waiting: queue.Queue[object] = _get(self, "decoder_queue")
        error: threading.Event = _get(self, "decoder_error")
        if error.is_set():
            error.clear()
            self._asker.want("the decoder failed")
        behind = waiting.qsize() >= BACKLOG or self._track is None or self._track._queue.qsize() >= BACKLOG
        if behind or (self._skip_to_key and not picture.is_key):
            self._skip_to_key = True
            self._asker.want("nobody takes the pictures")
            return
        self._skip_to_key = False
        self._start_decoder()
        frame = JitterFrame(picture.payload, _get(self, "timestamp_mapper").map(picture.rtp_timestamp & 0xFFFFFFFF))
        waiting.put((self._codec, frame))

    def _start_decoder(self) -> None:
        if _get(self, "decoder_thread") is not None:
            return
        assert self._track is not None
        output, error = self._track._queue, _get(self, "decoder_error")
        thread = threading.Thread(
            target=decoder_worker,
            name="video-decoder",
            args=(self._event_loop, _get(self, "decoder_queue"), output, error),
        )
        _set(self, "decoder_thread", thread)
        thread.start()

    def _finish(self) -> None:
        """Nothing more comes. Safe to call twice."""
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sink is not None:
            self._sink.ended()
        waiting: queue.Queue[object] = _get(self, "decoder_queue")
        while not waiting.empty():
            waiting.get_nowait()  # aiortc waits for its thread on the event loop: not behind a backlog
        if self._track is not None and _get(self, "decoder_thread") is None:
            self._track._queue.put_nowait(None)


def make_receiver(kind: str, transport: RTCDtlsTransport) -> RTCRtpReceiver:
    """What a connection makes where it made aiortc's `RTCRtpReceiver`."""
    return PictureReceiver(transport) if kind == "video" else SoundReceiver(transport)


# What of aiortc's receiver is used here, by its private name: `pin` looks whether it is all there.
PRIVATE = (
    "active_ssrc",
    "codecs",
    "decoder_error",
    "decoder_queue",
    "decoder_thread",
    "remote_streams",
    "rtcp_ssrc",
    "rtcp_task",
    "rtx_ssrc",
    "started",
    "timestamp_mapper",
)


def _get(receiver: RTCRtpReceiver, name: str) -> Any:
    return getattr(receiver, f"_RTCRtpReceiver__{name}")


def _set(receiver: RTCRtpReceiver, name: str, value: object) -> None:
    setattr(receiver, f"_RTCRtpReceiver__{name}", value)


def _is_same(one: RTCRtpCodecParameters | None, other: RTCRtpCodecParameters) -> bool:
    return one is not None and one.name == other.name


def _sum(one: ReceiveCounters, other: ReceiveCounters) -> ReceiveCounters:
    names = [field.name for field in fields(ReceiveCounters)]
    return ReceiveCounters(**{name: getattr(one, name) + getattr(other, name) for name in names})
