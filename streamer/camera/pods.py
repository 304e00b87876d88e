"""SPA pods: the typed values in which PipeWire's programs agree on a format. Written and read as bytes; no library.

A pod is (size, type) and a body, padded to 8 bytes; an object's body is (type, id) and properties (key, flags, pod).
The numbers are those of spa/utils/type.h and spa/param/{format,buffers,param,video/raw}.h, which are fixed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ID, INT, RECTANGLE, FRACTION, OBJECT, CHOICE = 3, 4, 10, 11, 15, 19
CHOICE_RANGE, CHOICE_ENUM, CHOICE_FLAGS = 1, 3, 4

OBJECT_FORMAT, OBJECT_BUFFERS, OBJECT_META = 0x40003, 0x40004, 0x40005
PARAM_ENUM_FORMAT, PARAM_FORMAT, PARAM_BUFFERS, PARAM_META = 3, 4, 5, 6

MEDIA_TYPE, MEDIA_SUBTYPE, VIDEO_FORMAT, VIDEO_SIZE, VIDEO_RATE = 1, 2, 0x20001, 0x20003, 0x20004
MEDIA_TYPE_VIDEO, MEDIA_SUBTYPE_RAW = 2, 1

BUFFERS_COUNT, BUFFERS_BLOCKS, BUFFERS_SIZE, BUFFERS_STRIDE, BUFFERS_DATA_TYPE = 1, 2, 3, 4, 6
DATA_POINTER, DATA_FD = 1, 2
META_TYPE, META_SIZE, META_HEADER, META_HEADER_BYTES = 1, 2, 1, 32

VIDEO_FORMATS = {"I420": 2, "YUY2": 4, "NV12": 23}


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What a reader settled on."""

    name: str  # "I420", "YUY2", "NV12"
    width_px: int
    height_px: int


def offered_format(names: Sequence[str], width_px: int, height_px: int, fps: int) -> bytes:
    """EnumFormat of raw video of one size and rate in any of these pixel formats, the first preferred."""
    numbers = [VIDEO_FORMATS[name] for name in names]
    return _object(
        OBJECT_FORMAT,
        PARAM_ENUM_FORMAT,
        {
            MEDIA_TYPE: _pod(ID, struct.pack("<I", MEDIA_TYPE_VIDEO)),
            MEDIA_SUBTYPE: _pod(ID, struct.pack("<I", MEDIA_SUBTYPE_RAW)),
            VIDEO_FORMAT: _choice(CHOICE_ENUM, ID, [numbers[0], *numbers]),
            VIDEO_SIZE: _pod(RECTANGLE, struct.pack("<II", width_px, height_px)),
            VIDEO_RATE: _pod(FRACTION, struct.pack("<II", fps, 1)),
        },
    )


def wanted_buffers(size_bytes: int, stride_bytes: int) -> bytes:
    """Buffers of one plane after the other in one block of memory: 2 to 8 of them, 4 by preference."""
    return _object(
        OBJECT_BUFFERS,
        PARAM_BUFFERS,
        {
            BUFFERS_COUNT: _choice(CHOICE_RANGE, INT, [4, 2, 8]),
            BUFFERS_BLOCKS: _int(1),
            BUFFERS_SIZE: _int(size_bytes),
            BUFFERS_STRIDE: _int(stride_bytes),
            BUFFERS_DATA_TYPE: _choice(CHOICE_FLAGS, INT, [1 << DATA_POINTER | 1 << DATA_FD]),
        },
    )


def wanted_header() -> bytes:
    """A header with time and number beside every buffer."""
    kind = _pod(ID, struct.pack("<I", META_HEADER))
    return _object(OBJECT_META, PARAM_META, {META_TYPE: kind, META_SIZE: _int(META_HEADER_BYTES)})


def read_format(pod: bytes) -> VideoFormat:
    """What a Format pod says. Raises ValueError where it is not raw video of a kind that was offered."""
    properties = _properties(pod)
    try:
        (number,) = struct.unpack_from("<I", properties[VIDEO_FORMAT])
        width_px, height_px = struct.unpack_from("<II", properties[VIDEO_SIZE])
        name = next(name for name, known in VIDEO_FORMATS.items() if known == number)
    except (KeyError, StopIteration, struct.error) as error:
        raise ValueError("not a format that was offered") from error
    return VideoFormat(name, width_px, height_px)


def size_of(head: bytes) -> int:
    """Whole size in bytes of the pod that begins with these 8 bytes."""
    (size,) = struct.unpack_from("<I", head)
    return 8 + int(size)


def _pod(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", len(body), kind) + body + bytes(-len(body) % 8)


def _int(value: int) -> bytes:
    return _pod(INT, struct.pack("<i", value))


def _choice(choice: int, kind: int, values: Sequence[int]) -> bytes:
    """Values of 4 bytes, the preferred one first."""
    return _pod(CHOICE, struct.pack("<IIII", choice, 0, 4, kind) + b"".join(struct.pack("<I", v) for v in values))


def _object(kind: int, param: int, properties: Mapping[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<II", key, 0) + pod for key, pod in properties.items())
    return _pod(OBJECT, struct.pack("<II", kind, param) + body)


def _properties(pod: bytes) -> dict[int, bytes]:
    """The body of each property of an object; of a choice, the body of its first value."""
    found: dict[int, bytes] = {}
    if len(pod) < 16 or size_of(pod) > len(pod) or struct.unpack_from("<I", pod, 4) != (OBJECT,):
        raise ValueError("not an object")
    at = 16
    while at + 16 <= size_of(pod):
        key, _, size, kind = struct.unpack_from("<IIII", pod, at)
        body = pod[at + 16 : at + 16 + size]
        found[key] = body[16:] if kind == CHOICE else body
        at += 16 + size + (-size % 8)
    return found
