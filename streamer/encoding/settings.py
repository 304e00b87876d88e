"""How a picture is coded for a call."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engines import StrictModel


class EncodingSettings(StrictModel):
    """How the pictures of a call are coded: options of `vividstream serve`."""

    h264_preset: Literal["ultrafast", "superfast", "veryfast", "faster"] = Field(
        "superfast", description="x264's trade of time against size"
    )
    vp8_speed: int = Field(12, ge=0, le=16, description="libvpx's trade of time against size, 16 the fastest")
    encoder_threads: int = Field(
        0, ge=0, le=8, description="threads of one encoder; 0 takes 1, and 2 above 640x480 on 8 cores and more"
    )
    hardware_encoder: Literal["auto", "nvenc", "no"] = Field(
        "auto", description="whether a graphics card codes H.264: where one does, must, never"
    )
    max_kbps: int = Field(4000, ge=200, le=20_000, description="most that one call's picture may take, in 1000 bit/s")
    min_kbps: int = Field(100, ge=50, le=2_000, description="least that one call's picture takes, in 1000 bit/s")
    start_kbps: int = Field(500, ge=100, le=10_000, description="rate at the beginning of a call, in 1000 bit/s")
