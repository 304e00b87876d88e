"""Sheets of pictures for looking at: rows are identities, columns are frames; the face enlarged, input beside result.

    python -m benchmarks.contact_sheet --public                     docs/contact-sheet.jpg: only people who do not exist
    python -m benchmarks.contact_sheet --clip clips/asl/asl_eat.mkv --identity t0260 --identity t0280
    python -m benchmarks.contact_sheet --clip clips/single_face.mp4 --zoom 20:6      six frames in a row, large
    python -m benchmarks.contact_sheet --clip clips/single_face.mp4 --video          side by side, as mp4

Without `--public` everything is written to out/, which git ignores: real people's swaps never enter the repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont

from benchmarks.corpus import (
    DATA,
    NOMINAL_FPS,
    RESERVE,
    Enrolled,
    Footage,
    enrol_people,
    even_indices,
    people,
    read_clip,
    read_photo,
)
from benchmarks.likeness import SessionSwapper
from benchmarks.report import PRIVATE, REPOSITORY, read_settings
from engines import SettingError, Status, VividError, load
from engines.face.track import FaceTracker
from engines.types import Box, Rgb

PUBLIC_SHEET = REPOSITORY / "docs" / "contact-sheet.jpg"
# Drivers who do not exist: a smile, an open mouth, a turned head, glasses, dark skin turned and smiling.
PUBLIC_DRIVERS = ("t0086", "t0089", "t0366", "t0112", "t0021")
STILL_STEPS = 6  # frames that a still driver is shown for, so that filters have settled
AROUND_FACE = 1.7  # side of the square shown, in face widths or heights, whichever is larger
GAP_PX, TITLE_PX = 4, 18
PAPER, INK = (24, 26, 30), (226, 230, 236)


@dataclass(frozen=True, slots=True)
class Shot:
    """One column: a frame of a clip, and the square of it that is shown."""

    title: str
    footage: Footage
    index: int
    square: Box


def locate(footage: Footage) -> list[Box | None]:
    """The first face of each frame of a clip, by this project's own tracker."""
    tracker = FaceTracker(max_faces=1, follow="one")
    boxes: list[Box | None] = []
    try:
        state = tracker.init()
        for rgb, captured_s in zip(footage.frames, footage.captured_s, strict=True):
            faces = tracker.step(state, rgb, captured_s).faces
            if not faces:
                boxes.append(None)
                continue
            low, high = faces[0].points_px[:, :2].min(0), faces[0].points_px[:, :2].max(0)
            boxes.append(Box(float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    finally:
        tracker.close()
    return boxes


def square_around(box: Box | None, height_px: int, width_px: int) -> Box:
    """A square around a face; around the middle of the frame where there is none. May reach beyond the frame."""
    if box is None:
        side = float(min(height_px, width_px))
        x, y = width_px / 2, height_px / 2
    else:
        side = AROUND_FACE * max(box.width_px, box.height_px)
        x, y = (box.left_px + box.right_px) / 2, (box.top_px + box.bottom_px) / 2 - 0.05 * side
    return Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def cut_out(rgb_HW3: Rgb, square: Box, side_px: int) -> Rgb:
    """The square, enlarged or shrunk to uint8 [side_px, side_px, 3]; black beyond the frame."""
    edges = (square.left_px, square.top_px, square.right_px, square.bottom_px)
    piece = Image.fromarray(rgb_HW3).crop(tuple(round(edge) for edge in edges))  # type: ignore[arg-type]
    return np.array(piece.resize((side_px, side_px), Image.Resampling.LANCZOS))


def still(name: str, rgb_HW3: Rgb) -> Footage:
    """A picture held before the camera."""
    times_s = tuple(step / NOMINAL_FPS for step in range(STILL_STEPS))
    return Footage(name, (rgb_HW3,) * STILL_STEPS, times_s)


def shots_of_clip(footage: Footage, indices: Sequence[int]) -> list[Shot]:
    """Columns for some frames of one clip."""
    boxes = locate(footage)
    return [
        Shot(f"{footage.name} {index}", footage, index, square_around(boxes[index], *footage.frames[index].shape[:2]))
        for index in indices
    ]


def public_shots(data: Path) -> list[Shot]:
    """Columns of drivers who do not exist."""
    shots = []
    for name in PUBLIC_DRIVERS:
        footage = still(name, read_photo(data / "synth_faces" / f"{name}_schnell.jpg"))
        shots += shots_of_clip(footage, [STILL_STEPS - 1])
    return shots


def results_of(swapper: SessionSwapper, wearer: Enrolled, shots: Sequence[Shot]) -> list[tuple[Rgb, Status]]:
    """The result of each shot, each clip stepped once and whole."""
    found: dict[tuple[str, int], tuple[Rgb, Status]] = {}
    for footage in {shot.footage.name: shot.footage for shot in shots}.values():
        wanted = frozenset(shot.index for shot in shots if shot.footage.name == footage.name)
        for index, rgb, status in swapper.swap(wearer, footage, wanted):
            found[footage.name, index] = rgb, status
    return [found[shot.footage.name, shot.index] for shot in shots]


def _titled(cell: Rgb, title: str) -> Rgb:
    image = Image.new("RGB", (cell.shape[1], cell.shape[0] + TITLE_PX), PAPER)
    image.paste(Image.fromarray(cell), (0, TITLE_PX))
    ImageDraw.Draw(image).text((3, 2), title, font=ImageFont.load_default(12), fill=INK)
    return np.array(image)


def _side_by_side(cells: Sequence[Rgb]) -> Rgb:
    gap = np.full((cells[0].shape[0], GAP_PX, 3), PAPER, np.uint8)
    return np.hstack([part for cell in cells for part in (cell, gap)])


def portrait_of(wearer: Enrolled, side_px: int) -> Rgb:
    """The identity as it is known: the face of its picture."""
    shot = shots_of_clip(still(wearer.person.key, wearer.picture), [STILL_STEPS - 1])[0]
    return cut_out(wearer.picture, shot.square, side_px)


def sheet(swapper: SessionSwapper, wearers: Sequence[Enrolled], shots: Sequence[Shot], side_px: int, title: str) -> Rgb:
    """The whole sheet: a row for each identity; its picture, then input and result of each shot."""
    rows = []
    for wearer in wearers:
        cells = [_titled(portrait_of(wearer, side_px), f"{wearer.person.key}: {wearer.person.label}")]
        for shot, (rgb, status) in zip(shots, results_of(swapper, wearer, shots), strict=True):
            before = cut_out(shot.footage.frames[shot.index], shot.square, side_px)
            pair = np.hstack([before, cut_out(rgb, shot.square, side_px)])
            cells.append(_titled(pair, shot.title + ("" if status == Status.DRAWN else f" ({status})")))
        rows.append(_side_by_side(cells))
    return _titled(np.vstack(rows), title)


def write_video(path: Path, swapper: SessionSwapper, wearer: Enrolled, footage: Footage, side_px: int) -> None:
    """Input and result of every frame beside each other, at one fixed place that holds the face in all of them."""
    squares = [square_around(box, 1, 1) for box in locate(footage) if box is not None]
    height_px, width_px = footage.frames[0].shape[:2]
    square = _holding(squares) if squares else square_around(None, height_px, width_px)
    every = frozenset(range(len(footage.frames)))
    side_px -= side_px % 2
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: VideoStream = container.add_stream("libx264", rate=round(_rate(footage)), options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = 2 * side_px, side_px, "yuv420p"
        for index, rgb, _ in swapper.swap(wearer, footage, every):
            pair = np.hstack([cut_out(picture, square, side_px) for picture in (footage.frames[index], rgb)])
            frame = av.VideoFrame.from_ndarray(pair, format="rgb24")
            frame.pts, frame.time_base = round(footage.captured_s[index] * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _rate(footage: Footage) -> float:
    lasted_s = footage.captured_s[-1]
    return (len(footage.frames) - 1) / lasted_s if lasted_s > 0 else NOMINAL_FPS


def _holding(squares: Sequence[Box]) -> Box:
    left, top = min(box.left_px for box in squares), min(box.top_px for box in squares)
    side = max(max(box.right_px for box in squares) - left, max(box.bottom_px for box in squares) - top)
    return Box(left, top, left + side, top + side)


def choose(keys: Sequence[str], public: bool) -> list[Enrolled]:
    """The people asked for by key, or eight of the mixture. Raises SettingError for an unknown or a real person."""
    known = {person.key: person for person in (*people(20), *RESERVE)}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise SettingError(f"unknown identity {unknown[0]}; valid: {', '.join(known)}")
    wanted = [known[key] for key in keys] or [person for person in people(20) if not (public and person.exists)][:8]
    if public and any(person.exists for person in wanted):
        raise SettingError("a public sheet shows only people who do not exist")
    return enrol_people(wanted)[0]


def _zoomed(text: str, count: int) -> range:
    start, colon, length = text.partition(":")
    if not (start.isdigit() and colon and length.isdigit()):
        raise SettingError(f'"{text}" is not START:COUNT')
    return range(min(int(start), count - 1), min(int(start) + int(length), count))


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--public", is_flag=True, help="people who do not exist, into docs/")
@click.option("--clip", default="clips/single_face.mp4", help="under the data folder")
@click.option("--identity", "identities", multiple=True, help="a person's key; may be repeated")
@click.option("--frames", type=click.IntRange(1), default=4)
@click.option("--zoom", default="", help="START:COUNT, consecutive frames, large")
@click.option("--video", is_flag=True, help="a side by side mp4 for each identity instead of a sheet")
@click.option("--cell", "side_px", type=click.IntRange(32), default=None, help="side of a picture, pixels")
@click.option("--engine", default="proxy")
@click.option("--settings", multiple=True, help="key=value of the swap's settings; may be repeated")
def main(
    data: Path,
    public: bool,
    clip: str,
    identities: tuple[str, ...],
    frames: int,
    zoom: str,
    video: bool,
    side_px: int | None,
    engine: str,
    settings: tuple[str, ...],
) -> None:
    """Renders the sheet or the videos and prints where they are."""
    try:
        wearers = choose(identities, public)
        session = load(read_settings(engine, settings))
        try:
            swapper = SessionSwapper(session)
            if public:
                title = f"{session.engine}: identity, then driver | result. None of these people exist."
                paths = [_save(PUBLIC_SHEET, sheet(swapper, wearers, public_shots(data), side_px or 128, title))]
            elif video:
                paths = private_videos(swapper, wearers, read_clip(data / clip), side_px or 480)
            else:
                footage = read_clip(data / clip)
                count = len(footage.frames)
                indices = _zoomed(zoom, count) if zoom else even_indices(count, frames)
                paths = [private_pictures(swapper, wearers, footage, indices, side_px or (320 if zoom else 192))]
        finally:
            session.close()
    except VividError as error:
        raise click.ClickException(str(error)) from error
    for path in paths:
        click.echo(f"written: {path}")


def private_pictures(
    swapper: SessionSwapper, wearers: Sequence[Enrolled], footage: Footage, indices: Sequence[int], side_px: int
) -> Path:
    """A sheet of some frames of a clip, into out/."""
    title = f"{swapper.session.engine} on {footage.name}: identity, then input | result"
    picture = sheet(swapper, wearers, shots_of_clip(footage, indices), side_px, title)
    return _save(PRIVATE / f"contact-{footage.name}-{indices[0]}.jpg", picture)


def private_videos(swapper: SessionSwapper, wearers: Sequence[Enrolled], footage: Footage, side_px: int) -> list[Path]:
    """A video of the whole clip for each identity, into out/."""
    paths = [PRIVATE / f"{footage.name}-{wearer.person.key}.mp4" for wearer in wearers]
    for path, wearer in zip(paths, wearers, strict=True):
        write_video(path, swapper, wearer, footage, side_px)
    return paths


def _save(path: Path, picture: Rgb) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=88)
    return path


if __name__ == "__main__":
    main()
