"""The frozen settings of `vividstream camera`. Documented in docs/settings.md."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from engines import StrictModel

LEAST_SIDE_PX, MOST_SIDE_PX = 64, 4096


class CameraSettings(StrictModel):
    """What is drawn into which virtual camera: options of `vividstream camera`."""

    source: str = Field("0", description="camera (number, /dev/videoN or name), video file, or address of a stream")
    sink: tuple[str, ...] = Field(
        (), description="virtual camera: /dev/videoN or `pipewire`; without: the first v4l2loopback device"
    )
    identity: str | None = Field(None, description="identity whose face is drawn")
    identities_dir: Path | None = Field(None, description="folder of enrolled identities")
    size: str = Field("1280x720", pattern=r"^\d{2,4}x\d{2,4}$", description="size of the picture, WIDTHxHEIGHT")
    fps: float = Field(30.0, ge=1, le=120, description="pictures a second that the camera is asked for")
    pixel_format: Literal["auto", "yuyv", "i420", "nv12"] = Field("auto", description="what readers get; auto: yuyv")
    loop: bool = Field(False, description="begin a file again at its end")
    unwatched: Literal["pause", "draw"] = Field(
        "pause", description="while no program watches: close the source and draw nothing, or go on"
    )
    wait: bool = Field(False, description="wait for a source that is not there yet, instead of giving up")
    control: Path | None = Field(None, description="socket to listen on for commands; a fixed place of this user's")
    preview: bool = Field(False, description="show what goes out on a page of this machine, too")
    keys: bool = Field(True, description="take commands from the keyboard, where there is a terminal")

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, text: str) -> str:
        width_px, height_px = (int(part) for part in text.split("x"))
        if not all(LEAST_SIDE_PX <= side <= MOST_SIDE_PX for side in (width_px, height_px)):
            raise ValueError(f"each side is {LEAST_SIDE_PX} to {MOST_SIDE_PX} pixels")
        if width_px % 2 or height_px % 2:
            raise ValueError("both sides must be even, as cameras' pixel formats want them")
        return text

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        width_px, height_px = self.size.split("x")
        return int(width_px), int(height_px)
