"""What an autoencoder loses of a face: detail, colour, identity, and calm; a small one against a large one.

    python -m benchmarks.autoencoder_loss WEIGHTS.safetensors
    python -m benchmarks.autoencoder_loss TINY.safetensors --large FULL.safetensors --write

Faces of real clips and of portraits go through encoder and decoder as in a call: cropped by the tracker, frame by frame
with what the frames before left behind. What comes out is held against what went in, inside the region that a swap
draws, and with `--large` what the small one makes against what the large one makes. `noise` adds to the latents what a
denoiser would be off by, in standard deviations of theirs. docs/benchmarks/README.md says what each figure means.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from benchmarks.corpus import CLIPS, DATA, NOMINAL_FPS, PEOPLE, QUICK_CLIPS, read_clip, read_photo
from benchmarks.report import PRIVATE, REPORTS, machine, mean, table, write_report
from distill.evaluate.judge import Descriptor, Judge, distance, judge_is_available
from distill.evaluate.metrics import LUMA, colour_error, psnr, ssim, temporal_error, tone_shift
from distill.stages.autoencoder import spread_of
from engines.face.align import crop, crop_from_frame, moved
from engines.face.region import face_region
from engines.face.track import FaceTracker
from engines.models.autoencoder import Autoencoder
from engines.models.swapper import Swapper
from engines.types import Box, Rgb
from engines.weights import inspect, load_into

Mask = NDArray[np.bool_]

FRAMES = 8  # of a clip, one after the other
NOISES = (0.0, 0.1, 0.2)
HEAD = ("PSNR", "SSIM", "colour dE", "tone dE", "sharpness", "temporal", "identity")
STILL_FRAMES = 3  # times that a portrait is shown, for its landmarks to settle


@dataclass(frozen=True, slots=True)
class Faces:
    """One face: crops uint8 [T, S, S, 3], and where a swap would be drawn, bool [T, S, S]."""

    name: str
    pictures: Rgb
    masks: Mask


@dataclass(frozen=True, slots=True)
class Loss:
    """Means over all frames. See docs/benchmarks/README.md."""

    psnr: float
    ssim: float
    colour: float
    tone: float
    sharpness: float
    temporal: float
    identity: float


def faces_of(pictures: Sequence[Rgb], name: str, size_px: int, first: int) -> Faces | None:
    """Crops of the frames from number `first` on, by the tracker that calls have; None where it lost the face."""
    crops, masks = [], []
    with closing(FaceTracker(max_faces=1, follow="one")) as tracker:
        state = tracker.init()
        for index, rgb in enumerate(pictures):
            found = tracker.step(state, rgb, index / NOMINAL_FPS).faces
            if index < first:
                continue
            if not found:
                return None
            there = crop_from_frame(found[0].points_px, size_px)
            crops.append(crop(rgb, there, size_px))
            masks.append(face_region(moved(found[0].points_px, there), size_px).mask_SS > 0.5)
    return Faces(name, np.stack(crops), np.stack(masks))


def all_faces(size_px: int, quick: bool, data: Path) -> Iterator[tuple[str, Faces]]:
    """("clip" or "portrait", its face)."""
    for path in QUICK_CLIPS if quick else CLIPS:
        footage = read_clip(data / path, limit=2 * FRAMES)
        faces = faces_of(footage.frames, footage.name, size_px, FRAMES)
        if faces is not None:
            yield "clip", faces
    portraits = [person for person in PEOPLE if person.photo and not person.exists]
    for person in portraits[: 4 if quick else None]:
        photo = read_photo(data / person.photo)
        faces = faces_of([photo] * STILL_FRAMES, person.key, size_px, STILL_FRAMES - 1)
        if faces is not None:
            yield "portrait", faces


@torch.no_grad()
def through(autoencoder: Autoencoder, faces: Faces, noise: Tensor | float = 0.0) -> Rgb:
    """What a stream would show of the crops. noise: on latents, [T, C, h, w]."""
    pictures = torch.from_numpy(faces.pictures).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    made = autoencoder.decode(autoencoder.encode(pictures, causal=True) + noise, causal=True)
    levels = ((made[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())


def noise_of(autoencoder: Autoencoder, faces: Faces, deviation: float, seed: int = 0) -> Tensor:
    frames, size_px = faces.pictures.shape[:2]
    shape = (frames, autoencoder.config.latent_channels, size_px // 8, size_px // 8)
    return deviation * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Looks:
    """The recogniser's view of each face as it went in; without the extra `eval` there is none."""

    def __init__(self, judge: Judge | None) -> None:
        self._judge = judge
        self._known: dict[str, tuple[Box, Descriptor] | None] = {}

    def away(self, faces: Faces, other: Rgb, frame: int) -> float:
        """How far the other picture of that frame is from it, by identity; NaN where no face is seen."""
        if self._judge is None:
            return float("nan")
        key = f"{faces.name} {frame}"
        if key not in self._known:
            box = self._judge.find(faces.pictures[frame])
            self._known[key] = None if box is None else (box, self._judge.describe(faces.pictures[frame], box))
        known = self._known[key]
        return float("nan") if known is None else distance(self._judge.describe(other[frame], known[0]), known[1])


def sharpness(made: Rgb, wanted: Rgb, mask: Mask) -> float:
    """Laplacian energy, made over wanted: under 1 soft."""
    first, second = (np.square(ndimage.laplace(one @ LUMA)[mask]).mean() for one in (made, wanted))
    return float(first / max(second, 1e-6))


def compared(faces: Sequence[Faces], made: Sequence[Rgb], looks: Looks, wanted: Sequence[Rgb] | None = None) -> Loss:
    """What was made against what went in, or against something else that was made of it."""
    rows: list[tuple[float, ...]] = []
    for index, (face, picture) in enumerate(zip(faces, made, strict=True)):
        against = face.pictures if wanted is None else wanted[index]
        for t in range(len(picture)):
            of = picture[t], against[t], face.masks[t]
            before = float("nan")
            if t:
                before = temporal_error(picture[t], picture[t - 1], against[t], against[t - 1], face.masks[t])
            away = looks.away(face, picture, t) if wanted is None and t == len(picture) - 1 else float("nan")
            tone = float(np.linalg.norm(tone_shift(*of)))
            rows.append((psnr(*of), ssim(*of), colour_error(*of), tone, sharpness(*of), before, away))
    columns = np.array(rows).T
    return Loss(*(mean([float(value) for value in column if not np.isnan(value)]) for column in columns))


@dataclass(frozen=True, slots=True)
class Latents:
    """What the denoiser would be given: over all channels, in the deviations that its schedule expects."""

    deviation: float
    least_channel: float
    most_channel: float
    greatest: float


@torch.no_grad()
def latents_of(autoencoder: Autoencoder, faces: Sequence[Faces], spread: float) -> Latents:
    every = []
    for face in faces:
        pictures = torch.from_numpy(face.pictures).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
        every.append(autoencoder.encode(pictures, causal=True)[0])
    flat = torch.cat(every).transpose(0, 1).flatten(1) / spread
    each = flat.std(1)
    return Latents(float(flat.std()), float(each.min()), float(each.max()), float(flat.abs().max()))


@torch.no_grad()
def cost_ms(autoencoder: Autoencoder, size_px: int, runs: int = 5) -> tuple[float, float]:
    """Processor time of one picture in and one out, the least of some, on one thread."""
    picture = torch.zeros(1, 3, size_px, size_px)
    latents = autoencoder.encode(picture)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for times, call, given in zip(taken, (autoencoder.encode, autoencoder.decode), (picture, latents)):
            start = time.process_time()
            call(given)
            times.append(1e3 * (time.process_time() - start))
    return min(taken[0]), min(taken[1])


def loaded(path: Path) -> Swapper:
    """Raises WeightsError."""
    swapper = Swapper(inspect(path).card.config)
    load_into(swapper, path)
    return swapper.eval()


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--large", type=click.Path(path_type=Path), help="A file with the autoencoder to compare with.")
@click.option("--quick", is_flag=True, help="Two clips and four portraits.")
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="The data folder.")
@click.option("--write", is_flag=True, help="Write the report to docs/benchmarks instead of out/.")
def main(weights: Path, large: Path | None, quick: bool, data: Path, write: bool) -> None:
    """Measure what the autoencoder in a file of weights loses."""
    torch.set_num_threads(1)
    swappers = {"it": loaded(weights)} | ({} if large is None else {"large": loaded(large)})
    size_px = swappers["it"].config.size_px
    kinds = list(all_faces(size_px, quick, data))
    losses = {
        f"{kind}, {name}": asdict(loss)
        for kind in ("clip", "portrait")
        for name, loss in losses_of([face for one, face in kinds if one == kind], swappers)
    }
    rest: dict[str, dict[str, float]] = {}
    for name, swapper in swappers.items():
        spread = spread_of(swapper.config.schedule)
        rest[f"{name}, latents"] = asdict(latents_of(swapper.autoencoder, [face for _, face in kinds], spread))
        encode_ms, decode_ms = cost_ms(swapper.autoencoder, size_px)
        rest[f"{name}, processor ms a picture"] = {"encode": encode_ms, "decode": decode_ms}
    figures = {"weights": inspect(weights).sha256, "size_px": size_px, "losses": losses, "rest": rest}
    folder = REPORTS if write else PRIVATE
    path = write_report("autoencoder-loss", report(weights, losses, rest), figures, folder)
    print(path.read_text(encoding="utf-8"))


def losses_of(faces: Sequence[Faces], swappers: Mapping[str, Swapper]) -> Iterator[tuple[str, Loss]]:
    """Each autoencoder against what went in, at every noise; then the first against the second."""
    looks, made = Looks(Judge() if judge_is_available() else None), dict[str, list[Rgb]]()
    for name, swapper in swappers.items():
        for noise in NOISES:
            added = [noise_of(swapper.autoencoder, face, noise * spread_of(swapper.config.schedule)) for face in faces]
            pictures = [through(swapper.autoencoder, face, one) for face, one in zip(faces, added)]
            made.setdefault(name, pictures)
            yield f"{name}, noise {noise:g}", compared(faces, pictures, looks)
    if len(made) > 1:
        first, second = made.values()
        yield "it against large", compared(faces, first, looks, second)


def report(weights: Path, losses: Mapping[str, Mapping[str, float]], rest: Mapping[str, Mapping[str, float]]) -> str:
    about = inspect(weights).card
    others = [
        (name, ", ".join(f"{key.replace('_', ' ')} {of:.2f}" for key, of in one.items())) for name, one in rest.items()
    ]
    return "\n".join(
        [
            "# What an autoencoder loses",
            "",
            f"`{about.config.name}`, {about.recipe}; {about.data}. {machine()}.",
            "",
            table(("", *HEAD), [(name, *values.values()) for name, values in losses.items()]),
            "",
            table(("", "figures"), others),
        ]
    )


if __name__ == "__main__":
    main()
