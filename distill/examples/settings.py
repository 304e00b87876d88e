"""The settings of kept examples and of the batches made of them. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from engines import StrictModel

LEAST_FRAME_PX = 192  # below it the tracker's landmarks are those of another size of face


class ExampleSettings(StrictModel):
    """`vividstream examples`: what is drawn, how much of it, and where it is kept."""

    folder: Path = Field(description="folder for the examples")
    stills: int = Field(1000, ge=0, description="stills to draw")
    clips: int = Field(100, ge=0, description="clips to draw")
    held_out_stills: int = Field(64, ge=0, description="stills of people kept apart, for watching a training")
    held_out_clips: int = Field(8, ge=0, description="clips of people kept apart")
    frames: int = Field(12, ge=2, description="frames of a clip")
    size_px: int = Field(256, ge=64, le=1024, multiple_of=64, description="side of the crops: the network's")
    picture_px: int = Field(64, ge=16, le=512, description="side of the face encoder's pictures: the network's")
    frame_px: int = Field(
        0, ge=0, le=2048, description="side of the whole frames; 0: 1.5 times the crops', 192 at least"
    )
    photo_px: int = Field(384, ge=128, le=2048, description="side of the photos that identities are enrolled from")
    photos: int = Field(1, ge=1, le=8, description="photos of an identity")
    same_person: int = Field(3, ge=1, le=64, description="samples in a row of one identity, which is enrolled once")
    seed: int = Field(0, ge=0, lt=2**32, description="decides every sample")
    occlude: float = Field(0.25, ge=0, le=1, description="share of samples with something passing before the face")
    degrade: bool = Field(True, description="what camera and call do to the pictures")
    disguise: bool = Field(
        True, description="drivers who are the identity themselves (moved portraits, videos) wear another face"
    )
    data: Path = Field(Path("../shared/data"), description="folder with the face model, skins and hair")
    rendered: float = Field(0.7, ge=0, description="weight of rendered people")
    portraits: Path | None = Field(None, description="folder with portraits that are moved; none: DATA/synth_faces")
    moved: float = Field(0.3, ge=0, description="weight of portraits that move")
    shards: Path | None = Field(None, description="folder that `vividstream prepare` wrote")
    held_out_shards: Path | None = Field(None, description="such a folder of people kept apart")
    real: float = Field(1.0, ge=0, description="weight of the shards, where there are any")
    workers: int = Field(1, ge=1, le=256, description="processes that draw at the same time")

    @property
    def whole_frame_px(self) -> int:
        return self.frame_px or max(self.size_px * 3 // 2, LEAST_FRAME_PX)

    @property
    def portrait_folder(self) -> Path:
        return self.portraits or self.data / "synth_faces"

    def of_examples(self) -> dict[str, object]:
        """What decides a sample's example: not how many there are, nor where they are, nor who draws them."""
        numbers = {"folder", "stills", "clips", "held_out_stills", "held_out_clips", "workers"}
        places = {"data", "portraits", "shards", "held_out_shards"}
        return self.model_dump(mode="json", exclude=numbers | places)


Rhythm = Annotated[tuple[Literal["image", "video"], ...], Field(min_length=1, strict=False)]
Folders = Annotated[tuple[Path, ...], Field(strict=False)]
Weights = Annotated[tuple[float, ...], Field(strict=False)]


class BatchSettings(StrictModel):
    """What batches are made of kept examples; a run that resumes has to have the same."""

    folder: Path = Field(description="what `vividstream examples` made")
    more_folders: Folders = Field((), description="further such folders")
    weights: Weights = Field((), description="how often each folder is drawn from; empty: all alike")
    seed: int = Field(0, ge=0, lt=2**32, description="decides the order")
    frames: int = Field(8, ge=1, description="frames of a video sample, cut by lot out of longer clips")
    images_a_batch: int = Field(16, ge=1, description="stills of an image batch, per rank")
    videos_a_batch: int = Field(2, ge=1, description="clips of a video batch, per rank")
    rhythm: Rhythm = Field(("image", "video"), description="kinds of the batches, over and over")
    memory_mb: int = Field(1024, ge=0, description="decoded examples that are kept in memory, per rank")
