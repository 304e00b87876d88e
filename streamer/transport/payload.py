"""What the payload of one RTP packet says about the picture it is a part of (RFC 7741 VP8, RFC 6184 H.264)."""

from __future__ import annotations

from dataclasses import dataclass

from aiortc.codecs.h264 import H264PayloadDescriptor
from aiortc.codecs.vpx import VpxPayloadDescriptor

from streamer.transport.types import VideoCodec

NAL_IDR, NAL_SPS, NAL_DELIMITER = 5, 7, 9
STAP_A, FU_A = 24, 28


@dataclass(frozen=True, slots=True)
class Part:
    """A packet's part of a picture.

    data    what the decoder takes, to be joined with the other parts; empty for a packet of padding
    begins  a picture certainly begins here, whatever came before
    key     the picture is a key frame
    """

    data: bytes
    begins: bool = False
    key: bool = False

    @property
    def begins_key(self) -> bool:
        """A decoder can start here, as far as this packet says."""
        return self.begins and self.key


PADDING = Part(b"")


def read_part(codec: VideoCodec, payload: bytes) -> Part:
    """Raises ValueError for what is not a payload of this codec."""
    if not payload:
        return PADDING
    if codec == "VP8":
        descriptor, data = VpxPayloadDescriptor.parse(payload)
        begins = descriptor.partition_start == 1 and descriptor.partition_id == 0
        return Part(data, begins, begins and bool(data) and data[0] & 1 == 0)
    if codec == "H264":
        return _h264(payload)
    raise ValueError(f"nobody takes {codec} apart here")


def _h264(payload: bytes) -> Part:
    _, data = H264PayloadDescriptor.parse(payload)
    types = _nal_types(payload)
    # A parameter set promises a key frame: the packet that carries it may hold nothing else of it.
    return Part(data, types[0] in (NAL_SPS, NAL_DELIMITER), NAL_IDR in types or NAL_SPS in types)


def _nal_types(payload: bytes) -> list[int]:
    """Of the NAL units in a payload that `H264PayloadDescriptor` has read without complaint."""
    kind = payload[0] & 0x1F
    if kind == FU_A:
        return [payload[1] & 0x1F]
    if kind != STAP_A:
        return [kind]
    types, at = [], 1
    while at + 2 < len(payload):
        types.append(payload[at + 2] & 0x1F)
        at += 2 + int.from_bytes(payload[at : at + 2], "big")
    return types or [0]
