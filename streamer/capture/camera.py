"""A camera of this machine, by Video4Linux2: MJPEG first, by number, path or name."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from av import Packet
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from engines import MediaError
from streamer.capture.modes import choose_mode
from streamer.capture.picture import CapturedPicture
from streamer.capture.wish import SourceFacts, Wish
from streamer.colour import SMPTE170M, SWSCALE_MATRIX, UNSPECIFIED, Colour
from streamer.v4l2 import abi, devices
from streamer.v4l2.devices import Device, Mode
from streamer.v4l2.stream import Stream, Taken, open_device

SILENT_S = 3.0  # a camera that gives nothing for so long is taken for lost
LOOK_S = 0.25
BELIEVED_S = 2.0  # a driver's time stamp that is further from now than this is of another clock
LIBAV = {
    "YUYV": "yuyv422", "UYVY": "uyvy422", "NV12": "nv12", "YU12": "yuv420p", "RGB3": "rgb24", "BGR3": "bgr24",
    "GREY": "gray",
}  # fmt: skip
TO_MATRIX = SWSCALE_MATRIX[SMPTE170M]
FULL = Colour(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, True, TO_MATRIX)
LIMITED = Colour(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, False, TO_MATRIX)


class CameraMedium:
    """`Medium` of one camera. It is found again by its name where it comes back under another number."""

    comes_back = True

    def __init__(self, what: str) -> None:
        self._what = what
        self._found: Device | None = None
        self._fd: int | None = None
        self._stream: Stream | None = None
        self._mode: Mode | None = None
        self._decoder: VideoCodecContext | None = None
        self._number = 0
        self.damaged = 0

    @property
    def name(self) -> str:
        return f"{self._found.name} ({self._found.path})" if self._found else self._what

    def open(self, wish: Wish) -> SourceFacts:
        device = self._find()
        self._found = device
        try:
            self._fd = open_device(device.path)
            mode = self._set(self._fd, device, wish)
            self._stream = Stream(self._fd, abi.CAPTURE)
            self._stream.start()
        except OSError as error:
            self.close()
            raise _refusal(device, error) from error
        except MediaError:
            self.close()
            raise
        self._mode, self._decoder = mode, _decoder_of(mode)
        return SourceFacts(mode.width_px, mode.height_px, mode.fps, mode.format)

    def read(self, stopping: Callable[[], bool]) -> Iterator[CapturedPicture]:
        assert self._stream is not None
        heard_s = time.monotonic()
        while not stopping():
            try:
                taken = self._stream.take(LOOK_S)
            except OSError as error:
                raise MediaError(f"{self.name} was unplugged; plug it in again, it goes on by itself") from error
            now_s = time.monotonic()
            if taken is None:
                if now_s - heard_s > SILENT_S:
                    raise MediaError(f"{self.name} gives no pictures; unplug it and plug it in again")
                continue
            heard_s = now_s
            picture = self._decode(taken, now_s)
            if picture is not None:
                yield picture

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._fd is not None:
            os.close(self._fd)
        self._stream = self._fd = None

    def _find(self) -> Device:
        """The camera that is meant, or that was open before. Raises MediaError."""
        here = devices.cameras()
        if self._found is not None:
            same = [device for device in here if device.name == self._found.name]
            exact = [device for device in same if device.path == self._found.path]
            if exact or same:
                return (exact or same)[0]
            raise MediaError(f"{self.name} is not connected; plug it in again, it goes on by itself")
        return find_camera(self._what, here)

    def _set(self, fd: int, device: Device, wish: Wish) -> Mode:
        offered = devices.modes(fd)
        mode = choose_mode(offered, wish.width_px, wish.height_px, wish.fps)
        if mode is None:
            kinds = ", ".join(sorted({one.format for one in offered})) or "nothing"
            raise MediaError(f"{device.name} ({device.path}) offers {kinds}, which cannot be read; take another camera")
        wanted = abi.Format(type=abi.CAPTURE)
        pix = wanted.fmt.pix
        pix.width, pix.height, pix.pixelformat = mode.width_px, mode.height_px, abi.fourcc(mode.format)
        pix.field = abi.FIELD_NONE
        abi.call(fd, abi.S_FMT, wanted)
        with suppress(OSError):  # not every driver lets its rate be set
            rate = abi.Fraction(1000, round(((mode.fps and min(mode.fps, wish.fps)) or wish.fps) * 1000))
            abi.call(fd, abi.S_PARM, abi.StreamParameters(type=abi.CAPTURE, timeperframe=rate))
        return Mode(abi.fourcc_text(pix.pixelformat), pix.width, pix.height, mode.fps)

    def _decode(self, taken: Taken, now_s: float) -> CapturedPicture | None:
        """A damaged picture is counted and left out."""
        assert self._decoder is not None
        assert self._mode is not None
        try:
            frames = [] if taken.damaged or not taken.data else self._decoder.decode(Packet(taken.data))
        except (FFmpegError, ValueError):
            frames = []
        if not frames:
            self.damaged += 1
            return None
        self._number += 1
        captured_s = taken.captured_s
        if captured_s is None or not 0 <= now_s - captured_s <= BELIEVED_S:
            captured_s = now_s
        compressed = self._mode.format in ("MJPG", "JPEG")
        return CapturedPicture(frames[-1], captured_s, self._number, FULL if compressed else LIMITED)


def find_camera(what: str, here: list[Device]) -> Device:
    """By number, path or name (or a part of it that only one has). Raises MediaError that names those that are here."""
    if what.startswith("/"):
        return _at(what, here)
    if what.isdigit():
        return _at(f"/dev/video{int(what)}", here)
    wanted = what.casefold()
    found = [device for device in here if device.name.casefold() == wanted]
    found = found or [device for device in here if wanted in device.name.casefold()]
    if len({device.name for device in found}) > 1:
        raise MediaError(f'"{what}" may mean several cameras; {_listed(found)}')
    if not found:
        raise MediaError(f'there is no camera "{what}"; {_listed(here)}')
    return found[0]


def _at(path: str, here: list[Device]) -> Device:
    with suppress(OSError):
        wanted = os.stat(path).st_rdev
        for device in here:
            if os.stat(device.path).st_rdev == wanted:
                return device
    try:
        other = devices.look(path)
    except FileNotFoundError:
        raise MediaError(f"there is no camera {path}; {_listed(here)}") from None
    except PermissionError:
        raise MediaError(f"{path} may not be used: `sudo usermod -aG video $USER`, then log in again") from None
    except OSError as error:
        raise MediaError(f"{path} is no camera ({error.strerror}); {_listed(here)}") from error
    if other.is_loopback:
        raise MediaError(f"{path} ({other.name}) is a virtual camera that nobody writes to; {_listed(here)}")
    raise MediaError(f"{path} ({other.name}) gives no pictures; {_listed(here)}")


def _listed(here: list[Device]) -> str:
    if not here:
        return "no camera is connected: plug one in, or give a video file or an address"
    return "connected: " + ", ".join(f"{device.path} ({device.name})" for device in here)


def _refusal(device: Device, error: OSError) -> MediaError:
    what = f"{device.name} ({device.path})"
    if error.errno == errno.EBUSY:
        who = ", ".join(f"{name} (process {number})" for number, name in devices.users(device.path))
        return MediaError(f"{what} is in use by {who or 'another program'}; close that program, or take another camera")
    if error.errno in (errno.EACCES, errno.EPERM):
        return MediaError(f"{what} may not be used: `sudo usermod -aG video $USER`, then log in again")
    if error.errno in (errno.ENODEV, errno.ENOENT, errno.ENXIO):
        return MediaError(f"{what} is not connected; plug it in again")
    return MediaError(f"{what} cannot be opened: {error.strerror}; unplug it and plug it in again")


def _decoder_of(mode: Mode) -> VideoCodecContext:
    compressed = mode.format in ("MJPG", "JPEG")
    decoder = CodecContext.create("mjpeg" if compressed else "rawvideo", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1  # threads would hold pictures back
    if not compressed:
        decoder.width, decoder.height, decoder.pix_fmt = mode.width_px, mode.height_px, LIBAV[mode.format]
    return decoder
