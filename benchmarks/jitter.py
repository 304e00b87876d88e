"""How still the landmarks are on a still face, and how far they lag on a moving one.

    python -m benchmarks.jitter                  prints, and writes to out/
    python -m benchmarks.jitter --write          writes to docs/benchmarks

Still faces are photos with fresh sensor noise, shifts of a fraction of a pixel and JPEG compression in every frame, and
the stillest second of real clips. Compared are the tracker's landmarks and those of the same landmark net followed
without a filter, each frame's square from the frame before, as MediaPipe does it. Lag is the delay by which the
unfiltered landmarks have to be shifted to fit the filtered ones best, over the half of the frames with most motion.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image
from scipy.ndimage import shift as shift_image

from benchmarks.corpus import DATA, Footage, read_clip, read_photo
from benchmarks.report import PRIVATE, REPORTS, machine, mean, table, write_report
from engines import VividError
from engines.face import regions
from engines.face.detect import FaceDetector
from engines.face.landmarks import FaceMesh, square_of_detection, square_of_points
from engines.face.mediapipe_graph import image_packet
from engines.face.track import FaceTracker
from engines.types import Floats, Rgb

PHOTOS = (
    "photos/single_face.jpg",
    "photos/astronaut.png",
    "synth_faces/t0015_schnell.jpg",
    "synth_faces/t0241_schnell.jpg",
)
FACE_WIDTHS_PX = (80, 160)  # as the detector measures: across a room, and before a laptop
STILL_FRAMES = 90
SETTLE_FRAMES = 15
FPS = 30.0
SHIFT_PX, SENSOR_NOISE, JPEG_QUALITY = 0.15, 3.0, (70, 90)

STILL_CLIPS = ("clips/single_face.mp4", "clips/asl/asl_please.mkv", "clips/asl/asl_milk.mkv", "clips/asl/asl_eat.mkv")
STILL_WINDOW = 20
MOVING_CLIPS = ("clips/head-pose-face-detection-male.gif", "clips/single_face.mp4", "clips/asl/asl_no.mkv")

PARTS = {
    "all": np.arange(478),
    "skin": regions.SKIN,
    "eyelids": np.concatenate((regions.RIGHT_LIDS, regions.LEFT_LIDS)),
    "brows": np.concatenate((regions.RIGHT_BROW, regions.LEFT_BROW)),
    "irises": np.concatenate((regions.RIGHT_IRIS, regions.LEFT_IRIS)),
    "mouth": regions.MOUTH,
}
# Opening of an eye or the mouth: upper point, lower point, and two corners to measure it by.
OPENINGS = {"right eye": (159, 145, 33, 133), "left eye": (386, 374, 263, 362), "mouth": (13, 14, 61, 291)}
LEAST_OPENING = 0.1  # a change of the opening, in widths, that counts as a blink or a word


@dataclass(frozen=True, slots=True)
class Paths:
    """Landmarks of one clip over time, float32 [T, 478, 2]: without and with the filter."""

    name: str
    raw_TN2: Floats
    filtered_TN2: Floats


def follow(footage: Footage) -> Paths:
    """Tracks a clip both ways. Raises VividError where no face is found in its first frame."""
    tracker = FaceTracker(max_faces=1, follow="one")
    try:
        state = tracker.init()
        filtered: list[Floats] = []
        for rgb, captured_s in zip(footage.frames, footage.captured_s, strict=True):
            faces = tracker.step(state, rgb, captured_s).faces
            if not faces:
                raise VividError(f"{footage.name}: the face is lost at {captured_s:.2f} s")
            filtered.append(faces[0].points_px[:, :2])
    finally:
        tracker.close()
    return Paths(footage.name, np.array(unfiltered(footage)), np.array(filtered))


def unfiltered(footage: Footage) -> list[Floats]:
    """The landmark net alone, fed with its own answer of the frame before."""
    detector, mesh = FaceDetector(), FaceMesh()
    try:
        height, width = footage.frames[0].shape[:2]
        first = image_packet(footage.frames[0])
        detector.feed(first, both=True)
        found = detector.collect(height, width)
        if not found:
            raise VividError(f"{footage.name}: no face in the first frame")
        square = square_of_detection(max(found, key=lambda one: one.box_px.width_px))
        points, _ = mesh.find(first, square, height, width)
        out: list[Floats] = []
        for rgb in footage.frames:
            points, _ = mesh.find(image_packet(rgb), square_of_points(points), height, width)
            out.append(points[:, :2])
        return out
    finally:
        detector.close()
        mesh.close()


def still_footage(photo: Rgb, name: str, face_width_px: int, frames: int = STILL_FRAMES) -> Footage:
    """A 640x480 clip of a photo that only the camera disturbs: noise, tremor, compression."""
    random = np.random.default_rng(face_width_px)
    scene = _framed(photo, face_width_px).astype(np.float32)
    pictures: list[Rgb] = []
    for _ in range(frames):
        down, right = random.normal(0, SHIFT_PX, 2)
        moved = shift_image(scene, (down, right, 0), order=1, mode="nearest")
        noise = random.normal(0, SENSOR_NOISE, moved.shape) * np.sqrt(np.maximum(moved, 8) / 128)
        stored = io.BytesIO()
        quality = int(random.integers(*JPEG_QUALITY))
        Image.fromarray(np.clip(moved + noise, 0, 255).astype(np.uint8)).save(stored, "JPEG", quality=quality)
        pictures.append(np.array(Image.open(stored)))
    return Footage(f"{name}, face {face_width_px} px", tuple(pictures), tuple(i / FPS for i in range(frames)))


def _framed(photo: Rgb, face_width_px: int) -> Rgb:
    detector = FaceDetector()
    try:
        detector.feed(image_packet(photo), both=True)
        found = detector.collect(*photo.shape[:2])
    finally:
        detector.close()
    if not found:
        raise VividError("no face in the photo")
    box = found[0].box_px
    scale = face_width_px / box.width_px
    small = Image.fromarray(photo).resize(
        (int(photo.shape[1] * scale), int(photo.shape[0] * scale)), Image.Resampling.LANCZOS
    )
    scene = Image.new("RGB", (640, 480), (96, 104, 110))
    middle = (box.left_px + box.right_px) / 2 * scale, (box.top_px + box.bottom_px) / 2 * scale
    scene.paste(small, (int(320 - middle[0]), int(240 - middle[1])))
    return np.array(scene)


def noise_px(points_TN2: Floats) -> float:
    """Standard deviation over time of a landmark that should stand still, root mean square over landmarks."""
    return float(np.sqrt(points_TN2[SETTLE_FRAMES:].var(axis=0).sum(axis=-1).mean()))


def shake_px(points_TN2: Floats) -> float:
    """Noise of landmarks that may move steadily and with the head: the second difference over time of what is left
    when every frame is laid onto the mean face by a similarity, by what that makes of white noise."""
    points_TN2 = _laid_on_mean(points_TN2)
    bend = points_TN2[2:] - 2 * points_TN2[1:-1] + points_TN2[:-2]
    return float(np.sqrt((bend**2).sum(axis=-1).mean() / 6))


def _laid_on_mean(points_TN2: Floats) -> Floats:
    middle = points_TN2.mean(axis=1, keepdims=True)
    points = (points_TN2 - middle)[..., 0] + 1j * (points_TN2 - middle)[..., 1]
    face = points.mean(axis=0)
    turned = points * ((points.conj() * face).sum(axis=1) / (abs(points) ** 2).sum(axis=1))[:, None]
    laid: Floats = np.stack((turned.real, turned.imag), axis=-1).astype(np.float32)
    return laid


def stillest(points_TN2: Floats, window: int = STILL_WINDOW) -> slice:
    """The stretch of a clip in which the face moves least."""
    middle = points_TN2.mean(axis=1)
    first = SETTLE_FRAMES if len(middle) > window + SETTLE_FRAMES else 0
    spread = [middle[at : at + window].std(axis=0).sum() for at in range(first, len(middle) - window + 1)]
    at = first + int(np.argmin(spread))
    return slice(at, at + window)


def lag_frames(raw_TN2: Floats, filtered_TN2: Floats, most: float = 3.0) -> float:
    """By how many frames the filtered landmarks come late, in the half of the frames with most motion."""
    count = len(raw_TN2)
    speed = np.zeros(count)
    speed[1:-1] = np.sqrt(((raw_TN2[2:] - raw_TN2[:-2]) ** 2).sum(axis=-1).mean(axis=-1))
    moving = speed > np.median(speed)
    moving[:5] = False
    best = (np.inf, 0.0)
    for delay in np.arange(0.0, most, 0.05):
        at = np.arange(count) - delay
        low = np.clip(np.floor(at).astype(int), 0, count - 2)
        share = (at - low)[:, None, None]
        late = raw_TN2[low] * (1 - share) + raw_TN2[low + 1] * share
        error = float(np.sqrt(((late - filtered_TN2) ** 2).sum(axis=-1))[moving].mean())
        best = min(best, (error, float(delay)))
    return best[1]


def openings(points_TN2: Floats) -> dict[str, Floats]:
    """How far eyes and mouth are open over time, in widths of their own."""
    out: dict[str, Floats] = {}
    for name, (top, bottom, left, right) in OPENINGS.items():
        height = np.linalg.norm(points_TN2[:, bottom] - points_TN2[:, top], axis=-1)
        out[name] = height / np.linalg.norm(points_TN2[:, right] - points_TN2[:, left], axis=-1)
    return out


def kept_of_openings(paths: Paths) -> list[tuple[str, float, float]]:
    """For every eye and mouth that moves: how much of its range is left, and its lag in frames."""
    raw, filtered = openings(paths.raw_TN2), openings(paths.filtered_TN2)
    rows: list[tuple[str, float, float]] = []
    for name, values in raw.items():
        if np.ptp(values) >= LEAST_OPENING:
            late = lag_frames(values[:, None, None], filtered[name][:, None, None])
            rows.append((f"{paths.name}, {name}", float(np.ptp(filtered[name]) / np.ptp(values)), late))
    return rows


def still_rows(data: Path, photos: Sequence[str] = PHOTOS) -> list[tuple[str, float, float, float]]:
    """Name, noise without and with the filter, and their ratio, for every still face."""
    rows: list[tuple[str, float, float, float]] = []
    for photo in photos:
        for width in FACE_WIDTHS_PX:
            paths = follow(still_footage(read_photo(data / photo), Path(photo).stem, width))
            before, after = noise_px(paths.raw_TN2), noise_px(paths.filtered_TN2)
            rows.append((paths.name, before, after, after / before))
    for clip in STILL_CLIPS:
        paths = follow(read_clip(data / clip))
        still = stillest(paths.raw_TN2)
        before, after = shake_px(paths.raw_TN2[still]), shake_px(paths.filtered_TN2[still])
        rows.append((f"{paths.name}, stillest {STILL_WINDOW} frames", before, after, after / before))
    return rows


def lag_rows(moving: Sequence[Paths]) -> list[tuple[object, ...]]:
    """For every moving clip the lag in frames of all landmarks and of each part of the face."""
    return [
        (paths.name, *(lag_frames(paths.raw_TN2[:, part], paths.filtered_TN2[:, part]) for part in PARTS.values()))
        for paths in moving
    ]


def report(data: Path) -> tuple[str, dict[str, object]]:
    """Measures everything; a markdown text and the same figures for comparison by program."""
    still = still_rows(data)
    moving = [follow(read_clip(data / clip)) for clip in MOVING_CLIPS]
    lag = lag_rows(moving)
    kept = [row for paths in moving for row in kept_of_openings(paths)]
    overall = mean([row[3] for row in still if "stillest" not in row[0]])
    text = "\n\n".join(
        [
            "# Jitter and lag of the landmarks",
            machine(),
            f"Noise with the filter is {overall:.3f} of that without it (mean over still photos; wanted: at most 1/3).",
            table(("still face", "unfiltered px", "filtered px", "ratio"), still),
            "Photos: standard deviation over time. Clips: second difference over time after the head's own motion "
            "(place, size, turn in the picture) is taken off, since nobody holds quite still.",
            table(("moving face, lag in frames", *PARTS), lag),
            table(("eyes and mouths that move", "range kept", "lag in frames"), kept),
        ]
    )
    figures = {
        "noise_ratio": overall,
        "still": {row[0]: row[3] for row in still},
        "lag_frames": {str(row[0]): row[1] for row in lag},
        "opening_kept": {row[0]: row[1] for row in kept},
    }
    return text, figures


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(data: Path, write: bool) -> None:
    """Runs the benchmark and prints its report."""
    try:
        text, figures = report(data)
    except VividError as error:
        raise click.ClickException(str(error)) from error
    click.echo(text)
    click.echo(f"written: {write_report('jitter', text, figures, REPORTS if write else PRIVATE)}")


if __name__ == "__main__":
    main()
