"""What a person can choose about preparing video."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from engines import StrictModel
from engines.settings import SwapperType


class PrepareSettings(StrictModel):
    """How clips are cut out of videos. Every field is documented in docs/settings.md."""

    output: Path = Field(description="folder for the shards")
    consent: str = Field(description="who agreed, when, for what; recorded with every clip")
    licence: str = Field(description="licence of the videos; recorded with every clip")
    size_px: Literal[256, 512] = Field(256, description="side of the aligned crops")
    frames: int = Field(16, ge=1, le=256, description="frames of a clip")
    least_face_px: int = Field(64, ge=16, description="width of a face in its video below which it is left out")
    least_sharpness: float = Field(0.1, ge=0, le=1, description="0 takes everything, 1 only what is as sharp as can be")
    most_yaw_deg: float = Field(75.0, gt=0, le=90, description="head turn to a side beyond which a face is left out")
    most_pitch_deg: float = Field(45.0, gt=0, le=90, description="head turn up or down beyond which it is left out")
    least_inside: float = Field(0.85, ge=0, le=1, description="share of the crop that has to lie inside of the video")
    shard_clips: int = Field(64, ge=1, description="clips in one shard at most")
    workers: int = Field(1, ge=1, le=256, description="processes that work at the same time")
    cluster: bool = Field(False, description="run on the Ray cluster that is configured, instead of processes here")

    decoupler: Path | None = Field(None, description="swapper of your own, an ONNX file, that draws each clip's twin")
    decoupler_type: SwapperType = Field("auto", description="what kind of swapper it is")
    decoupler_embedder: Path | None = Field(None, description="face recogniser that it needs")
    decoupler_converter: Path | None = Field(None, description="file that converts the embedding for it")
    decoupler_identities: Path | None = Field(None, description="folder of identities whose faces the twins wear")

    @field_validator("consent", "licence")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must say something: nothing is prepared without it")
        return value.strip()
