"""What `vividstream file` says about a run, as one JSON document."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from engines import MediaError, StrictModel
from streamer.belt import BeltStatistics
from streamer.config import FileConfig
from streamer.stage_times import StageTime

Outcome = Literal["complete", "stopped", "broken_input"]
BROKEN_INPUT = 3


class PictureFacts(StrictModel):
    """The video that was written. `seconds` is the time of presentation that it covers."""

    width_px: int
    height_px: int
    seconds: float
    rate: float
    turned_upright: bool


class FrameCounts(StrictModel):
    """Pictures by what they show. `written`: all that were `stepped` but those that a gif's clock leaves out."""

    stepped: int
    written: int
    drawn: int
    warming: int
    no_face: int
    standby: int
    engine_faults: int  # among `standby`: the engine failed on this picture


class FaceCounts(StrictModel):
    """Faces that the tracker found: in how many frames at least one, how many in all, at most in one frame."""

    frames_with_faces: int
    found: int
    most_in_a_frame: int


class BeltReport(StrictModel):
    """How far the threads ran ahead of each other; see BeltStatistics."""

    bound: int
    passed: int
    highest: int
    full_s: float
    empty_s: float

    @classmethod
    def of(cls, belt: BeltStatistics) -> BeltReport:
        return cls(bound=belt.bound, passed=belt.passed, highest=belt.highest, full_s=belt.full_s, empty_s=belt.empty_s)


class FileReport(StrictModel):
    """One run of `vividstream file`. Times in milliseconds are percentiles over all frames.

    outcome      `complete`; `stopped` by Ctrl-C or SIGTERM; `broken_input`: the input ended before its time
    settings     the command's settings as they were resolved
    engine, why  what drew, and why it was chosen
    fps          frames a second over `elapsed_s`, loading excluded
    warnings     what a person should know about the result, one line each
    """

    version: str
    outcome: Outcome
    exit_code: int = Field(ge=0, le=255)
    settings: FileConfig
    engine: str
    why: str
    label: bool
    picture: PictureFacts
    frames: FrameCounts
    faces: FaceCounts
    fps: float
    elapsed_s: float
    stages: dict[str, StageTime]
    belts: dict[str, BeltReport]
    sounds: tuple[str, ...]
    warnings: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Writes JSON, whole or not at all. Raises MediaError."""
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            try:
                part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise MediaError(f"{path}: cannot be written: {error.strerror}") from error
