"""The video devices of this machine: what they are called, what they can do, and who uses them."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamer.v4l2 import abi

SYSFS = Path("/sys/class/video4linux")
MODULE = Path("/sys/module/v4l2loopback")
LOOPBACK_DRIVER = "v4l2 loopback"
MOST_MODES = 256  # of one format: a driver that enumerates for ever must not hang us
STANDARD_SIZES = ((640, 360), (640, 480), (1280, 720), (1920, 1080))  # tried where a camera takes any size


@dataclass(frozen=True, slots=True)
class Device:
    """One /dev/videoN. `can_capture` and `can_output` are what it says of itself now: a loopback device with
    exclusive_caps is a camera only while somebody writes to it."""

    path: str
    number: int
    name: str
    driver: str
    can_capture: bool
    can_output: bool

    @property
    def is_loopback(self) -> bool:
        return self.driver == LOOPBACK_DRIVER


@dataclass(frozen=True, slots=True)
class Mode:
    """What a camera can be set to. fps: the most at this size; 0 where it does not say."""

    format: str  # MJPG, YUYV, ...
    width_px: int
    height_px: int
    fps: float


def devices() -> list[Device]:
    """All that can be opened, by number; nodes that are neither camera nor loopback (metadata, radio) are left out."""
    found = []
    for number in sorted(_numbers()):
        with suppress(OSError):
            device = look(f"/dev/video{number}")
            if device.can_capture or device.can_output:
                found.append(device)
    return found


def cameras() -> list[Device]:
    """Those that a picture can be read from now."""
    return [device for device in devices() if device.can_capture]


def look(path: str) -> Device:
    """Raises OSError where the device is missing, forbidden or no video device (ENOTTY)."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return look_at(fd, path)
    finally:
        os.close(fd)


def look_at(fd: int, path: str) -> Device:
    """The same of a device that is open."""
    capability = abi.Capability()
    abi.call(fd, abi.QUERYCAP, capability)
    caps = capability.device_caps if capability.capabilities & abi.CAP_DEVICE_CAPS else capability.capabilities
    return Device(
        path=path,
        number=os.minor(os.fstat(fd).st_rdev) if not _number_of(path) else int(_number_of(path)),
        name=bytes(capability.card).decode("utf-8", "replace"),
        driver=bytes(capability.driver).decode("ascii", "replace"),
        can_capture=bool(caps & abi.CAP_VIDEO_CAPTURE),
        can_output=bool(caps & abi.CAP_VIDEO_OUTPUT),
    )


def modes(fd: int) -> list[Mode]:
    """Everything that an open camera offers, by VIDIOC_ENUM_*. Raises OSError where it is gone."""
    return [mode for format_ in _formats(fd) for mode in _modes_of(fd, format_)]


def users(path: str) -> list[tuple[int, str]]:
    """Other processes that hold the device open, as far as this user may see them: (process id, name)."""
    try:
        wanted = os.stat(path).st_rdev
    except OSError:
        return []
    found = []
    own = os.getpid()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != own and _holds(entry.path, wanted):
            with suppress(OSError):
                found.append((int(entry.name), Path(entry.path, "comm").read_text(encoding="utf-8").strip()))
    return found


def module_loaded() -> bool:
    """Whether v4l2loopback is there."""
    return MODULE.is_dir()


def module_version() -> str | None:
    """Of the loaded module."""
    with suppress(OSError):
        return Path(MODULE, "version").read_text(encoding="ascii").strip()
    return None


def _holds(process: str, device: int) -> bool:
    """Whether the process has the device open; a process that may not be looked at counts as not."""
    try:
        names = os.listdir(f"{process}/fd")
    except OSError:
        return False
    for name in names:
        with suppress(OSError):
            link = f"{process}/fd/{name}"
            if os.readlink(link).startswith("/dev/") and os.stat(link).st_rdev == device:
                return True
    return False


def _numbers() -> Iterator[int]:
    with suppress(OSError):
        for name in os.listdir(SYSFS):
            if name.startswith("video") and name[5:].isdigit():
                yield int(name[5:])


def _number_of(path: str) -> str:
    name = os.path.basename(os.path.realpath(path))
    return name[5:] if name.startswith("video") and name[5:].isdigit() else ""


def _formats(fd: int) -> Iterator[int]:
    for index in range(MOST_MODES):
        description = abi.FormatDescription(index=index, type=abi.CAPTURE)
        if not _enumerated(fd, abi.ENUM_FMT, description):
            return
        yield description.pixelformat


def _modes_of(fd: int, pixel_format: int) -> Iterator[Mode]:
    for width_px, height_px in _sizes(fd, pixel_format):
        yield Mode(abi.fourcc_text(pixel_format), width_px, height_px, _most_fps(fd, pixel_format, width_px, height_px))


def _sizes(fd: int, pixel_format: int) -> Iterator[tuple[int, int]]:
    for index in range(MOST_MODES):
        size = abi.FrameSize(index=index, pixel_format=pixel_format)
        if not _enumerated(fd, abi.ENUM_FRAMESIZES, size):
            return
        span = size.stepwise
        if size.type == abi.DISCRETE:
            yield span.min_width, span.max_width  # a union: the first two numbers are width and height
            continue
        for width_px, height_px in STANDARD_SIZES:
            inside = span.min_width <= width_px <= span.max_width and span.min_height <= height_px <= span.max_height
            if inside:
                yield width_px, height_px
        return


def _most_fps(fd: int, pixel_format: int, width_px: int, height_px: int) -> float:
    most = 0.0
    for index in range(MOST_MODES):
        interval = abi.FrameInterval(index=index, pixel_format=pixel_format, width=width_px, height=height_px)
        if not _enumerated(fd, abi.ENUM_FRAMEINTERVALS, interval):
            break
        if interval.min.numerator:
            most = max(most, interval.min.denominator / interval.min.numerator)
        if interval.type != abi.DISCRETE:
            break
    return most


def _enumerated(fd: int, request: int, argument: ctypes.Structure) -> bool:
    """False at the end of a list, and where a driver does not know the list."""
    try:
        abi.call(fd, request, argument)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True
