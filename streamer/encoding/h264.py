"""H.264 by x264 with zero latency: constrained baseline, one picture in, one access unit out. Rate and buffer are
changed in place."""

from __future__ import annotations

import ctypes
import struct
from functools import cache

from av.video.frame import VideoFrame

from streamer.encoding import native
from streamer.encoding.base import LockedEncoder
from streamer.encoding.settings import EncodingSettings
from streamer.encoding.vp8 import threads_for
from streamer.transport.types import EncodedUnit, VideoCodec

BUILDS = (164, 165)  # of x264 whose structures are the ones below; the number is in the name of its open function
PARAMETERS_BYTES = 8192  # x264_param_t has about 1000
WIDTH_AT, HEIGHT_AT, LAYOUT_AT, DEPTH_AT = 28, 32, 36, 40  # of x264_param_t
I420 = 2
TYPE_AUTO, TYPE_IDR = 0, 1
NAL_SEI = 6
FRAMES_PER_S = 30
BUFFER_S = 0.3  # how much of the stream one key frame may take at most
RATE_STEP = 0.02  # smaller changes are not worth telling x264


class Image(ctypes.Structure):
    _fields_ = [
        ("i_csp", ctypes.c_int),
        ("i_plane", ctypes.c_int),
        ("i_stride", ctypes.c_int * 4),
        ("plane", ctypes.c_void_p * 4),
    ]


class Picture(ctypes.Structure):
    """The beginning of x264_picture_t, and room for the rest."""

    _fields_ = [
        ("i_type", ctypes.c_int),
        ("i_qpplus1", ctypes.c_int),
        ("i_pic_struct", ctypes.c_int),
        ("b_keyframe", ctypes.c_int),
        ("i_pts", ctypes.c_int64),
        ("i_dts", ctypes.c_int64),
        ("param", ctypes.c_void_p),
        ("img", Image),
        ("rest", ctypes.c_ubyte * 1024),
    ]


class Nal(ctypes.Structure):
    _fields_ = [
        ("i_ref_idc", ctypes.c_int),
        ("i_type", ctypes.c_int),
        ("b_long_startcode", ctypes.c_int),
        ("i_first_mb", ctypes.c_int),
        ("i_last_mb", ctypes.c_int),
        ("i_payload", ctypes.c_int),
        ("p_payload", ctypes.c_void_p),
        ("i_padding", ctypes.c_int),
    ]


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """(libx264, its build number), the layouts checked by what the library itself writes into them."""
    lib = native.load("x264")
    build = next((number for number in BUILDS if hasattr(lib, f"x264_encoder_open_{number}")), None)
    if build is None:
        raise native.NotUsable(f"this x264 is not of the builds {BUILDS}")
    opener = getattr(lib, f"x264_encoder_open_{build}")
    opener.argtypes, opener.restype = [ctypes.c_void_p], ctypes.c_void_p
    lib.x264_param_parse.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    lib.x264_param_default_preset.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    lib.x264_param_apply_profile.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.x264_encoder_reconfig.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    lib.x264_encoder_close.argtypes = [ctypes.c_void_p]
    lib.x264_param_cleanup.argtypes = [ctypes.c_void_p]
    lib.x264_encoder_encode.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.POINTER(Nal)),
        ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(Picture),
        ctypes.POINTER(Picture),
    ]
    _check_layout(lib)
    return lib, build


def _check_layout(lib: ctypes.CDLL) -> None:
    parameters = ctypes.create_string_buffer(PARAMETERS_BYTES)
    lib.x264_param_default(parameters)
    if struct.unpack_from("ii", parameters, LAYOUT_AT) != (I420, 8):
        raise native.NotUsable("x264's settings are laid out in another way")
    picture = Picture()
    if lib.x264_picture_alloc(ctypes.byref(picture), I420, 64, 48):
        raise native.NotUsable("x264 cannot allocate a picture")
    image = picture.img
    fits = image.i_csp == I420 and image.i_plane == 3 and image.i_stride[0] >= 64 and 32 <= image.i_stride[1] < 64
    lib.x264_picture_clean(ctypes.byref(picture))
    if not fits:
        raise native.NotUsable("x264's pictures are laid out in another way")


class H264Encoder(LockedEncoder):
    """See `types.Encoder`. Raises NotUsable where x264 cannot be driven directly."""

    codec: VideoCodec = "H264"

    def __init__(self, settings: EncodingSettings, bits_per_s: int) -> None:
        self._lib, self._build = _library()
        super().__init__(f"x264 {settings.h264_preset}", bits_per_s)
        self._settings = settings
        self._parameters = ctypes.create_string_buffer(PARAMETERS_BYTES)
        self._handle: int | None = None
        self._size = (0, 0)
        self._set_bps = 0
        self._numbered = 0
        self._period_s = 1 / FRAMES_PER_S
        self._last_s: float | None = None

    def _encode(self, frame: VideoFrame, force_key: bool) -> EncodedUnit | None:
        self._note_period(frame)
        bps = self._rate_for_period()
        if self._handle is None or self._size != (frame.width, frame.height):
            self._open(frame.width, frame.height, bps)
        elif abs(bps - self._set_bps) > RATE_STEP * self._set_bps:
            self._tell_rate(bps)
            if self._lib.x264_encoder_reconfig(self._handle, self._parameters) < 0:
                raise native.NotUsable(f"x264 refuses a bit rate of {bps}")
        frame, pointers, strides = native.planes(frame)
        picture = Picture(i_type=TYPE_IDR if force_key else TYPE_AUTO, i_pts=self._numbered)
        self._numbered += 1
        picture.img.i_csp, picture.img.i_plane = I420, 3
        for index, (pointer, stride) in enumerate(zip(pointers, strides, strict=True)):
            picture.img.plane[index], picture.img.i_stride[index] = pointer, stride
        return self._coded(picture)

    def _coded(self, picture: Picture) -> EncodedUnit | None:
        nals, count, out = ctypes.POINTER(Nal)(), ctypes.c_int(), Picture()
        size = self._lib.x264_encoder_encode(
            self._handle, ctypes.byref(nals), ctypes.byref(count), ctypes.byref(picture), ctypes.byref(out)
        )
        if size < 0:
            raise native.NotUsable("x264 cannot code the picture")
        units = (nals[index] for index in range(count.value))
        payload = b"".join(ctypes.string_at(unit.p_payload, unit.i_payload) for unit in units if unit.i_type != NAL_SEI)
        return EncodedUnit("H264", payload, bool(out.b_keyframe)) if payload else None

    def _note_period(self, frame: VideoFrame) -> None:
        """How far apart pictures are, smoothed: x264 is told 30 a second, and gets the rate that makes up for it."""
        if frame.pts is None or frame.time_base is None:
            return
        now_s = frame.pts * frame.time_base.numerator / frame.time_base.denominator
        if self._last_s is not None and 0 < now_s - self._last_s < 1:
            self._period_s += 0.1 * (now_s - self._last_s - self._period_s)
        self._last_s = now_s

    def _rate_for_period(self) -> int:
        """Bits per second for an encoder that believes in 30 pictures a second; at most twice the wanted rate."""
        return round(self._wanted_bps * min(max(self._period_s * FRAMES_PER_S, 0.5), 2.0))

    def _tell_rate(self, bps: int) -> None:
        self._set_bps = bps
        kbps = max(bps // 1000, 1)
        self._set(("bitrate", kbps), ("vbv-maxrate", kbps), ("vbv-bufsize", max(round(kbps * BUFFER_S), 1)))

    def _open(self, width_px: int, height_px: int, bps: int) -> None:
        self._free()
        preset = self._settings.h264_preset.encode()
        if self._lib.x264_param_default_preset(self._parameters, preset, b"zerolatency") < 0:
            raise native.NotUsable(f"x264 has no preset {self._settings.h264_preset}")
        struct.pack_into("ii", self._parameters, WIDTH_AT, width_px, height_px)
        threads = threads_for(width_px * height_px, self._settings.encoder_threads)
        self._set(
            ("log", -1),
            ("fps", FRAMES_PER_S),
            ("force-cfr", 1),
            ("threads", threads),
            ("sliced-threads", int(threads > 1)),
            ("keyint", "infinite"),  # key frames come when they are asked for
            ("scenecut", 0),
        )
        self._tell_rate(bps)
        if self._lib.x264_param_apply_profile(self._parameters, b"baseline") < 0:
            raise native.NotUsable("x264 has no baseline profile")
        handle = getattr(self._lib, f"x264_encoder_open_{self._build}")(self._parameters)
        if not handle:
            raise native.NotUsable(f"x264 cannot code {width_px}x{height_px} pictures")
        self._handle, self._size = handle, (width_px, height_px)

    def _set(self, *settings: tuple[str, int | str]) -> None:
        for name, value in settings:
            if self._lib.x264_param_parse(self._parameters, name.encode(), str(value).encode()):
                raise native.NotUsable(f"x264 refuses {name}={value}")

    def _free(self) -> None:
        if self._handle is not None:
            self._lib.x264_encoder_close(self._handle)
            self._lib.x264_param_cleanup(self._parameters)
            self._handle = None
