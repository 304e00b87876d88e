"""What receivers of pictures and of sounds share: how a stream begins, is counted for reports, and ends."""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import clock
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver, StreamStatistics
from aiortc.rtp import AnyRtcpPacket, RtcpByePacket, RtpPacket

# What of aiortc's receiver is used here and below, by its private name: `pin` looks whether it is all there.
PRIVATE = (
    "active_ssrc",
    "codecs",
    "decoder_error",
    "decoder_queue",
    "decoder_thread",
    "remote_bitrate_estimator",
    "remote_streams",
    "rtcp_ssrc",
    "rtcp_task",
    "rtx_ssrc",
    "started",
    "timestamp_mapper",
)


class StreamReceiver(RTCRtpReceiver):
    """aiortc's receiver without its decoder thread. `_finish` is called when nothing more comes, maybe twice."""

    async def _begin(self, parameters: RTCRtpReceiveParameters) -> None:
        if get(self, "started"):
            return
        for codec in parameters.codecs:
            get(self, "codecs")[codec.payloadType] = codec
        for encoding in parameters.encodings:
            if encoding.rtx:
                get(self, "rtx_ssrc")[encoding.rtx.ssrc] = encoding.ssrc
        self.transport._register_rtp_receiver(self, parameters)
        put(self, "rtcp_task", asyncio.ensure_future(self._run_rtcp()))
        put(self, "started", True)

    def _count(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        """What reports to the other side are made of."""
        get(self, "active_ssrc")[packet.ssrc] = clock.current_datetime()
        streams = get(self, "remote_streams")
        if packet.ssrc not in streams:
            streams[packet.ssrc] = StreamStatistics(codec.clockRate)
        streams[packet.ssrc].add(packet)

    def _finish(self) -> None:
        raise NotImplementedError

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

    def _end_track(self) -> None:
        """The track ends for whoever reads it, where no thread of aiortc's does that."""
        if self._track is not None and get(self, "decoder_thread") is None:
            self._track._queue.put_nowait(None)


def get(receiver: RTCRtpReceiver, name: str) -> Any:
    """A private attribute of aiortc's, one of PRIVATE."""
    return getattr(receiver, f"_RTCRtpReceiver__{name}")


def put(receiver: RTCRtpReceiver, name: str, value: object) -> None:
    """Sets a private attribute of aiortc's."""
    setattr(receiver, f"_RTCRtpReceiver__{name}", value)
