"""How much the result looks like the identity, and how little like the driver, by an independent judge.

    python -m benchmarks.likeness                    twenty people on six real clips, every frame stepped
    python -m benchmarks.likeness --quick            five people on two clips
    python -m benchmarks.likeness --settings tone=driver --write

Same person about 0.35, strangers about 0.8. `to identity` must fall, `to driver` must rise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click
import numpy as np
from PIL import Image

from benchmarks.corpus import (
    CLIPS,
    DATA,
    QUICK_CLIPS,
    TONES,
    Enrolled,
    Footage,
    enrol_people,
    even_indices,
    people,
    read_clip,
)
from benchmarks.report import PRIVATE, REPORTS, machine, mean, median, read_settings, table, write_report
from distill.evaluate.judge import Descriptor, Judge, distance
from engines import Session, Status, VividError, load
from engines.types import Box, Rgb

SMALL_PX = 64  # to this width the identity's own photo is shrunk for the same person's baseline


class Swapper(Protocol):
    """Anything that swaps faces over a clip."""

    def swap(self, wearer: Enrolled, footage: Footage, wanted: frozenset[int]) -> Iterator[tuple[int, Rgb, Status]]:
        """The results of the wanted frames, in order, every frame of the clip having been seen."""


@dataclass(frozen=True, slots=True)
class SessionSwapper:
    """A session stepped through all frames, with a fresh state for each pair of person and clip."""

    session: Session

    def swap(self, wearer: Enrolled, footage: Footage, wanted: frozenset[int]) -> Iterator[tuple[int, Rgb, Status]]:
        """See Swapper."""
        self.session.set_identity(wearer.identity)
        state = self.session.init()
        for index, (rgb, captured_s) in enumerate(zip(footage.frames, footage.captured_s, strict=True)):
            result = self.session.step(state, rgb, captured_s)
            if index in wanted:
                yield index, result.rgb_HW3, result.status


@dataclass(frozen=True, slots=True)
class Sighting:
    """The driver's face in one sampled input frame, as the judge sees it."""

    index: int
    box: Box
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Sample:
    """One judged or unjudged result."""

    person: str
    tone: str
    clip: str
    index: int
    status: str
    to_identity: float  # NaN where nothing was drawn
    to_driver: float
    stranger: float  # the identity's photo against the same input frame

    @property
    def drawn(self) -> bool:
        return self.status == Status.DRAWN


@dataclass(frozen=True, slots=True)
class Baselines:
    """What the judge says where nothing is swapped."""

    same_photo: float  # a photo against itself mirrored, small and compressed
    same_driver: float  # a driver against themselves in other frames of the clip
    unseen_frames: int  # sampled input frames in which the judge found no face
    unseen_photos: tuple[str, ...]


def sight(judge: Judge, footage: Footage, indices: Sequence[int]) -> list[Sighting]:
    """The driver in the sampled frames; frames in which the judge finds nobody are left out (and counted)."""
    found: list[Sighting] = []
    for index in indices:
        rgb = footage.frames[index]
        box = judge.find(rgb)
        if box is not None:
            found.append(Sighting(index, box, judge.describe(rgb, box)))
    return found


def judge_pair(
    judge: Judge, swapper: Swapper, wearer: Enrolled, known: Descriptor, footage: Footage, sightings: Sequence[Sighting]
) -> list[Sample]:
    """One person worn by one clip's driver."""
    by_index = {sighting.index: sighting for sighting in sightings}
    samples: list[Sample] = []
    for index, rgb, status in swapper.swap(wearer, footage, frozenset(by_index)):
        sighting = by_index[index]
        to_identity = to_driver = float("nan")
        if status == Status.DRAWN:
            result = judge.describe(rgb, sighting.box)
            to_identity, to_driver = distance(known, result), distance(sighting.descriptor, result)
        stranger = distance(known, sighting.descriptor)
        person = wearer.person
        samples.append(
            Sample(person.key, person.tone, footage.name, index, str(status), to_identity, to_driver, stranger)
        )
    return samples


def disturbed(rgb_HW3: Rgb, face_px: float) -> Rgb:
    """The photo mirrored and shrunk until its face is as small as a face in a call."""
    scale = min(1.0, SMALL_PX / face_px)
    image = Image.fromarray(np.ascontiguousarray(rgb_HW3[:, ::-1]))
    return np.array(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS))


def same_photo_distance(judge: Judge, picture: Rgb) -> float:
    """A photo against itself disturbed; NaN where the judge loses the face."""
    box = judge.find(picture)
    if box is None:
        return float("nan")
    small = disturbed(picture, box.width_px)
    small_box = judge.find(small)
    if small_box is None:
        return float("nan")
    return distance(judge.describe(picture, box), judge.describe(small, small_box))


def measure(
    judge: Judge,
    swapper: Swapper,
    wearers: Sequence[Enrolled],
    clips: Sequence[Path],
    frames: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Sample], Baselines]:
    """Every pair of person and clip. The seed moves the sampled frames within their parts of the clip."""
    known = {wearer.person.key: judge.describe_photo(wearer.picture) for wearer in wearers}
    phase = 0.5 if seed == 0 else float(np.random.default_rng(seed).random())
    samples: list[Sample] = []
    same_driver: list[float] = []
    unseen = 0
    for path in clips:
        footage = read_clip(path)
        indices = even_indices(len(footage.frames), frames, phase)
        sightings = sight(judge, footage, indices)
        unseen += len(indices) - len(sightings)
        same_driver += [
            distance(one.descriptor, other.descriptor)
            for position, one in enumerate(sightings)
            for other in sightings[:position]
        ]
        for wearer in wearers:
            descriptor = known[wearer.person.key]
            if descriptor is not None:
                samples += judge_pair(judge, swapper, wearer, descriptor, footage, sightings)
        of_clip = [sample.to_identity for sample in samples if sample.clip == footage.name and sample.drawn]
        say(f"{footage.name}: to identity {mean(of_clip):.3f} over {len(of_clip)} results")
    photos = [same_photo_distance(judge, wearer.picture) for wearer in wearers]
    unseen_photos = tuple(key for key, descriptor in known.items() if descriptor is None)
    return samples, Baselines(
        mean([value for value in photos if not np.isnan(value)]), mean(same_driver), unseen, unseen_photos
    )


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """The figures of some samples together."""
    drawn = [sample for sample in samples if sample.drawn]
    return {
        "to_identity": mean([sample.to_identity for sample in drawn]),
        "to_identity_median": median([sample.to_identity for sample in drawn]),
        "to_driver": mean([sample.to_driver for sample in drawn]),
        "to_driver_median": median([sample.to_driver for sample in drawn]),
        "stranger": mean([sample.stranger for sample in samples]),
        "nearer_identity_share": mean([float(sample.to_identity < sample.to_driver) for sample in drawn]),
        "drawn_share": mean([float(sample.drawn) for sample in samples]),
    }


HEAD = ("to identity", "median", "to driver", "median", "strangers", "nearer identity", "drawn")


def grouped(samples: Sequence[Sample], key: Callable[[Sample], str]) -> dict[str, dict[str, float]]:
    """Summaries by group, in order of first appearance."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return {name: summary(members) for name, members in groups.items()}


def figures_of(samples: Sequence[Sample], baselines: Baselines, refused: Mapping[str, str]) -> dict[str, object]:
    """Everything that is reported, for JSON."""
    return {
        "overall": summary(samples),
        "by_tone": {tone: grouped(samples, lambda sample: sample.tone).get(tone, {}) for tone in TONES},
        "by_clip": grouped(samples, lambda sample: sample.clip),
        "by_person": grouped(samples, lambda sample: sample.person),
        "pairs": grouped(samples, lambda sample: f"{sample.person} on {sample.clip}"),
        "same_photo": baselines.same_photo,
        "same_driver": baselines.same_driver,
        "unseen_frames": baselines.unseen_frames,
        "unseen_photos": baselines.unseen_photos,
        "refused_at_enrolment": dict(refused),
        "samples": len(samples),
    }


def markdown(
    samples: Sequence[Sample],
    baselines: Baselines,
    refused: Mapping[str, str],
    wearers: Sequence[Enrolled],
    title: str,
) -> str:
    """The report for people."""
    labels = {
        wearer.person.key: f"{wearer.person.key} ({wearer.person.label}, {wearer.person.tone})" for wearer in wearers
    }

    def rows(groups: Mapping[str, Mapping[str, float]]) -> list[tuple[object, ...]]:
        return [(labels.get(name, name), *values.values()) for name, values in groups.items()]

    lines = [
        f"# {title}",
        "",
        "Distances of dlib's face recogniser, which had no part in building the swap: one person about 0.35, "
        "strangers about 0.8. Each sampled result is compared with the identity's photo and with the driver in the "
        "same input frame.",
        "",
        table(("", *HEAD), [("overall", *summary(samples).values())]),
        "",
        f"{len(samples)} sampled frames. Without any swap: a photo against itself mirrored and small "
        f"{baselines.same_photo:.3f}; a driver against themselves in other frames {baselines.same_driver:.3f}.",
        f"Left out: {baselines.unseen_frames} sampled input frames and {len(baselines.unseen_photos)} photos in which "
        f"the judge found no face{_listed(baselines.unseen_photos)}; {len(refused)} people refused at "
        f"enrolment{_listed([f'{key}: {why}' for key, why in refused.items()])}.",
        "",
        "## By skin tone of the identity",
        "",
        table(("", *HEAD), rows(grouped(samples, lambda sample: sample.tone))),
        "",
        "## By clip",
        "",
        table(("", *HEAD), rows(grouped(samples, lambda sample: sample.clip))),
        "",
        "## By identity",
        "",
        table(("", *HEAD), rows(grouped(samples, lambda sample: sample.person))),
    ]
    return "\n".join(lines)


def _listed(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--clips", multiple=True, help="clips under the data folder; may be repeated")
@click.option("--identities", type=click.IntRange(1, 20), default=20)
@click.option("--frames", type=click.IntRange(1), default=8, help="sampled frames per clip")
@click.option("--engine", default="proxy")
@click.option("--settings", multiple=True, help="key=value of the swap's settings; may be repeated")
@click.option("--seed", default=0, help="moves the sampled frames")
@click.option("--quick", is_flag=True, help="five people, two clips, four frames")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(
    data: Path,
    clips: tuple[str, ...],
    identities: int,
    frames: int,
    engine: str,
    settings: tuple[str, ...],
    seed: int,
    quick: bool,
    write: bool,
) -> None:
    """Runs the benchmark and prints its report."""
    if quick:
        identities, frames = min(identities, 5), min(frames, 4)
    names = clips or (QUICK_CLIPS if quick else CLIPS)
    started_s = time.monotonic()
    try:
        wearers, refused = enrol_people(people(identities), data)
        session = load(read_settings(engine, settings))
        try:
            samples, baselines = measure(
                Judge(), SessionSwapper(session), wearers, [data / name for name in names], frames, seed, click.echo
            )
        finally:
            session.close()
    except VividError as error:
        raise click.ClickException(str(error)) from error
    text = markdown(samples, baselines, refused, wearers, f"Likeness: {engine} {' '.join(settings)}".rstrip())
    text += f"\n\n{machine()}. {time.monotonic() - started_s:.0f} s.\n"
    click.echo(text)
    path = write_report("likeness", text, figures_of(samples, baselines, refused), REPORTS if write else PRIVATE)
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
