"""What is measured: swaps, one clip worn by one identity each, whoever made them. A frame at a time, never all of it.

Three origins: an engine that is run now over clips (`by_engine`), the held-out swaps of rendered people (`rendered`),
whose truth is known, and frames on disk that any other program made (`on_disk`; the layout is in docs/evaluation.md).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.errors import BadClip
from distill.evaluate.footage import PICTURES, VIDEOS, Footage, Picture, PictureFolder, footage_at, read_picture
from distill.evaluate.metrics import Mask
from engines import Identity, Rgb, Session, Status

if TYPE_CHECKING:
    from distill.evaluate.held_out import HeldOut
    from distill.people.assets import Assets

ROLLOUT_PASS = 120  # frames of a clip that are kept, and played forth and back, when drift is measured
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a swap.

    result_HW3  what the swapper made of it; None where it drew nothing
    took_ms     how long that took; NaN where nobody knows
    truth_HW3   what it should be; None where nobody knows
    inside_HW   where the truth shows the face itself
    """

    driver_HW3: Rgb
    result_HW3: Rgb | None
    at_s: float
    took_ms: float = math.nan
    truth_HW3: Rgb | None = None
    inside_HW: Mask | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """One clip worn by one identity.

    name      of its own, and the name of a file that is kept of it
    clip      what the driver's frames were cut from: frames of one clip are no independent samples
    identity  whose face is worn; the same in all swaps of one person
    photos    what is known of that person; the judges look at every one
    key       everything that the frames depend on; a kept reading with another key is worth nothing
    rollout   the same swap played on and on, for that many seconds, for drift; None where it cannot be
    synthetic whether neither driver nor identity exists
    """

    name: str
    clip: str
    identity: str
    photos: Callable[[], tuple[Rgb, ...]] = field(repr=False)
    key: Key
    frames: Callable[[], Iterator[Frame]] = field(repr=False)
    rollout: Callable[[float], Iterator[Frame]] | None = field(default=None, repr=False)
    synthetic: bool = False


def by_engine(session: Session, made_by: Key, clips: Sequence[Footage], identities: Sequence[Identity]) -> list[Swap]:
    """Every clip worn by every identity. made_by: what tells this engine, with its settings and files, from others."""
    return [
        Swap(
            name=f"{clip.name}-{identity.name}",
            clip=clip.name,
            identity=identity.name,
            photos=_portrait(identity),
            key=(*made_by, clip.sha256, identity_sha256(identity)),
            frames=_stepped(session, identity, clip),
            rollout=_rolled(session, identity, clip),
            synthetic=False,
        )
        for clip in clips
        for identity in identities
    ]


def _portrait(identity: Identity) -> Callable[[], tuple[Rgb, ...]]:
    return lambda: (identity.portrait_PP3,)


def identity_sha256(identity: Identity) -> str:
    digest = hashlib.sha256()
    for part in (identity.albedo_AA3, identity.shape_S3, identity.iris_rgb, identity.portrait_PP3):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _stepped(session: Session, identity: Identity, clip: Footage) -> Callable[[], Iterator[Frame]]:
    def frames() -> Iterator[Frame]:
        return steps(session, identity, iter(clip))

    return frames


def steps(session: Session, identity: Identity, pictures: Iterator[Picture]) -> Iterator[Frame]:
    """An engine's results, with a fresh state."""
    session.set_identity(identity)
    state = session.init()
    for picture in pictures:
        start_ns = time.perf_counter_ns()
        result = session.step(state, picture.rgb_HW3, picture.at_s)
        took_ms = (time.perf_counter_ns() - start_ns) / 1e6
        drawn = result.rgb_HW3 if result.status == Status.DRAWN else None
        yield Frame(picture.rgb_HW3, drawn, picture.at_s, took_ms)


def _rolled(session: Session, identity: Identity, clip: Footage) -> Callable[[float], Iterator[Frame]]:
    def frames(seconds: float) -> Iterator[Frame]:
        return steps(session, identity, forth_and_back(clip, seconds))

    return frames


def forth_and_back(clip: Footage, seconds: float) -> Iterator[Picture]:
    """The clip's first frames, played to and fro without a cut for that long, on a clock that goes on."""
    kept: list[Picture] = []
    for picture in clip:
        kept.append(picture)
        if len(kept) == ROLLOUT_PASS:
            break
    if len(kept) < 2:
        return
    step_s = (kept[-1].at_s - kept[0].at_s) / (len(kept) - 1)
    way = [*range(len(kept)), *range(len(kept) - 2, 0, -1)]
    for i in range(int(seconds / step_s) + 1):
        yield Picture(kept[way[i % len(way)]].rgb_HW3, i * step_s)


def on_disk(folder: Path, say: Callable[[str], None]) -> tuple[list[Swap], list[str]]:
    """Swaps that another program made, and a line for each that cannot be used.

    FOLDER/NAME/driver/      pictures, or driver.mp4    what the swapper was shown
    FOLDER/NAME/result/      pictures, or result.mp4    what it made of it
    FOLDER/NAME/source.jpg   or source/ with photos     whose face it was to wear
    FOLDER/NAME/truth/       pictures, or truth.mp4     optional: what it should be
    FOLDER/NAME/identity.txt                            optional: the person's name, where photos differ
    FOLDER/NAME/clip.txt                                optional: the clip's name, where several wear one clip
    """
    if not folder.is_dir():
        raise BadClip(f"{folder}: no such folder")
    swaps: list[Swap] = []
    refused: list[str] = []
    places = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    for place in places:
        try:
            swaps.append(_on_disk(place))
        except BadClip as error:
            refused.append(str(error))
            say(f"left out: {error}")
    if not places:
        raise BadClip(f"{folder}: no folders in it; each is one swap, see docs/evaluation.md")
    return swaps, refused


def _on_disk(place: Path) -> Swap:
    driver, result = _part(place, "driver"), _part(place, "result")
    truth = _part(place, "truth") if _candidates(place, "truth") else None
    _same_numbers(driver, result)
    photos = photos_in(place, "source")
    shown = hashlib.sha256(b"".join(photo.tobytes() for photo in photos)).hexdigest()
    identity = _text(place / "identity.txt") or f"source {shown[:12]}"
    clip = _text(place / "clip.txt") or f"driver {driver.sha256[:12]}"
    key = ("on disk", driver.sha256, result.sha256, shown, truth.sha256 if truth else "")

    def frames() -> Iterator[Frame]:
        return side_by_side(place.name, driver, result, truth)

    return Swap(place.name, clip, identity, lambda: photos, key, frames)


def side_by_side(name: str, driver: Footage, result: Footage, truth: Footage | None) -> Iterator[Frame]:
    """Frames of the same number together. Raises BadClip where sizes or lengths differ."""
    results, truths = iter(result), iter(truth) if truth is not None else None
    for i, picture in enumerate(driver):
        made = next(results, None)
        true = None if truths is None else next(truths, None)
        if made is None or (truths is not None and true is None):
            raise BadClip(f"{name}: driver has more frames than {'result' if made is None else 'truth'}, which has {i}")
        for what, other in (("result", made), ("truth", true)):
            if other is not None and other.rgb_HW3.shape != picture.rgb_HW3.shape:
                sizes = "x".join(map(str, other.rgb_HW3.shape[1::-1])), "x".join(map(str, picture.rgb_HW3.shape[1::-1]))
                raise BadClip(f"{name}: {what} is {sizes[0]}, driver {sizes[1]} (frame {i}): give both as one saw them")
        yield Frame(picture.rgb_HW3, made.rgb_HW3, picture.at_s, truth_HW3=None if true is None else true.rgb_HW3)
    if next(results, None) is not None:
        raise BadClip(f"{name}: result has more frames than driver")


def _same_numbers(driver: Footage, result: Footage) -> None:
    """Pictures are paired by the numbers in their names, and have to have the same."""
    if not isinstance(driver, PictureFolder) or not isinstance(result, PictureFolder):
        return
    apart = set(driver.numbers) ^ set(result.numbers)
    if apart:
        only = ", ".join(map(str, sorted(number for number in apart if number is not None)[:5])) or "without a number"
        raise BadClip(f"{driver.folder.parent}: driver and result have other frames: {only}")


def _candidates(place: Path, part: str) -> list[Path]:
    files = [one for one in place.glob(f"{part}.*") if one.suffix.lower() in VIDEOS]
    return [place / part] if (place / part).is_dir() else files


def _part(place: Path, part: str) -> Footage:
    found = _candidates(place, part)
    if len(found) != 1:
        raise BadClip(f"{place}: {'no' if not found else 'more than one'} {part}/ or {part}.mp4 in it")
    return footage_at(found[0])


def photos_in(place: Path, part: str) -> tuple[Rgb, ...]:
    """Photos of one person: `part` with a picture's ending, or a folder of that name. Raises BadClip."""
    folder = place / part
    files = sorted(folder.iterdir()) if folder.is_dir() else sorted(place.glob(f"{part}.*"))
    photos = tuple(read_picture(one) for one in files if one.suffix.lower() in PICTURES)
    if not photos:
        raise BadClip(f"{place}: no {part}.jpg or {part}/ with photos in it")
    return photos


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def rendered(session: Session, made_by: Key, data: Path, quick: bool) -> list[Swap]:
    """The held-out swaps of people who do not exist, with their truth. Nothing is rendered before it is asked for.

    Raises DataMissing where the data that people are made of is not there.
    """
    from distill.evaluate.held_out import digest, held_out
    from distill.people.assets import load_assets

    assets = load_assets(data)
    return [_rendered(session, assets, swap, (*made_by, digest([swap]))) for swap in held_out(quick)]


def _rendered(session: Session, assets: Assets, swap: HeldOut, key: Key) -> Swap:
    from distill.evaluate.true_swap import enrol
    from distill.evaluate.true_swap_clip import SOURCE_PX, inside_face, render_clip, render_swap

    name = f"rendered-{swap.number:02}"

    def photos() -> tuple[Rgb, ...]:
        return render_clip(assets, swap.triplet.sources, SOURCE_PX).rgb

    def frames() -> Iterator[Frame]:
        made = render_swap(assets, swap)
        identity = enrol(made.photos, swap.number)
        if identity is None:
            raise BadClip(f"{name}: enrolment took none of the identity's photos")
        pictures = (Picture(rgb, i / swap.triplet.fps) for i, rgb in enumerate(made.driver.rgb))
        for i, frame in enumerate(steps(session, identity, pictures)):
            yield replace(frame, truth_HW3=made.truth.rgb[i], inside_HW=inside_face(made.truth, i))

    return Swap(name, name, name, photos, key, frames, synthetic=True)
