"""The kernel's structures and request numbers (linux/videodev2.h), as far as they are needed. 64-bit Linux."""

from __future__ import annotations

import ctypes
import fcntl
from ctypes import c_char, c_int32, c_long, c_uint8, c_uint32, c_uint64, c_ulong

CAPTURE, OUTPUT = 1, 2  # enum v4l2_buf_type
MMAP = 1  # enum v4l2_memory
FIELD_NONE = 1
COLORSPACE_SRGB = 8

CAP_VIDEO_CAPTURE, CAP_VIDEO_OUTPUT = 0x1, 0x2
CAP_STREAMING = 0x04000000
CAP_DEVICE_CAPS = 0x80000000
CAP_TIMEPERFRAME = 0x1000

BUF_FLAG_ERROR = 0x40
BUF_FLAG_TIMESTAMP_MASK, BUF_FLAG_TIMESTAMP_MONOTONIC, BUF_FLAG_TIMESTAMP_COPY = 0xE000, 0x2000, 0x4000

DISCRETE = 1  # enum v4l2_frmsizetypes and v4l2_frmivaltypes

EVENT_PRIVATE_START = 0x08000000
EVENT_SUB_FL_SEND_INITIAL = 1
EVENT_LOOPBACK_CLIENT_USAGE = EVENT_PRIVATE_START + 0x08E00000 + 1  # v4l2loopback, since 0.13


class Capability(ctypes.Structure):
    _fields_ = (
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class Fraction(ctypes.Structure):
    _fields_ = (("numerator", c_uint32), ("denominator", c_uint32))


class StepwiseSize(ctypes.Structure):
    _fields_ = (
        ("min_width", c_uint32),
        ("max_width", c_uint32),
        ("step_width", c_uint32),
        ("min_height", c_uint32),
        ("max_height", c_uint32),
        ("step_height", c_uint32),
    )


class FrameSize(ctypes.Structure):
    """`stepwise` is a union with `discrete`: width and height are then its first two numbers."""

    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        ("stepwise", StepwiseSize),
        ("reserved", c_uint32 * 2),
    )


class FrameInterval(ctypes.Structure):
    """`min` is a union with `discrete`."""

    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("min", Fraction),
        ("max", Fraction),
        ("step", Fraction),
        ("reserved", c_uint32 * 2),
    )


class PixelFormat(ctypes.Structure):
    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    )


class _FormatUnion(ctypes.Union):
    _fields_ = (("pix", PixelFormat), ("raw", c_uint8 * 200), ("align", c_uint64))


class Format(ctypes.Structure):
    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))


class StreamParameters(ctypes.Structure):
    """Of v4l2_captureparm and v4l2_outputparm, which begin alike."""

    _fields_ = (
        ("type", c_uint32),
        ("capability", c_uint32),
        ("mode", c_uint32),
        ("timeperframe", Fraction),
        ("rest", c_uint8 * 184),
    )


class RequestBuffers(ctypes.Structure):
    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    )


class Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", c_long), ("tv_usec", c_long))


class Timecode(ctypes.Structure):
    _fields_ = (("type", c_uint32), ("flags", c_uint32), ("numbers", c_uint8 * 8))


class _Place(ctypes.Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong))


class Buffer(ctypes.Structure):
    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("timestamp", Timeval),
        ("timecode", Timecode),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _Place),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    )


class EventSubscription(ctypes.Structure):
    _fields_ = (("type", c_uint32), ("id", c_uint32), ("flags", c_uint32), ("reserved", c_uint32 * 5))


class _EventUnion(ctypes.Union):
    _fields_ = (("count", c_uint32), ("data", c_uint8 * 64), ("align", c_uint64))


class Event(ctypes.Structure):
    _fields_ = (
        ("type", c_uint32),
        ("u", _EventUnion),
        ("pending", c_uint32),
        ("sequence", c_uint32),
        ("timestamp", c_long * 2),
        ("id", c_uint32),
        ("reserved", c_uint32 * 8),
    )


def _request(direction: int, number: int, argument: type[ctypes.Structure] | type[c_int32]) -> int:
    """As _IOC of asm-generic/ioctl.h; direction 1 writes to the kernel, 2 reads from it."""
    return direction << 30 | ctypes.sizeof(argument) << 16 | ord("V") << 8 | number


QUERYCAP = _request(2, 0, Capability)
ENUM_FMT = _request(3, 2, FormatDescription)
G_FMT = _request(3, 4, Format)
S_FMT = _request(3, 5, Format)
REQBUFS = _request(3, 8, RequestBuffers)
QUERYBUF = _request(3, 9, Buffer)
QBUF = _request(3, 15, Buffer)
DQBUF = _request(3, 17, Buffer)
STREAMON = _request(1, 18, c_int32)
STREAMOFF = _request(1, 19, c_int32)
G_PARM = _request(3, 21, StreamParameters)
S_PARM = _request(3, 22, StreamParameters)
ENUM_FRAMESIZES = _request(3, 74, FrameSize)
ENUM_FRAMEINTERVALS = _request(3, 75, FrameInterval)
DQEVENT = _request(2, 89, Event)
SUBSCRIBE_EVENT = _request(1, 90, EventSubscription)


def fourcc(text: str) -> int:
    """`YUYV` as the kernel's number."""
    return int.from_bytes(text.encode("ascii"), "little")


def fourcc_text(number: int) -> str:
    return number.to_bytes(4, "little").decode("ascii", "replace").strip()


def call(fd: int, request: int, argument: ctypes.Structure | c_int32) -> None:
    """One ioctl; the structure is changed in place. Raises OSError."""
    fcntl.ioctl(fd, request, argument, True)
