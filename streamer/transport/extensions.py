"""RTP header extensions beyond aiortc's, and what of them is offered and answered.

transport-wide sequence numbers (for feedback on every packet), abs-capture-time (when the camera took what is shown),
playout-delay (the receiver shows pictures at once). aiortc writes none of the last two and drops whatever it does not
know, so the sender packs its headers itself (`SendExtensions`).
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import aiortc.rtcpeerconnection
from aiortc import codecs
from aiortc.rtcrtpparameters import (
    RTCRtcpFeedback,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpParameters,
)

from streamer.transport.changes import Changes

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_SEQUENCE = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
ABS_CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"

ADDED = ((4, TRANSPORT_SEQUENCE), (5, ABS_CAPTURE_TIME), (6, PLAYOUT_DELAY))  # numbers in our own offers
ADDED_FEEDBACK = (RTCRtcpFeedback("transport-cc"), RTCRtcpFeedback("ccm", "fir"))

NTP_FROM_UNIX_S = 2_208_988_800  # 1900 to 1970
PROFILE_ONE_BYTE = 0xBEDE
DELAY_STEP_MS = 10
MOST_DELAY_MS = 4095 * DELAY_STEP_MS
MOST_ID, MOST_VALUE_BYTES = 14, 16


def install(changes: Changes) -> None:
    """Offers and accepts the extensions and the feedback for video. Doing it twice changes nothing."""
    extensions = {kind: list(known) for kind, known in codecs.HEADER_EXTENSIONS.items()}
    uris = {extension.uri for extension in extensions["video"]}
    extensions["video"] += [RTCRtpHeaderExtensionParameters(id=i, uri=uri) for i, uri in ADDED if uri not in uris]
    known = copy.deepcopy(codecs.CODECS)
    for codec in known["video"]:
        if not codecs.is_rtx(codec):
            codec.rtcpFeedback += [kind for kind in ADDED_FEEDBACK if kind not in codec.rtcpFeedback]
    for module in (codecs, aiortc.rtcpeerconnection):  # the second has its own names for the same two
        changes.replace(module, "HEADER_EXTENSIONS", extensions)
        changes.replace(module, "CODECS", known)


def has_transport_feedback(codec: RTCRtpCodecParameters, parameters: RTCRtpParameters) -> bool:
    """Whether both sides agreed to number packets for the whole transport and to report on every one."""
    numbered = any(extension.uri == TRANSPORT_SEQUENCE for extension in parameters.headerExtensions)
    return numbered and any(kind.type == "transport-cc" for kind in codec.rtcpFeedback)


@dataclass(frozen=True, slots=True)
class SendExtensions:
    """The ids that were agreed for one stream; None for an extension that was not."""

    mid: int | None = None
    abs_send_time: int | None = None
    transport_sequence: int | None = None
    abs_capture_time: int | None = None
    playout_delay: int | None = None

    @classmethod
    def agreed(cls, parameters: RTCRtpParameters) -> SendExtensions:
        ids = {extension.uri: extension.id for extension in parameters.headerExtensions if 0 < extension.id <= MOST_ID}
        return cls(
            ids.get(MID), ids.get(ABS_SEND_TIME), ids.get(TRANSPORT_SEQUENCE), ids.get(ABS_CAPTURE_TIME),
            ids.get(PLAYOUT_DELAY),
        )  # fmt: skip

    def of_packet(self, *, mid: bytes, sent_unix_s: float, transport_sequence: int | None) -> list[tuple[int, bytes]]:
        """The (id, value) pairs that belong to the sending of a packet: made again for a retransmission."""
        found: list[tuple[int, bytes]] = []
        if self.mid is not None and mid:
            found.append((self.mid, mid))
        if self.abs_send_time is not None:
            found.append((self.abs_send_time, abs_send_time(sent_unix_s)))
        if self.transport_sequence is not None and transport_sequence is not None:
            found.append((self.transport_sequence, struct.pack("!H", transport_sequence)))
        return found

    def of_picture(self, first: FirstPacket) -> list[tuple[int, bytes]]:
        """The (id, value) pairs that only the first packet of a picture carries."""
        found: list[tuple[int, bytes]] = []
        if self.abs_capture_time is not None and first.captured_unix_s is not None:
            found.append((self.abs_capture_time, abs_capture_time(first.captured_unix_s)))
        if self.playout_delay is not None and first.playout_delay_ms is not None:
            found.append((self.playout_delay, playout_delay(*first.playout_delay_ms)))
        return found


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """What the first packet of a picture says about it."""

    captured_unix_s: float | None = None
    playout_delay_ms: tuple[int, int] | None = None  # least and most


def header_block(values: Iterable[tuple[int, bytes]]) -> bytes:
    """RFC 8285's one-byte form, with its profile and length; empty where there is nothing to say."""
    body = b"".join(
        bytes([(number << 4) | (len(value) - 1)]) + value
        for number, value in values
        if 0 < len(value) <= MOST_VALUE_BYTES
    )
    if not body:
        return b""
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", PROFILE_ONE_BYTE, len(body) // 4) + body


def abs_send_time(unix_s: float) -> bytes:
    """Seconds modulo 64, in 2^-18."""
    return (round((unix_s + NTP_FROM_UNIX_S) * (1 << 18)) & 0xFFFFFF).to_bytes(3, "big")


def ntp(unix_s: float) -> int:
    """Seconds since 1900 in 2^-32, 64 bits."""
    return round((unix_s + NTP_FROM_UNIX_S) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


def abs_capture_time(unix_s: float) -> bytes:
    """The short form: the capture clock is this machine's."""
    return ntp(unix_s).to_bytes(8, "big")


def read_capture_time(value: bytes) -> float | None:
    """Unix seconds of an abs-capture-time, by its sender's clock. None where it is not one."""
    if len(value) not in (8, 16):
        return None
    return int.from_bytes(value[:8], "big") / (1 << 32) - NTP_FROM_UNIX_S


def playout_delay(least_ms: int, most_ms: int) -> bytes:
    """Two 12 bit numbers of 10 ms each. Raises ValueError beyond 40.95 s."""
    if not 0 <= least_ms <= most_ms <= MOST_DELAY_MS:
        raise ValueError(f"a playout delay of {least_ms} to {most_ms} ms cannot be said")
    return ((least_ms // DELAY_STEP_MS) << 12 | most_ms // DELAY_STEP_MS).to_bytes(3, "big")


def read_playout_delay(value: bytes) -> tuple[int, int] | None:
    """(least, most) in milliseconds. None where it is not one."""
    if len(value) != 3:
        return None
    both = int.from_bytes(value, "big")
    return (both >> 12) * DELAY_STEP_MS, (both & 0xFFF) * DELAY_STEP_MS
