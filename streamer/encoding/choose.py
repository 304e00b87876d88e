"""Which encoder codes a call's pictures: the first that really works here, and why."""

from __future__ import annotations

import logging

from streamer.encoding import libav
from streamer.encoding.h264 import H264Encoder
from streamer.encoding.native import NotUsable
from streamer.encoding.settings import EncodingSettings
from streamer.encoding.vp8 import Vp8Encoder, threads_for
from streamer.errors import EncoderUnavailable
from streamer.transport.types import Encoder, VideoCodec

log = logging.getLogger(__name__)

HD_PIXELS = 1280 * 720


def probe_card(settings: EncodingSettings) -> None:
    """Finds out, and logs, whether a graphics card codes. Takes up to a second: in a thread, before the first call.

    Raises EncoderUnavailable where one was asked for by name and does not.
    """
    if settings.hardware_encoder == "no":
        return
    why = libav.refusal(libav.NVENC)
    if why is None:
        log.info("H.264 is coded by the graphics card (%s): a session really opened", libav.NVENC.encoder)
    elif settings.hardware_encoder == "nvenc":
        raise EncoderUnavailable(f"{libav.NVENC.encoder} was asked for and does not open here: {why}")
    else:
        log.info("H.264 is coded by the CPU: %s does not open here: %s", libav.NVENC.encoder, why)


def has_hardware(settings: EncodingSettings) -> bool:
    """Whether H.264 is coded by a graphics card, and so costs the CPU nothing."""
    return settings.hardware_encoder != "no" and libav.works(libav.NVENC)


def make_encoder(codec: VideoCodec, settings: EncodingSettings, bits_per_s: int) -> Encoder:
    """An encoder for one call. Cheap: the codec itself opens with the first picture. Raises NotUsable."""
    threads = threads_for(HD_PIXELS, settings.encoder_threads)
    if codec == "H264" and has_hardware(settings):
        return libav.LibavEncoder(libav.NVENC, bits_per_s)
    if codec == "AV1":
        raise NotUsable("AV1 is not sent: it takes two to four times the time of VP8 and H.264 (docs/decisions/021)")
    try:
        return Vp8Encoder(settings, bits_per_s) if codec == "VP8" else H264Encoder(settings, bits_per_s)
    except NotUsable as error:
        log.warning("%s through FFmpeg's wrapper, where a change of rate costs a key frame: %s", codec, error)
    return libav.LibavEncoder(libav.VP8 if codec == "VP8" else libav.H264, bits_per_s, threads)


def instead(failed: Encoder, error: NotUsable, settings: EncodingSettings, bits_per_s: int) -> Encoder:
    """What codes on after an encoder that cannot: it begins with a key frame. Raises the error where nothing is left.

    A graphics card may have no session left for this call, or lose it in the middle.
    """
    if failed.name == libav.NVENC.encoder:
        other = make_encoder(failed.codec, settings.model_copy(update={"hardware_encoder": "no"}), bits_per_s)
    elif not isinstance(failed, libav.LibavEncoder):
        other = libav.LibavEncoder(libav.VP8 if failed.codec == "VP8" else libav.H264, bits_per_s)
    else:
        raise error
    log.warning("%s gives way to %s in the middle of a call: %s", failed.name, other.name, error)
    return other
