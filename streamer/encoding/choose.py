"""Which encoder codes a call's pictures: the first that really works here, and why."""

from __future__ import annotations

import logging

from streamer.encoding import libav
from streamer.encoding.h264 import H264Encoder
from streamer.encoding.native import NotUsable
from streamer.encoding.settings import EncodingSettings
from streamer.encoding.vp8 import Vp8Encoder, threads_for
from streamer.transport.types import Encoder, VideoCodec

log = logging.getLogger(__name__)

HD_PIXELS = 1280 * 720


def make_encoder(codec: VideoCodec, settings: EncodingSettings, bits_per_s: int) -> Encoder:
    """An encoder for one call. Cheap: the codec itself opens with the first picture. Raises NotUsable."""
    threads = threads_for(HD_PIXELS, settings.encoder_threads)
    if codec == "H264" and settings.hardware_encoder == "auto" and libav.works(libav.NVENC):
        return libav.LibavEncoder(libav.NVENC, bits_per_s)
    if codec == "AV1":
        raise NotUsable("AV1 is not sent: it takes twice the time of H.264 for no better picture (docs/benchmarks)")
    try:
        return Vp8Encoder(settings, bits_per_s) if codec == "VP8" else H264Encoder(settings, bits_per_s)
    except NotUsable as error:
        log.warning("%s through FFmpeg's wrapper, where a change of rate costs a key frame: %s", codec, error)
    return libav.LibavEncoder(libav.VP8 if codec == "VP8" else libav.H264, bits_per_s, threads)
