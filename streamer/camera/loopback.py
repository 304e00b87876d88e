"""A v4l2loopback device as a sink, by plain ioctls: every program that takes a camera can read it."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from engines import Rgb
from streamer.camera.layouts import LAYOUTS, picture_bytes, row_bytes
from streamer.camera.sink import PixelFormat, Shape
from streamer.errors import SinkError
from streamer.v4l2 import abi, devices
from streamer.v4l2.stream import Stream, open_device

FOURCC: dict[PixelFormat, str] = {"yuyv": "YUYV", "i420": "YU12", "nv12": "NV12"}
USUAL: PixelFormat = "yuyv"  # what webcams give, and every reader takes
LOOK_EVERY_S = 1.0  # how often processes are looked through, where the module does not say who reads
LABEL = "vividstream"
NUMBER = 9  # of the device that is suggested


class LoopbackSink:
    """One device. See `Sink`; all but `readers` belongs to one thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.warning = ""  # one sentence about a device that works, but not for every reader
        self._fd: int | None = None
        self._stream: Stream | None = None
        self._shape: Shape | None = None
        self._lock = threading.Lock()
        self._tells_usage = False
        self._usage: int | None = None
        self._looked_s = -math.inf
        self._seen: int | None = None

    @property
    def name(self) -> str:
        return self.path

    def open(self, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat | None) -> Shape:
        self.close()
        fd = self._open_device()
        try:
            self._claim(fd)
            shape = self._agree(fd, width_px // 2 * 2, height_px // 2 * 2, fps, pixel_format or USUAL)
            self._tells_usage = _subscribe(fd)
            stream = Stream(fd, abi.OUTPUT)
            stream.start()
        except OSError as error:
            os.close(fd)
            raise self._busy(error) from error
        except BaseException:
            os.close(fd)
            raise
        with self._lock:
            self._fd, self._stream, self._shape = fd, stream, shape
            self._usage, self._seen, self._looked_s = None, None, -math.inf
        return shape

    def write(self, rgb_HW3: Rgb, captured_s: float) -> None:
        assert self._stream is not None
        assert self._shape is not None
        try:
            self._stream.give(LAYOUTS[self._shape.pixel_format](rgb_HW3).data)
        except OSError as error:
            raise SinkError(f"{self.path}: the virtual camera is gone ({error.strerror})") from error

    def readers(self) -> int | None:
        with self._lock:
            if self._fd is None:
                return 0
            if self._tells_usage:
                self._usage = _latest_usage(self._fd, self._usage)
                return self._usage
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._seen = len(devices.users(self.path))
        return self._seen

    def close(self) -> None:
        with self._lock:
            fd, stream = self._fd, self._stream
            self._fd = self._stream = None
        if stream is not None:
            stream.close()
        if fd is not None:
            os.close(fd)

    def _open_device(self) -> int:
        try:
            return open_device(self.path)
        except FileNotFoundError:
            raise SinkError(f"there is no virtual camera {self.path}: {how_to_load(self.path)}") from None
        except PermissionError:
            raise SinkError(f"{self.path} may not be used: `sudo usermod -aG video $USER`, then log in again") from None
        except OSError as error:
            raise self._busy(error) from error

    def _claim(self, fd: int) -> None:
        """Sees to it that it is a loopback device that nobody else writes to."""
        try:
            device = devices.look_at(fd, self.path)
        except OSError as error:
            raise SinkError(f"{self.path} is no video device; `vividstream camera --list` shows which are") from error
        if not device.is_loopback:
            remedy = how_to_load(f"/dev/video{NUMBER}")
            raise SinkError(f"{self.path} is a real camera ({device.name}) and takes no pictures; {remedy}")
        if not device.can_output:
            raise SinkError(f"{self.path} is in use: {_who(self.path)} writes to it; close that program first")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SinkError(
                f"{self.path} is in use: another vividstream writes to it; end that one, or take another device"
            ) from None
        if device.can_capture and not devices.users(self.path):  # with readers it would be both all the same
            self.warning = (
                f"{self.path} was loaded without exclusive_caps=1: Chrome, and what is built on it, does not list it; "
                f"`{reload_command(self.path)}`"
            )

    def _agree(self, fd: int, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat) -> Shape:
        """Sets the format. Readers of an earlier writer hold the device to theirs; then that one is taken."""
        wanted = abi.Format(type=abi.OUTPUT)
        pix = wanted.fmt.pix
        pix.width, pix.height, pix.pixelformat = width_px, height_px, abi.fourcc(FOURCC[pixel_format])
        pix.field, pix.colorspace = abi.FIELD_NONE, abi.COLORSPACE_SRGB
        pix.bytesperline = row_bytes(pixel_format, width_px)
        pix.sizeimage = picture_bytes(pixel_format, width_px, height_px)
        abi.call(fd, abi.S_FMT, wanted)
        held = abi.fourcc_text(pix.pixelformat)
        agreed = next((name for name, code in FOURCC.items() if code == held), None)
        if agreed is None or pix.width % 2 or pix.height % 2:
            raise SinkError(
                f"{self.path} is held to {held} {pix.width}x{pix.height} by {_who(self.path)}; close that program first"
            )
        with suppress(OSError):  # some versions take the rate only of readers; it is a hint
            parameters = abi.StreamParameters(type=abi.OUTPUT, timeperframe=abi.Fraction(1000, round(fps * 1000)))
            abi.call(fd, abi.S_PARM, parameters)
        return Shape(pix.width, pix.height, fps, agreed)

    def _busy(self, error: OSError) -> SinkError:
        if error.errno == errno.EBUSY:
            return SinkError(f"{self.path} is in use by {_who(self.path)}; close that program first")
        return SinkError(f"{self.path} cannot be written to: {error.strerror}; {how_to_load(self.path)}")


def load_command(path: str = f"/dev/video{NUMBER}") -> str:
    """The command that makes such a device."""
    number = Path(path).name.removeprefix("video")
    number = number if number.isdigit() else str(NUMBER)
    return f"sudo modprobe v4l2loopback video_nr={number} exclusive_caps=1 card_label={LABEL}"


def reload_command(path: str) -> str:
    """The same where the module is loaded already: its options are read only once."""
    return f"sudo modprobe -r v4l2loopback && {load_command(path)}"


def how_to_load(path: str) -> str:
    """What makes the device, for the end of a sentence."""
    if not devices.module_loaded():
        return (
            f"the module v4l2loopback is not loaded; `{load_command(path)}` "
            "(Debian, Ubuntu: `sudo apt install v4l2loopback-dkms` first; where that fails, `vividstream doctor`)"
        )
    others = [device.path for device in devices.devices() if device.is_loopback]
    if others:
        return f"v4l2loopback offers {', '.join(others)}; take one of them, or `{reload_command(path)}`"
    return f"v4l2loopback is loaded without such a device; `{reload_command(path)}`"


def _who(path: str) -> str:
    users = devices.users(path)
    return ", ".join(f"{name} (process {number})" for number, name in users) or "another program"


def _subscribe(fd: int) -> bool:
    """Asks to be told when readers come and go. False where the module is older than 0.13."""
    wish = abi.EventSubscription(type=abi.EVENT_LOOPBACK_CLIENT_USAGE, flags=abi.EVENT_SUB_FL_SEND_INITIAL)
    try:
        abi.call(fd, abi.SUBSCRIBE_EVENT, wish)
    except OSError:
        return False
    return True


def _latest_usage(fd: int, before: int | None) -> int | None:
    event = abi.Event()
    while True:
        try:
            abi.call(fd, abi.DQEVENT, event)
        except OSError:  # none is waiting: ENOENT, or EAGAIN
            return before
        if event.type == abi.EVENT_LOOPBACK_CLIENT_USAGE:
            before = event.u.count
        if not event.pending:
            return before
