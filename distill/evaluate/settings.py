"""What `vividstream eval` can be told. Documented in docs/settings.md."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from engines import StrictModel


class TrueSwapConfig(StrictModel):
    """`vividstream eval true-swap`."""

    engine: str = Field("proxy", description="engine to measure, by name")
    tone: Literal["identity", "driver", "mix"] = Field("identity", description="whose skin tone the result has")
    quick: bool = Field(False, description="six short clips instead of all")
    out: Path | None = Field(None, description="folder for the report, as text and JSON; only printed if not given")
    pictures: Path | None = Field(None, description="folder for a picture of every swap")
    data: Path = Field(Path("../shared/data"), description="folder with the face model, skins and hair")


class SwapEvalConfig(StrictModel):
    """`vividstream eval swap`."""

    engine: str = Field("proxy", description="engine to measure, by name")
    set: tuple[str, ...] = Field((), description="KEY=VALUE of SwapSettings, for the engine; may be repeated")
    clips: tuple[Path, ...] = Field((), description="videos, or folders of videos, to swap; may be repeated")
    identity: tuple[str, ...] = Field((), description="whose face is worn; may be repeated; else the built-in ones")
    identities_dir: Path | None = Field(None, description="where enrolled identities lie")
    rendered: bool = Field(
        False, description="swap the held-out clips of people who do not exist; their truth is known"
    )
    frames: Path | None = Field(None, description="folder of swaps that another program made, instead of an engine")
    name: str | None = Field(None, description="what the report calls it; else the engine, or the folder")
    quick: bool = Field(False, description="two clips, two identities, 60 frames of each, every sixth looked at")
    every: int = Field(1, ge=1, description="look at every n-th frame; speed and FVD see all")
    most_frames: int | None = Field(None, ge=2, description="of each clip, from its start")
    rollout_s: float = Field(0.0, ge=0, description="play each clip on and on for that long, for drift; 300 is usual")
    judge: tuple[str, ...] = Field(
        (), description="dlib, or KIND=FILE.onnx: arcface, adaface, ir_se50; may be repeated"
    )
    gallery: Path | None = Field(None, description="folder of photos of other people, among whom to find the right one")
    blendshapes: Path | None = Field(None, description="face_landmarker.task, for expressions")
    hopenet: Path | None = Field(None, description="Hopenet as an ONNX file, for poses")
    deep3d: Path | None = Field(None, description="Deep3DFaceRecon's network as an ONNX file, for expressions")
    fvd: tuple[str, ...] = Field((), description="KIND=FILE, i3d or videomae, for FVD; may be repeated")
    fvd_sha256: tuple[str, ...] = Field((), description="what those files have to be, in the same order")
    lengths: tuple[int, ...] = Field((32, 128), description="frames of a clip for FVD; may be repeated")
    out: Path | None = Field(
        None, description="folder for report, sheet, and readings to go on from; else only printed"
    )
    data: Path = Field(Path("../shared/data"), description="folder with what people are rendered from, and models")


class StepsEvalConfig(StrictModel):
    """`vividstream eval steps`."""

    examples: Path = Field(description="what `vividstream examples` made; its people kept apart are measured")
    student: Path | None = Field(None, description="weights of a few-step student")
    teacher: Path | None = Field(None, description="weights of a teacher, bidirectional or causal: the reference")
    steps: tuple[int, ...] = Field((1, 2, 4), description="of the student; may be repeated")
    teacher_steps: tuple[int, ...] = Field((4, 8, 50), description="of the teacher; the most are the reference")
    solver: Literal["ddim", "dpm++2m", "heun"] = Field("dpm++2m", description="of the teacher")
    batches: int = Field(8, ge=1, description="batches that are measured")
    clips: int = Field(2, ge=1, description="clips in a batch")
    frames: int = Field(8, ge=1, description="frames of a clip; a bidirectional teacher's window, too")
    seed: int = Field(0, ge=0, description="of noise and order")
    out: Path | None = Field(None, description="folder for the report, as text and JSON; only printed if not given")
