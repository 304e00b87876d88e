"""How a camera's packets become pictures: takes the place of aiortc's receiver for video.

It decides nothing itself: that is `reception`, arithmetic only. Here are the timer, the packets to the other side, and
who gets the pictures.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time

from aiortc.codecs import is_rtx
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver, decoder_worker
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtpPacket,
    unwrap_rtx,
)

from streamer.transport.feedback import make_feedback
from streamer.transport.incoming import StreamReceiver, get, put
from streamer.transport.reception import HELD_BACK_S, Due, Reception
from streamer.transport.round_trip import RoundTrip
from streamer.transport.sound import SoundReceiver
from streamer.transport.source_filter import round_trip_of
from streamer.transport.types import CodedPicture, PictureSink, ReceiveCounters, VideoCodec

BACKLOG = 30  # pictures that may wait for aiortc's own decoder where nobody else takes them
LEAST_TIMER_S = 0.001
CODECS: dict[str, VideoCodec] = {"VP8": "VP8", "H264": "H264"}  # that can be taken apart here


class PictureReceiver(StreamReceiver):
    """aiortc's receiver for video, with another way from packet to picture. Lives on the event loop.

    With `attach` whole coded pictures go to a sink (a decoder in a process of its own). Without a sink they go to
    aiortc's decoder thread and its track, bounded: so a client that knows nothing of this works as before.
    """

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__("video", transport)
        put(self, "remote_bitrate_estimator", None)  # of a thousand objects; `feedback` takes its place
        self.feedback = make_feedback(lambda: get(self, "rtcp_ssrc"))
        self._reception = Reception()
        self._sink: PictureSink | None = None
        self._codec: RTCRtpCodecParameters | None = None
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
        return self._reception.counters

    @property
    def round_trip(self) -> RoundTrip:
        """Of the path that packets come by."""
        return self._reception.round_trip

    @property
    def last_packet_s(self) -> float | None:
        """When the newest packet came, monotonic seconds."""
        return self._reception.last_packet_s

    @property
    def last_picture_s(self) -> float | None:
        """When the newest whole picture was whole, monotonic seconds."""
        return self._reception.last_picture_s

    @property
    def held(self) -> int:
        """Packets in the jitter buffer."""
        return self._reception.held

    def request_key(self, why: str) -> None:
        """Asks for a key frame, now or as soon as the limit allows."""
        self._reception.want_key(why)
        self._on_time()

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Begins. Unlike aiortc's own, without a decoder thread: that starts with the first picture nobody takes."""
        await self._begin(parameters)

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        now_s = time.monotonic()
        codec = get(self, "codecs").get(packet.payload_type)
        if not self._enabled or self._ended or codec is None:
            return
        self.feedback.packet(packet, len(packet.payload) + packet.padding_size, now_s)
        self._count(packet, codec)
        resent = is_rtx(codec)
        if resent:
            original = self._unwrap(packet, codec)
            if original is None:
                return
            packet, codec = original
        if not self._is_ours(packet.ssrc, codec, now_s):
            return
        marker = bool(packet.marker)
        self._hand_out(
            self._reception.packet(packet.sequence_number, packet.timestamp, marker, packet.payload, now_s, resent)
        )
        self._on_time()

    def _unwrap(
        self, packet: RtpPacket, codec: RTCRtpCodecParameters
    ) -> tuple[RtpPacket, RTCRtpCodecParameters] | None:
        """The packet that a retransmission (RFC 4588) carries; None where it carries none (padding, strangers)."""
        ssrc = get(self, "rtx_ssrc").get(packet.ssrc)
        payload_type = codec.parameters.get("apt")
        original = get(self, "codecs").get(payload_type)
        if ssrc is None or original is None or not isinstance(payload_type, int) or len(packet.payload) < 2:
            return None
        return unwrap_rtx(packet, payload_type=payload_type, ssrc=ssrc), original

    def _is_ours(self, ssrc: int, codec: RTCRtpCodecParameters, now_s: float) -> bool:
        """Whether a packet belongs to the stream that is shown; another one may take a silent one's place."""
        known = CODECS.get(codec.name)
        if known is None:
            return False
        if not self._reception.follows(ssrc, known):
            if not self._reception.begin(ssrc, known, round_trip_of(self.transport), now_s):
                return False
            self._codec = codec
        return True

    def _hand_out(self, pictures: tuple[CodedPicture, ...]) -> None:
        for picture in pictures:
            if self._sink is not None:
                self._sink.coded(picture)
            else:
                self._to_track(picture)

    def _on_time(self) -> None:
        """Everything that is due now, and the timer for what is due next."""
        if self._ended:
            return
        now_s = time.monotonic()
        tell = self.feedback.take(now_s)
        own_ssrc, ssrc = get(self, "rtcp_ssrc"), self._reception.ssrc
        if own_ssrc is not None and ssrc is not None:
            due = self._reception.due(now_s)
            self._hand_out(due.pictures)
            tell += _requests(due, own_ssrc, ssrc)
        if tell:
            self._tell(tell)
        self._arm(now_s)

    def _arm(self, now_s: float) -> None:
        """Sets the timer to what is due next."""
        feedback_s = self.feedback.next_s(now_s)
        if feedback_s is not None and feedback_s <= now_s:
            feedback_s = now_s + HELD_BACK_S
        times_s = [due_s for due_s in (self._reception.next_s(now_s), feedback_s) if due_s is not None]
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
        waiting: queue.Queue[object] = get(self, "decoder_queue")
        error: threading.Event = get(self, "decoder_error")
        if error.is_set():
            error.clear()
            self._reception.want_key("the decoder failed")
        behind = waiting.qsize() >= BACKLOG or self._track is None or self._track._queue.qsize() >= BACKLOG
        if behind or (self._skip_to_key and not picture.is_key):
            self._skip_to_key = True
            self._reception.want_key("nobody takes the pictures")
            return
        self._skip_to_key = False
        self._start_decoder()
        frame = JitterFrame(picture.payload, get(self, "timestamp_mapper").map(picture.rtp_timestamp & 0xFFFFFFFF))
        waiting.put((self._codec, frame))

    def _start_decoder(self) -> None:
        if get(self, "decoder_thread") is not None:
            return
        assert self._track is not None
        output, error = self._track._queue, get(self, "decoder_error")
        thread = threading.Thread(
            target=decoder_worker,
            name="video-decoder",
            args=(self._event_loop, get(self, "decoder_queue"), output, error),
        )
        put(self, "decoder_thread", thread)
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
        waiting: queue.Queue[object] = get(self, "decoder_queue")
        while not waiting.empty():
            waiting.get_nowait()  # aiortc waits for its thread on the event loop: not behind a backlog
        self._end_track()


def make_receiver(kind: str, transport: RTCDtlsTransport) -> RTCRtpReceiver:
    """What a connection makes where it made aiortc's `RTCRtpReceiver`."""
    return PictureReceiver(transport) if kind == "video" else SoundReceiver(transport)


def _requests(due: Due, own_ssrc: int, ssrc: int) -> list[bytes]:
    """NACK and PLI, ready to be sent."""
    packets: list[bytes] = []
    if due.nacks:
        nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=own_ssrc, media_ssrc=ssrc)
        nack.lost = list(due.nacks)
        packets.append(bytes(nack))
    if due.key:
        packets.append(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=own_ssrc, media_ssrc=ssrc)))
    return packets
