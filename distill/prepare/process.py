"""One video in, its shards out: the function that every way of running (here, processes, a cluster) calls."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from distill.errors import BadClip, NotWritten
from distill.prepare.clip_settings import clip_settings
from distill.prepare.clips import MOST_FACES, Clip, Tally, clips_of
from distill.prepare.decouple import Decoupler
from distill.prepare.settings import PrepareSettings
from distill.prepare.video import Picture, VideoReader
from distill.shards import TWIN, Entry, sha256_of, write_shard
from engines import EngineFault, Rgb
from engines.face.track import FaceTracker

JPEG_QUALITY = 95  # with full colour resolution: 35 to 45 dB, a sixth of PNG's size
THUMBNAIL_PX = 96
SHOWN_CLIPS = 6  # thumbnails kept for the report, per video
SHOWN_FRAMES = 6


@dataclass(frozen=True, slots=True)
class Task:
    """One video to prepare. Plain data: it goes to other processes and machines."""

    video: Path
    sha256: str
    settings: PrepareSettings

    def to_json(self) -> str:
        return json.dumps([str(self.video), self.sha256, self.settings.model_dump_json()])

    @classmethod
    def from_json(cls, text: str) -> Task:
        video, sha256, settings = json.loads(text)
        return cls(Path(video), sha256, PrepareSettings.model_validate_json(settings))

    @property
    def name(self) -> str:
        """Of the video's shards: readable, and different for different content."""
        readable = re.sub(r"[^a-z0-9]+", "-", self.video.stem.lower()).strip("-")[:40]
        return f"{readable or 'video'}-{self.sha256[:12]}"


@dataclass(slots=True)
class VideoReport:
    """What became of one video. `refused` says why nothing was made of it, `broke_off` that not all of it was read."""

    video: str
    sha256: str
    consent: str
    licence: str
    shards: list[Entry] = field(default_factory=list)
    clips: int = 0
    people: int = 0
    frames: int = 0
    faces: int = 0
    cuts: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    refused: str | None = None
    broke_off: str | None = None
    twins: int = 0  # clips that have one
    without_twin: dict[str, int] = field(default_factory=dict)  # clips, by what the swapper said
    pictures: list[str] = field(default_factory=list)  # files of thumbnails, one row a clip, in the output's folder

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, object]) -> VideoReport:
        """Raises TypeError or KeyError for anything else."""
        entries = stored["shards"]
        if not isinstance(entries, list):
            raise TypeError("shards is no list")
        return cls(**{**stored, "shards": [Entry(**one) for one in entries]})  # type: ignore[arg-type]


def prepare_video(task: Task, count: Callable[[int], None] | None = None) -> VideoReport:
    """Prepares one video; `count` is called with 1 for each frame read. Deterministic: again gives the same shards.

    A video that cannot be used is refused in the report. Raises NotWritten where the shards cannot be written.
    """
    report = VideoReport(str(task.video), task.sha256, task.settings.consent, task.settings.licence)
    reader, tally, kept = VideoReader(task.video), Tally(), _Kept()
    tracker = FaceTracker(MOST_FACES, "all")
    decoupler = Decoupler(task.settings) if task.settings.decoupler is not None else None
    try:
        clips = clips_of(_counted(reader, count), tracker, task.settings, tally)
        for number, part in enumerate(_parts(kept.all_of(clips), task.settings.shard_clips)):
            path = task.settings.output / f"{task.name}-{number:04}.tar"
            report.shards.append(write_shard(path, (_sample(task, *numbered, decoupler, report) for numbered in part)))
    except BadClip as error:
        report.refused = str(error)
    finally:
        tracker.close()
        if decoupler is not None:
            decoupler.close()
    report.broke_off, report.clips, report.people = reader.left_out, kept.clips, len(kept.people)
    report.frames, report.faces, report.cuts = tally.frames, tally.faces, tally.cuts
    report.left_out = {reason: count for reason, count in tally.left_out.items() if count}
    if not report.refused and not report.clips:
        report.refused = f"{task.video}: {_why_nothing(tally, task.settings)}"
    if kept.rows:
        report.pictures = [_save_rows(task, kept.rows)]
    return report


def _counted(reader: VideoReader, count: Callable[[int], None] | None) -> Iterator[Picture]:
    for picture in reader:
        if count:
            count(1)
        yield picture


@dataclass(slots=True)
class _Kept:
    """What is remembered of clips that were written: little, however long the video."""

    clips: int = 0
    people: set[int] = field(default_factory=set)
    rows: list[Rgb] = field(default_factory=list)

    def all_of(self, clips: Iterator[Clip]) -> Iterator[tuple[int, Clip]]:
        for clip in clips:
            if len(self.rows) < SHOWN_CLIPS:
                self.rows.append(_row(clip))
            self.people.add(clip.person)
            self.clips += 1
            yield self.clips - 1, clip


def _parts(clips: Iterator[tuple[int, Clip]], most: int) -> Iterator[Iterator[tuple[int, Clip]]]:
    """Runs of at most that many clips, none of them empty, none of them held in memory."""
    for first in clips:

        def part(first: tuple[int, Clip] = first) -> Iterator[tuple[int, Clip]]:
            yield first
            for _, following in zip(range(most - 1), clips):
                yield following

        yield part()


def _sample(
    task: Task, number: int, clip: Clip, decoupler: Decoupler | None, report: VideoReport
) -> tuple[str, dict[str, bytes]]:
    """`NNN.jpg` for each frame, `landmarks.npy` float32 [T, 478, 3] on the crop, and `json` with everything else.

    With a decoupler `NNN.twin.jpg` as well, where it could draw all of the clip.
    """
    members = {f"{n:03}.jpg": _jpeg(frame.rgb_HW3) for n, frame in enumerate(clip.frames)}
    landmarks = io.BytesIO()
    np.save(landmarks, np.stack([frame.points_px for frame in clip.frames]), allow_pickle=False)
    person = f"{task.sha256[:12]}-{clip.person}"
    facts: dict[str, object] = {
        "video": task.video.name,
        "video_sha256": task.sha256,
        "consent": task.settings.consent,
        "licence": task.settings.licence,
        "settings": clip_settings(task.settings),
        "person": person,
        "first_frame": clip.frames[0].number,
        "at_s": [round(frame.at_s, 5) for frame in clip.frames],
        "crop_from_frame": [frame.crop_from_frame.tolist() for frame in clip.frames],
        "face_px": [round(frame.face_px, 1) for frame in clip.frames],
        "yaw_deg": [round(frame.yaw_deg, 1) for frame in clip.frames],
        "pitch_deg": [round(frame.pitch_deg, 1) for frame in clip.frames],
        "sharpness": [round(frame.sharpness, 3) for frame in clip.frames],
    }
    if decoupler is not None:
        worn = decoupler.worn_by(person)
        try:
            members |= {f"{n:03}{TWIN}": _jpeg(rgb_HW3) for n, rgb_HW3 in enumerate(decoupler.twin(clip, worn))}
            facts["twin"] = {"identity": worn.name}
            report.twins += 1
        except EngineFault as fault:
            facts["twin"] = {"identity": worn.name, "left_out": str(fault)}
            report.without_twin[str(fault)] = report.without_twin.get(str(fault), 0) + 1
    members |= {"landmarks.npy": landmarks.getvalue(), "json": json.dumps(facts).encode()}
    return f"{task.name}-{number:06}", members


def _jpeg(rgb_HW3: Rgb) -> bytes:
    held = io.BytesIO()
    Image.fromarray(rgb_HW3).save(held, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return held.getvalue()


def _row(clip: Clip) -> Rgb:
    """Thumbnails of a clip, first to last."""
    shown = np.linspace(0, len(clip.frames) - 1, SHOWN_FRAMES).round().astype(int)
    small = [Image.fromarray(clip.frames[n].rgb_HW3).resize((THUMBNAIL_PX, THUMBNAIL_PX)) for n in shown]
    return np.concatenate([np.asarray(picture) for picture in small], axis=1)


def _save_rows(task: Task, rows: list[Rgb]) -> str:
    path = task.settings.output / "pictures" / f"{task.name}.jpg"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows)).save(path, quality=85)
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written: {error}") from error
    return f"{path.parent.name}/{path.name}"


def _why_nothing(tally: Tally, settings: PrepareSettings) -> str:
    if tally.frames < settings.frames:
        return f"too short: {tally.frames} frames, a clip has {settings.frames}"
    if not tally.faces:
        return "no face in it"
    reason = max(tally.left_out, key=lambda one: tally.left_out[one], default="run too short")
    return f"no clip in it: of {tally.faces} faces most were left out as: {reason}"


def hashed(video: Path) -> str:
    """The content's sha256. Raises BadClip where the file cannot be read."""
    try:
        if not video.is_file():
            raise BadClip(f"{video}: no such file")
        return sha256_of(video)
    except OSError as error:
        raise BadClip(f"{video}: cannot be read: {error.strerror or error}") from error
