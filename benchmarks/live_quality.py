"""Does the swapped face do what the driver's does, is it known among strangers, and does it flicker?

    python -m benchmarks.live_quality                   tiny against proxy, twenty people on six real clips
    python -m benchmarks.live_quality --quick           five people on two clips, sixty strangers
    python -m benchmarks.live_quality --engine NAME --against passthrough --write
    python -m benchmarks.live_quality --rendered        on rendered people, the true swap beside the engines

Each session is stepped through every frame of every clip. Of the sampled frames the input's face is read once and
the result's face at the same place: blendshapes and head pose by MediaPipe's own networks (distill.evaluate.faces),
identity by the judge of benchmarks.likeness, among portraits of people who do not exist. Flicker is what is left of a
frame after the one before is laid over it along the *input's* flow, over the same of the input itself
(distill.evaluate.temporal), the mark in the picture included; light is the part of it that is coarse.

What these instruments say of a perfect swap is not zero: another face is read otherwise. `--rendered` tells, on the
held-out swaps of `vividstream eval true-swap`: the engine called "truth" shows the true pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import (
    CLIPS,
    DATA,
    QUICK_CLIPS,
    TONES,
    Enrolled,
    Footage,
    Person,
    enrol_people,
    even_indices,
    people,
    read_clip,
    read_photo,
)  # fmt: skip
from benchmarks.likeness import SessionSwapper, Sighting, Swapper, sight
from benchmarks.report import PRIVATE, REPORTS, machine, mean, median, read_settings, table, write_report
from benchmarks.wanted import HEAD as WANTED_HEAD
from benchmarks.wanted import Line
from distill.evaluate.faces import Face, FaceReader, expression_error, pose_error
from distill.evaluate.judge import Descriptor, Judge, distance
from distill.evaluate.metrics import Mask
from distill.evaluate.swap_run import TASK
from distill.evaluate.temporal import CROP_PX, UNKNOWN, Motion, motion, path
from distill.evaluate.temporal import Path as Way
from engines import Session, Status, VividError, load
from engines.face.align import crop, crop_from_frame, moved
from engines.face.landmarks import square_of_points
from engines.face.region import face_region
from engines.face.track import FaceTracker
from engines.types import Floats, Rgb

PORTRAITS = "synth_faces"
QUICK_STRANGERS = 60
TRUTH = "truth"
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Look:
    """One sampled input frame: what is known of the driver there, and of the way from the frame before."""

    sighting: Sighting
    face: Face
    now: Place
    before: Place
    way: Way
    own: Motion  # of the input itself


@dataclass(frozen=True, slots=True)
class Place:
    """Where the driver's face is in a frame, and the crop of it in which movement is measured."""

    points_px: Floats
    there: Floats
    crop_SS3: Rgb
    inside_SS: Mask


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled result. NaN where nothing was drawn, or nothing could be read."""

    engine: str
    person: str
    tone: str
    clip: str
    index: int
    drawn: bool
    to_identity: float = NAN
    to_driver: float = NAN
    rank: float = NAN  # 1: nobody of the gallery is as near as the right one
    expression: float = NAN  # distance of 51 blendshapes from the driver's
    movement: float = NAN  # the same, each face's own mean over the clip's samples taken away
    pose: float = NAN  # degrees
    warp: float = NAN  # levels
    own_warp: float = NAN
    light: float = NAN
    own_light: float = NAN


def place_of(rgb_HW3: Rgb, points_px: Floats) -> Place:
    there = crop_from_frame(points_px, CROP_PX)
    inside = face_region(moved(points_px, there), CROP_PX).mask_SS >= 0.5
    return Place(points_px, there, crop(rgb_HW3, there, CROP_PX), inside)


def tracked(footage: Footage, wanted: frozenset[int]) -> dict[int, Place]:
    """Where the driver is in the wanted frames; those without a face are left out."""
    tracker = FaceTracker(max_faces=1, follow="one")
    state, found = tracker.init(), dict[int, Place]()
    try:
        for index, (rgb, captured_s) in enumerate(zip(footage.frames, footage.captured_s)):
            faces = tracker.step(state, rgb, captured_s).faces
            if faces and index in wanted:
                found[index] = place_of(rgb, faces[0].raw_px)
    finally:
        tracker.close()
    return found


def looks_of(judge: Judge, reader: FaceReader, footage: Footage, frames: int) -> list[Look]:
    """The driver's part of a clip, which is read once for all engines and people. The first frame is never sampled."""
    indices = sorted({max(index, 1) for index in even_indices(len(footage.frames), frames)})
    places = tracked(footage, frozenset(chain(indices, (index - 1 for index in indices))))
    found = []
    for sighting in sight(judge, footage, indices):
        now, before = places.get(sighting.index), places.get(sighting.index - 1)
        if now is None or before is None:
            continue
        face = reader.read(footage.frames[sighting.index], square_of_points(now.points_px))
        if face is not None:
            way = path(now.crop_SS3, before.crop_SS3)
            own = motion(now.crop_SS3, before.crop_SS3, way, now.inside_SS & before.inside_SS)
            found.append(Look(sighting, face, now, before, way, own))
    return found


def sampled(
    engine: str, swapper: Swapper, judge: Judge, reader: FaceReader, wearer: Enrolled,
    gallery: Mapping[str, Descriptor], footage: Footage, looks: Sequence[Look],
) -> list[Sample]:  # fmt: skip
    """One person worn by one clip's driver, drawn by one engine."""
    by_index = {look.sighting.index: look for look in looks}
    wanted = frozenset(chain(by_index, (index - 1 for index in by_index)))
    samples: list[Sample] = []
    shapes: list[tuple[Floats, Floats] | None] = []
    before: tuple[int, Rgb, Status] | None = None
    for result in swapper.swap(wearer, footage, wanted):
        index, rgb, status = result
        look = by_index.get(index)
        if look is not None:
            face = reader.read(rgb, square_of_points(look.now.points_px)) if status == Status.DRAWN else None
            moves = _motion(look, rgb, before) if status == Status.DRAWN else UNKNOWN
            samples.append(_sample(engine, wearer, footage.name, look, rgb, status, judge, face, moves, gallery))
            shapes.append(_shapes(look.face, face))
        before = result
    return _with_movement(samples, shapes)


def _shapes(driver: Face, result: Face | None) -> tuple[Floats, Floats] | None:
    if result is None or driver.shapes is None or result.shapes is None:
        return None
    return driver.shapes, result.shapes


def _motion(look: Look, rgb_HW3: Rgb, before: tuple[int, Rgb, Status] | None) -> Motion:
    if before is None or before[0] != look.sighting.index - 1 or before[2] != Status.DRAWN:
        return UNKNOWN
    crops = crop(rgb_HW3, look.now.there, CROP_PX), crop(before[1], look.before.there, CROP_PX)
    return motion(*crops, look.way, look.now.inside_SS & look.before.inside_SS)


def _sample(
    engine: str, wearer: Enrolled, clip: str, look: Look, rgb_HW3: Rgb, status: Status, judge: Judge,
    face: Face | None, moves: Motion, gallery: Mapping[str, Descriptor],
) -> Sample:  # fmt: skip
    person, index = wearer.person, look.sighting.index
    if status != Status.DRAWN:
        return Sample(engine, person.key, person.tone, clip, index, False)
    seen = judge.describe(rgb_HW3, look.sighting.box)
    return Sample(
        engine, person.key, person.tone, clip, index, True,
        to_identity=distance(gallery[person.key], seen),
        to_driver=distance(look.sighting.descriptor, seen),
        rank=rank(seen, gallery, person.key),
        expression=NAN if face is None else expression_error(look.face, face),
        pose=NAN if face is None else pose_error(look.face, face),
        warp=moves.warp, own_warp=look.own.warp, light=moves.patches, own_light=look.own.patches,
    )  # fmt: skip


def rank(seen: Descriptor, gallery: Mapping[str, Descriptor], own: str) -> float:
    """How many of the gallery are at least as near as the right one, that one included: 1 is found first."""
    right = distance(gallery[own], seen)
    return float(1 + sum(distance(other, seen) <= right for name, other in gallery.items() if name != own))


def _with_movement(samples: Sequence[Sample], shapes: Sequence[tuple[Floats, Floats] | None]) -> list[Sample]:
    """With what blendshapes differ by when each face's own mean, which is its form, is taken away."""
    known = [place for place, both in enumerate(shapes) if both is not None]
    errors = iter(movement_errors(np.array([shapes[place] for place in known], np.float64)))
    return [replace(one, movement=next(errors) if place in known else NAN) for place, one in enumerate(samples)]


def movement_errors(shapes_L2B: NDArray[np.float64]) -> list[float]:
    """Of blendshapes [L, driver and result, 52]; NaN for fewer than two looks, whose mean says nothing."""
    if len(shapes_L2B) < 2:
        return [NAN] * len(shapes_L2B)
    moved_L2B = (shapes_L2B - shapes_L2B.mean(axis=0))[:, :, 1:]
    return [float(error) for error in np.linalg.norm(moved_L2B[:, 1] - moved_L2B[:, 0], axis=1)]


def gallery_of(
    judge: Judge, wearers: Sequence[Enrolled], data: Path, strangers: int | None
) -> tuple[dict[str, Descriptor], int]:
    """Everybody among whom the right one is to be found, by key; and in how many portraits the judge saw nobody.

    strangers: at most so many portraits of people whom nobody wears; None for all.
    """
    worn = {wearer.person.key: judge.describe_photo(wearer.picture) for wearer in wearers}
    portraits = [file for file in sorted((data / PORTRAITS).glob("*.jpg")) if file.stem.split("_")[0] not in worn]
    others = {file.stem.split("_")[0]: judge.describe_photo(read_photo(file)) for file in portraits[:strangers]}
    found = {key: descriptor for key, descriptor in (worn | others).items() if descriptor is not None}
    return found, len(worn) + len(others) - len(found)


def measure(
    sessions: Mapping[str, Session], wearers: Sequence[Enrolled], gallery: Mapping[str, Descriptor], judge: Judge,
    reader: FaceReader, clips: Sequence[Path], frames: int, say: Callable[[str], None],
) -> Iterator[Sample]:  # fmt: skip
    """All engines on all clips with all people of the gallery, engines in turns."""
    for clip in clips:
        footage = read_clip(clip)
        looks = looks_of(judge, reader, footage, frames)
        for number, wearer in enumerate(one for one in wearers if one.person.key in gallery):
            names = list(sessions)[:: 1 if number % 2 == 0 else -1]
            for name in names:
                swapper = SessionSwapper(sessions[name])
                yield from sampled(name, swapper, judge, reader, wearer, gallery, footage, looks)
        say(f"{footage.name}: {len(looks)} looks a person")


@dataclass(frozen=True, slots=True)
class TruthSwapper:
    """Shows what a perfect swap would be."""

    pictures: Sequence[Rgb]

    def swap(self, wearer: Enrolled, footage: Footage, wanted: frozenset[int]) -> Iterator[tuple[int, Rgb, Status]]:
        """See benchmarks.likeness.Swapper."""
        for index in sorted(wanted):
            yield index, self.pictures[index], Status.DRAWN


def measure_rendered(
    sessions: Mapping[str, Session], strangers: Mapping[str, Descriptor], judge: Judge, reader: FaceReader,
    data: Path, quick: bool, frames: int, say: Callable[[str], None],
) -> Iterator[Sample]:  # fmt: skip
    """All engines, and the truth, on the held-out swaps of people who do not exist. Needs the extra `train`."""
    from distill.evaluate.held_out import held_out
    from distill.evaluate.true_swap import enrol
    from distill.evaluate.true_swap_clip import render_swap
    from distill.people.assets import load_assets

    assets = load_assets(data)
    for swap in held_out(quick):
        made = render_swap(assets, swap)
        identity = enrol(made.photos, swap.number)
        known = judge.describe_photo(made.photos[0])
        if identity is None or known is None:
            say(f"rendered {swap.number}: left out")
            continue
        person = Person(f"rendered {swap.number}", "rendered", "medium")
        wearer, gallery = Enrolled(person, made.photos[0], identity), {**strangers, person.key: known}
        times_s = tuple(index / swap.triplet.fps for index in range(len(made.driver.rgb)))
        footage = Footage(person.key, tuple(made.driver.rgb), times_s)
        looks = looks_of(judge, reader, footage, frames)
        swappers: dict[str, Swapper] = {name: SessionSwapper(session) for name, session in sessions.items()}
        for name, swapper in {**swappers, TRUTH: TruthSwapper(tuple(made.truth.rgb))}.items():
            yield from sampled(name, swapper, judge, reader, wearer, gallery, footage, looks)
        say(f"{footage.name}: {len(looks)} looks")


# ---- figures ----------------------------------------------------------------------------------------------------

HEAD = (
    "to identity", "to driver", "found first", "expression", "movement", "pose deg", "flicker", "light", "drawn",
)  # fmt: skip


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """The figures of some samples of one engine together, in the order of HEAD."""
    drawn = [one for one in samples if one.drawn]
    return {
        "to_identity": mean([one.to_identity for one in drawn]),
        "to_driver": mean([one.to_driver for one in drawn]),
        "found_first": mean([float(one.rank == 1) for one in drawn]),
        "expression": median(_known([one.expression for one in drawn])),
        "movement": median(_known([one.movement for one in drawn])),
        "pose_deg": median(_known([one.pose for one in drawn])),
        "flicker": median(_over_input(drawn, lambda one: (one.warp, one.own_warp))),
        "light": median(_over_input(drawn, lambda one: (one.light, one.own_light))),
        "drawn": mean([float(one.drawn) for one in samples]),
    }


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not np.isnan(value)]


def _over_input(samples: Sequence[Sample], both: Callable[[Sample], tuple[float, float]]) -> list[float]:
    """Result over input, a ratio for each swap: of one frame alone it is mostly the camera's noise."""
    swaps: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for one in samples:
        pair = both(one)
        if not np.isnan(pair).any():
            swaps.setdefault((one.person, one.clip), []).append(pair)
    sums = [np.sum(pairs, axis=0) for pairs in swaps.values()]
    return [float(result / own) for result, own in sums if own > 0]


def grouped(samples: Sequence[Sample], key: Callable[[Sample], str]) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Sample]] = {}
    for one in samples:
        groups.setdefault(key(one), []).append(one)
    return {name: summary(members) for name, members in groups.items()}


def wanted(mine: Sequence[Sample], base: Sequence[Sample]) -> list[Line]:
    """What is asked of a learned engine, and what its samples show; `base`: of the engine it is to be better than."""
    all_mine, tones = summary(mine), grouped(mine, lambda one: one.tone)
    expression, theirs = all_mine["expression"], summary(base)["expression"]
    return [
        Line("identity to result", all_mine["to_identity"], 0.44),
        Line("driver to result", all_mine["to_driver"], 0.76, at_most=False),
        Line(
            "worst skin tone, identity to result over the mean",
            max((one["to_identity"] for one in tones.values()), default=NAN) - all_mine["to_identity"], 0.03,
        ),
        Line(
            "worst skin tone, driver to result under the mean",
            all_mine["to_driver"] - min((one["to_driver"] for one in tones.values()), default=NAN), 0.03,
        ),
        Line("found first", all_mine["found_first"], 0.90, at_most=False),
        Line("blendshape error over the other engine's", expression / theirs if theirs > 0 else NAN, 0.60),
        Line("pose, degrees", all_mine["pose_deg"], 2.0),
        Line("flicker over the input's own", all_mine["flicker"], 1.15),
    ]  # fmt: skip


def markdown(samples: Sequence[Sample], against: str, facts: Sequence[str], rendered: bool = False) -> str:
    """The report for people. rendered: of people whose skin tone nobody has named."""
    by_engine: dict[str, list[Sample]] = {}
    for one in samples:
        by_engine.setdefault(one.engine, []).append(one)
    parts = ["# Live quality: what the face does, who it is, whether it flickers", "", *facts, ""]
    parts += [table(("engine", *HEAD), [(name, *summary(mine).values()) for name, mine in by_engine.items()]), ""]
    for name, mine in by_engine.items():
        if name != against:
            lines = wanted(mine, by_engine.get(against, []))
            rows = [line.row() for line in lines if not (rendered and "skin tone" in line.what)]
            parts += [f"## {name}, wanted", "", table(WANTED_HEAD, rows), ""]
    titles = (("skin tone of the identity", _tone), ("clip", _clip), ("identity", _person))
    for title, key in titles[1:2] if rendered else titles:
        found = {name: grouped(mine, key) for name, mine in by_engine.items()}
        order = TONES if key is _tone else list(dict.fromkeys(key(one) for one in samples))
        rows = [
            (group, name, *found[name][group].values()) for group in order for name in found if group in found[name]
        ]
        parts += [f"## By {title}", "", table(("", "engine", *HEAD), rows), ""]
    return "\n".join(parts)


def _tone(one: Sample) -> str:
    return one.tone


def _clip(one: Sample) -> str:
    return one.clip


def _person(one: Sample) -> str:
    return one.person


def figures_of(samples: Sequence[Sample], against: str) -> dict[str, object]:
    """Everything that is reported, for JSON."""
    engines = dict.fromkeys(one.engine for one in samples)
    of = {name: [one for one in samples if one.engine == name] for name in engines}
    return {
        name: {
            "overall": summary(mine),
            "by_tone": grouped(mine, _tone),
            "by_clip": grouped(mine, _clip),
            "by_person": grouped(mine, _person),
            "wanted": {line.what: [line.found, line.wanted, line.holds] for line in wanted(mine, of.get(against, []))},
            "samples": len(mine),
        }
        for name, mine in of.items()
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--engine", "engines", multiple=True, default=("tiny",), show_default=True, help="may be repeated")
@click.option("--against", default="proxy", show_default=True, help="the engine whose blendshape error is the measure")
@click.option("--settings", multiple=True, help="key=value of the swap's settings, for all; may be repeated")
@click.option("--identities", type=click.IntRange(1, 20), default=20)
@click.option("--frames", type=click.IntRange(2), default=8, help="sampled frames per clip")
@click.option("--rendered", is_flag=True, help="the held-out rendered swaps instead of clips, and their truth")
@click.option("--quick", is_flag=True, help="five people, two clips, four frames, sixty strangers")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(
    data: Path, engines: tuple[str, ...], against: str, settings: tuple[str, ...], identities: int, frames: int,
    rendered: bool, quick: bool, write: bool,
) -> None:  # fmt: skip
    if quick:
        identities, frames = min(identities, 5), min(frames, 4)
    started_s, sessions = time.monotonic(), dict[str, Session]()
    reader = FaceReader(data / TASK if (data / TASK).is_file() else None)
    try:
        wearers, refused = ([], {}) if rendered else enrol_people(people(identities), data)
        judge = Judge()
        gallery, unseen = gallery_of(judge, wearers, data, QUICK_STRANGERS if quick else None)
        for name in dict.fromkeys((*engines, against)):
            sessions[name] = load(read_settings(name, settings))
        clips = [data / name for name in (QUICK_CLIPS if quick else CLIPS)]
        found = (
            measure_rendered(sessions, gallery, judge, reader, data, quick, frames, click.echo)
            if rendered
            else measure(sessions, wearers, gallery, judge, reader, clips, frames, click.echo)
        )
        samples = list(found)
    except VividError as error:
        raise click.ClickException(str(error)) from error
    finally:
        for session in sessions.values():
            session.close()
        reader.close()
    facts = [
        f"{machine()}. {len(samples)} sampled frames, {time.monotonic() - started_s:.0f} s.", "",
        f"Found among {len(gallery)} people; in {unseen} pictures of people the judge found nobody. Refused at "
        f"enrolment: {', '.join(refused) or 'nobody'}. Blendshapes by {'MediaPipe' if reader.sha256 else 'nothing'}"
        f"{f' (face_landmarker.task, sha256 {reader.sha256[:12]})' if reader.sha256 else ''}.",
    ]  # fmt: skip
    text = markdown(samples, against, facts, rendered)
    click.echo(text)
    name = "live-quality-rendered" if rendered else "live-quality"
    written = write_report(name, text, figures_of(samples, against), REPORTS if write else PRIVATE)
    click.echo(f"written: {written}")


if __name__ == "__main__":
    main()
