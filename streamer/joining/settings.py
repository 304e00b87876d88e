"""What `vividstream join` may be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from engines import StrictModel, SwapSettings
from streamer.encoding.settings import EncodingSettings

LEAST_SIDE_PX, MOST_SIDE_PX = 64, 1920


class JoinSettings(StrictModel):
    """Who joins a room, with which picture and sound: options of every `vividstream join`."""

    source: str = Field("0", description="camera (number, device or name), video file, or address of a stream")
    loop: bool = Field(False, description="a file starts again at its end")
    identity: str | None = Field(None, description="identity to wear")
    identities_dir: Path | None = Field(None, description="folder of enrolled identities")
    sound: str = Field("source", description="sound: the source's own, `none`, or a microphone (default, pulse, hw:1)")
    size: str = Field("640x480", pattern=r"^\d{2,4}x\d{2,4}$", description="size of the others' picture, WIDTHxHEIGHT")
    fps: float = Field(30.0, gt=0, le=60, description="pictures a second that the camera is asked for")
    name: str = Field("vividstream", min_length=1, max_length=64, description="name that the others see")
    for_seconds: float | None = Field(None, gt=0, description="leave after so many seconds")
    give_up_seconds: float = Field(
        300.0, ge=0, description="how long a room that was lost is looked for before this ends"
    )
    ice_server: str | None = Field(None, description="STUN or TURN server (stun:host:port); none is asked by default")
    ice_username: str | None = Field(None, description="name for the TURN server")
    ice_password: str | None = Field(
        None, description="password for the TURN server", json_schema_extra={"secret": True}
    )
    wait: bool = Field(False, description="wait for a source that is not there yet, instead of giving up")
    control: Path | None = Field(None, description="socket to listen on for commands; a fixed place of this user's")
    numbers: Path | None = Field(None, description="file that gets one line of figures (JSON) a second; - for stdout")

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, text: str) -> str:
        for side in map(int, text.split("x")):
            if not LEAST_SIDE_PX <= side <= MOST_SIDE_PX or side % 2:
                raise ValueError(f"each side is an even number, {LEAST_SIDE_PX} to {MOST_SIDE_PX}")
        return text

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        width_px, height_px = map(int, self.size.split("x"))
        return width_px, height_px


class JanusSettings(StrictModel):
    """The room of a Janus: options of `vividstream join janus`."""

    pin: str | None = Field(None, description="pin of the room", json_schema_extra={"secret": True})
    room_token: str | None = Field(
        None, description="token of a room that lets in only who has one", json_schema_extra={"secret": True}
    )
    api_secret: str | None = Field(None, description="secret of the whole Janus", json_schema_extra={"secret": True})
    api_token: str | None = Field(None, description="token of the whole Janus", json_schema_extra={"secret": True})
    codec: Literal["any", "vp8", "h264"] = Field("any", description="codec of the picture; any: as the room likes")


class WhipSettings(StrictModel):
    """The address that is published to: options of `vividstream join whip`."""

    token: str | None = Field(None, description="secret of the address (Bearer)", json_schema_extra={"secret": True})
    token_file: Path | None = Field(
        None, description="file with the secret, so that nobody sees it among the processes"
    )


class LivekitSettings(StrictModel):
    """How LiveKit's own library is reached: options of `vividstream join livekit`."""

    python: Path | None = Field(
        None, description="interpreter that has the package livekit (an environment of its own)"
    )


class JoinConfig(StrictModel):
    """One `vividstream join`, complete."""

    join: JoinSettings = Field(JoinSettings(), description="who joins, with which picture and sound")
    swap: SwapSettings = Field(SwapSettings(), description="how the face is swapped")
    encoding: EncodingSettings = Field(EncodingSettings(), description="how the picture is coded")
