"""VP8 by libvpx, in its real-time mode. Rate is changed in place; a picture of another size gets a fresh codec, since
libvpx has had memory faults in changing the size of a running one (CVE-2023-44488 among them).
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

from av.video.frame import VideoFrame

from streamer.encoding import native
from streamer.encoding.base import LockedEncoder
from streamer.encoding.settings import EncodingSettings
from streamer.transport.types import RTP_CLOCK_HZ, EncodedUnit, VideoCodec

# libvpx 1.14 to 1.16, vpx_encoder.h: 18 + codec (4 + image 5) + rate control (7 + statistics 5)
ENCODER_ABI = 39
DEADLINE_REALTIME = 1
FORCE_KEY = 1
FRAME_PACKET = 0
FRAME_IS_KEY = 1
CONSTANT_RATE = 1
I420 = 0x102
SET_SPEED, SET_NOISE, SET_STATIC, SET_PARTITIONS, SET_MOST_INTRA_PERCENT = 13, 15, 17, 18, 26
BUFFER_MS, INITIAL_MS, OPTIMAL_MS = 600, 300, 400
MOST_KEY_PERCENT = 500  # of an average picture: a key frame must not fill the link for long
# That is only what libvpx aims at, and of pictures between key frames it limits nothing. Behind pictures at rest (a
# standby card, a line that was dead) it wants to be as sharp in one step: 30 to 45 kB at 350 kbit/s, which overran the
# queue of the next router, and an outage of half a second lasted four. What takes longer than this is thrown away and
# made by a codec opened anew: that one begins with a small key frame, and owes nothing for what was thrown away.
LONGEST_S = 0.2
LEAST_APART = 8  # pictures: where all of them are large, a new codec would not help
# Squared error of a 16x16 block, 49 dB: below it a block is left as it was. A person at 1280x720: 0.5 to 1 ms less per
# picture, PSNR 0.4 dB more at 1 Mbit/s, 0.2 less at 2.5; with 400 it is 1.3 less there.
STATIC_ERROR = 200
MANY_PIXELS = 640 * 480
MANY_CORES = 8
PICTURE_S = 1 / 30
PERIOD_WEIGHT = 0.05  # of each picture, in how far apart they are: see `_advance`


class Rational(ctypes.Structure):
    _fields_ = [("num", ctypes.c_int), ("den", ctypes.c_int)]


class Buffer(ctypes.Structure):
    _fields_ = [("buf", ctypes.c_void_p), ("sz", ctypes.c_size_t)]


class Config(ctypes.Structure):
    """The beginning of vpx_codec_enc_cfg, and room for the rest of it."""

    _fields_ = [
        ("g_usage", ctypes.c_uint),
        ("g_threads", ctypes.c_uint),
        ("g_profile", ctypes.c_uint),
        ("g_w", ctypes.c_uint),
        ("g_h", ctypes.c_uint),
        ("g_bit_depth", ctypes.c_int),
        ("g_input_bit_depth", ctypes.c_uint),
        ("g_timebase", Rational),
        ("g_error_resilient", ctypes.c_uint32),
        ("g_pass", ctypes.c_int),
        ("g_lag_in_frames", ctypes.c_uint),
        ("rc_dropframe_thresh", ctypes.c_uint),
        ("rc_resize_allowed", ctypes.c_uint),
        ("rc_scaled_width", ctypes.c_uint),
        ("rc_scaled_height", ctypes.c_uint),
        ("rc_resize_up_thresh", ctypes.c_uint),
        ("rc_resize_down_thresh", ctypes.c_uint),
        ("rc_end_usage", ctypes.c_int),
        ("rc_twopass_stats_in", Buffer),
        ("rc_firstpass_mb_stats_in", Buffer),
        ("rc_target_bitrate", ctypes.c_uint),
        ("rc_min_quantizer", ctypes.c_uint),
        ("rc_max_quantizer", ctypes.c_uint),
        ("rc_undershoot_pct", ctypes.c_uint),
        ("rc_overshoot_pct", ctypes.c_uint),
        ("rc_buf_sz", ctypes.c_uint),
        ("rc_buf_initial_sz", ctypes.c_uint),
        ("rc_buf_optimal_sz", ctypes.c_uint),
        ("rc_2pass_vbr_bias_pct", ctypes.c_uint),
        ("rc_2pass_vbr_minsection_pct", ctypes.c_uint),
        ("rc_2pass_vbr_maxsection_pct", ctypes.c_uint),
        ("rc_2pass_vbr_corpus_complexity", ctypes.c_uint),
        ("kf_mode", ctypes.c_int),
        ("kf_min_dist", ctypes.c_uint),
        ("kf_max_dist", ctypes.c_uint),
        ("rest", ctypes.c_ubyte * 2048),
    ]


class Image(ctypes.Structure):
    """vpx_image."""

    _fields_ = [
        ("fmt", ctypes.c_int),
        ("cs", ctypes.c_int),
        ("range", ctypes.c_int),
        ("w", ctypes.c_uint),
        ("h", ctypes.c_uint),
        ("bit_depth", ctypes.c_uint),
        ("d_w", ctypes.c_uint),
        ("d_h", ctypes.c_uint),
        ("r_w", ctypes.c_uint),
        ("r_h", ctypes.c_uint),
        ("x_chroma_shift", ctypes.c_uint),
        ("y_chroma_shift", ctypes.c_uint),
        ("planes", ctypes.c_void_p * 4),
        ("stride", ctypes.c_int * 4),
        ("bps", ctypes.c_int),
        ("user_priv", ctypes.c_void_p),
        ("img_data", ctypes.c_void_p),
        ("img_data_owner", ctypes.c_int),
        ("self_allocd", ctypes.c_int),
        ("fb_priv", ctypes.c_void_p),
    ]


class Packet(ctypes.Structure):
    """The beginning of vpx_codec_cx_pkt, for a coded picture."""

    _fields_ = [
        ("kind", ctypes.c_int),
        ("buf", ctypes.c_void_p),
        ("sz", ctypes.c_size_t),
        ("pts", ctypes.c_int64),
        ("duration", ctypes.c_ulong),
        ("flags", ctypes.c_uint32),
    ]


Context = ctypes.c_ubyte * 256  # vpx_codec_ctx has 56 bytes


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """(libvpx, its VP8 encoder interface), the layout checked by the defaults that VP8 is known to have."""
    lib = native.load("vpx")
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    lib.vpx_codec_vp8_cx.restype = pointer
    lib.vpx_codec_enc_config_default.argtypes = [pointer, ctypes.POINTER(Config), ctypes.c_uint]
    lib.vpx_codec_enc_init_ver.argtypes = [pointer, pointer, ctypes.POINTER(Config), ctypes.c_long, integer]
    lib.vpx_codec_enc_config_set.argtypes = [pointer, ctypes.POINTER(Config)]
    lib.vpx_codec_control_.argtypes = [pointer, integer]
    lib.vpx_codec_encode.argtypes = [
        pointer, pointer, ctypes.c_int64, ctypes.c_ulong, ctypes.c_long, ctypes.c_ulong,
    ]  # fmt: skip
    lib.vpx_codec_get_cx_data.argtypes = [pointer, ctypes.POINTER(pointer)]
    lib.vpx_codec_get_cx_data.restype = ctypes.POINTER(Packet)
    lib.vpx_codec_destroy.argtypes = [pointer]
    interface = lib.vpx_codec_vp8_cx()
    if not interface:
        raise native.NotUsable("this libvpx was built without its VP8 encoder")
    config = Config()
    if lib.vpx_codec_enc_config_default(interface, config, 0):
        raise native.NotUsable("libvpx gives no default settings")
    known = (config.g_w, config.g_h, config.g_timebase.den, config.rc_target_bitrate, config.rc_max_quantizer)
    buffers = (config.rc_buf_sz, config.rc_buf_initial_sz, config.rc_buf_optimal_sz, config.kf_max_dist)
    if known != (320, 240, 30, 256, 63) or buffers != (6000, 4000, 5000, 128):
        raise native.NotUsable(f"libvpx's settings are laid out in another way: {known}, {buffers}")
    return lib, interface


def threads_for(pixels: int, wanted: int) -> int:
    """How many threads code one picture. libvpx's wait for each other in a busy loop: on two cores that are shared a
    second one made a picture of 4 ms take 180, so it needs cores to spare."""
    if wanted:
        return wanted
    return 2 if pixels > MANY_PIXELS and (os.cpu_count() or 1) >= MANY_CORES else 1


class Vp8Encoder(LockedEncoder):
    """See `types.Encoder`. Raises NotUsable where libvpx cannot be driven directly."""

    codec: VideoCodec = "VP8"

    def __init__(self, settings: EncodingSettings, bits_per_s: int) -> None:
        self._lib, self._interface = _library()
        super().__init__("libvpx", bits_per_s)
        self._settings = settings
        self._config = Config()
        self._context: ctypes.Array[ctypes.c_ubyte] | None = None
        self._pts = 0
        self._last_pts: int | None = None
        self._period = RTP_CLOCK_HZ * PICTURE_S
        self._since_open = 0  # pictures

    def _encode(self, frame: VideoFrame, force_key: bool) -> EncodedUnit | None:
        if self._context is None or (self._config.g_w, self._config.g_h) != (frame.width, frame.height):
            self._open(frame.width, frame.height)
        kbps = max(self._wanted_bps // 1000, 1)
        if kbps != self._config.rc_target_bitrate:
            self._config.rc_target_bitrate = kbps
            self._check(self._lib.vpx_codec_enc_config_set(self._context, self._config), "refuses the bit rate")
        duration = self._advance(frame)
        unit = self._code(frame, duration, force_key)
        too_large = unit is not None and 8 * len(unit.payload) > LONGEST_S * 1000 * kbps
        if too_large and self._since_open > LEAST_APART:
            self._open(frame.width, frame.height)
            unit = self._code(frame, duration, force_key=True)
        return unit

    def _code(self, frame: VideoFrame, duration: int, force_key: bool) -> EncodedUnit | None:
        """One picture as the codec stands now."""
        frame, pointers, strides = native.planes(frame)
        image = _image(frame, pointers, strides)
        flags = FORCE_KEY if force_key else 0
        code = self._lib.vpx_codec_encode(
            self._context, ctypes.byref(image), self._pts, duration, flags, DEADLINE_REALTIME
        )
        self._check(code, "cannot code the picture")
        self._since_open += 1
        return self._coded()

    def _advance(self, frame: VideoFrame) -> int:
        """The picture's time for the rate control, 90 kHz, always growing. Returns for how long it is said to be shown.

        libvpx takes the rate of pictures from one picture's duration: told of a gap of 0.1 s, as every lost picture
        leaves one, it allowed itself ten times as much as it should. So it is told of the mean.
        """
        pts = self._pts + round(RTP_CLOCK_HZ * PICTURE_S)
        if frame.pts is not None and frame.time_base is not None:
            stamp = round(frame.pts * frame.time_base.numerator * RTP_CLOCK_HZ / frame.time_base.denominator)
            if self._last_pts is not None:
                pts = self._pts + min(max(stamp - self._last_pts, RTP_CLOCK_HZ // 120), RTP_CLOCK_HZ)
            self._last_pts = stamp
        since, self._pts = pts - self._pts, pts
        self._period += PERIOD_WEIGHT * (since - self._period)
        return round(min(since, self._period))

    def _coded(self) -> EncodedUnit | None:
        """Everything that the codec has to give for the picture."""
        iterator = ctypes.c_void_p()
        payload, is_key = b"", False
        while packet := self._lib.vpx_codec_get_cx_data(self._context, ctypes.byref(iterator)):
            if packet.contents.kind == FRAME_PACKET:
                payload += ctypes.string_at(packet.contents.buf, packet.contents.sz)
                is_key = is_key or bool(packet.contents.flags & FRAME_IS_KEY)
        return EncodedUnit("VP8", payload, is_key) if payload else None

    def _open(self, width_px: int, height_px: int) -> None:
        self._free()
        config = self._config
        self._check(self._lib.vpx_codec_enc_config_default(self._interface, config, 0), "gives no settings")
        config.g_w, config.g_h = width_px, height_px
        config.g_threads = threads_for(width_px * height_px, self._settings.encoder_threads)
        config.g_timebase.num, config.g_timebase.den = 1, RTP_CLOCK_HZ
        config.g_lag_in_frames = config.rc_dropframe_thresh = config.rc_resize_allowed = 0
        config.rc_end_usage = CONSTANT_RATE
        config.rc_target_bitrate = max(self._wanted_bps // 1000, 1)
        config.rc_min_quantizer, config.rc_max_quantizer = 2, 60
        config.rc_undershoot_pct, config.rc_overshoot_pct = 100, 15
        config.rc_buf_sz, config.rc_buf_initial_sz, config.rc_buf_optimal_sz = BUFFER_MS, INITIAL_MS, OPTIMAL_MS
        config.kf_mode, config.kf_max_dist = 0, 100_000  # key frames come when they are asked for
        context = Context()
        code = self._lib.vpx_codec_enc_init_ver(context, self._interface, config, 0, ENCODER_ABI)
        self._check(code, "cannot be opened with the structures known here")
        self._context, self._since_open = context, 0
        for control, value in (
            (SET_SPEED, -self._settings.vp8_speed),
            (SET_NOISE, 0),
            (SET_STATIC, STATIC_ERROR),
            (SET_PARTITIONS, 1 if config.g_threads > 1 else 0),
            (SET_MOST_INTRA_PERCENT, MOST_KEY_PERCENT),
        ):
            self._check(self._lib.vpx_codec_control_(context, control, ctypes.c_int(value)), "refuses a setting")

    def _free(self) -> None:
        if self._context is not None:
            self._lib.vpx_codec_destroy(self._context)
            self._context = None

    def _check(self, code: int, what: str) -> None:
        if code:
            raise native.NotUsable(f"libvpx {what} (code {code})")


def _image(frame: VideoFrame, pointers: list[int], strides: list[int]) -> Image:
    image = Image(fmt=I420, w=frame.width, h=frame.height, d_w=frame.width, d_h=frame.height)
    image.bit_depth, image.bps = 8, 12
    image.x_chroma_shift = image.y_chroma_shift = 1
    for index, (pointer, stride) in enumerate(zip(pointers, strides, strict=True)):
        image.planes[index], image.stride[index] = pointer, stride
    return image
