"""Who is swapped with whom, exactly: for a driver D and an identity S the photos of S, D's clip, and the truth.

The truth is S doing to the last bit what D does, under D's light, before D's camera and background: a swap's ground
truth, which no real video has. The decoupled twin is somebody else again in the same posture and scene; training takes
the attributes from it, so that they cannot carry identity (AIDT, VividFace, arXiv 2412.11279).

A swap keeps the head of hair and the glasses of whoever is before the camera, so there is a second truth, `worn`: S's
face under D's hair and glasses, in D's clothes. `truth` is the whole of S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from numpy.random import Generator

from distill.people.motion import FPS, sample_clip
from distill.people.sample import (
    STANDARD,
    AssetFacts,
    Split,
    cut_head,
    generator,
    posture,
    sample_expression,
    sample_gaze,
    sample_head,
    sample_person,
    sample_scene,
)
from distill.people.types import Person, Posture, Scene, Shot

if TYPE_CHECKING:
    from distill.people.assets import Assets
    from distill.people.render import Render

MOST_SOURCES = 8
SOURCE_SPREAD = 0.7  # photos that people enrol with are more frontal than frames of a call


class Part(IntEnum):
    """What of a sample a generator is for: each part can be made without the others."""

    DRIVER = 0
    IDENTITY = 1
    TWIN = 2
    CLIP = 3
    SOURCES = 4


@dataclass(frozen=True, slots=True)
class Triplet:
    """One sample of training data, as numbers. T frames.

    sources  1 to 8 photos of the identity, in other poses, expressions and rooms than the clip's
    target   the driver's clip
    truth    the identity doing what the driver does
    worn     the same under the driver's hair and glasses, in the driver's clothes
    twin     a third person doing what the driver does
    """

    sources: tuple[Shot, ...]
    target: tuple[Shot, ...]
    truth: tuple[Shot, ...]
    worn: tuple[Shot, ...]
    twin: tuple[Shot, ...]
    fps: float

    @property
    def driver(self) -> Person:
        return self.target[0].person

    @property
    def identity(self) -> Person:
        return self.truth[0].person


def triplet(
    dataset_seed: int,
    index: int,
    frames: int,
    facts: AssetFacts = STANDARD,
    split: Split = "train",
    sources: int | None = None,
    who: int | None = None,
) -> Triplet:
    """The triplet of that number. frames >= 1; sources: how many photos, by lot if not given. Needs no pixels.

    who: the number of another triplet, to swap with the same identity by the same photos.
    """

    def rng(part: Part) -> Generator:
        of_identity = who is not None and part in (Part.IDENTITY, Part.SOURCES)
        return generator(split, dataset_seed, who if of_identity and who is not None else index, part)

    driver, identity, twin = (
        sample_person(rng(part), facts, split) for part in (Part.DRIVER, Part.IDENTITY, Part.TWIN)
    )
    lot = rng(Part.CLIP)
    fps = float(lot.uniform(*FPS))
    clip = sample_clip(lot, frames, fps)
    return Triplet(
        source_photos(rng(Part.SOURCES), identity, sources),
        acted(driver, clip),
        acted(identity, clip),
        acted(worn(identity, driver), clip),
        acted(twin, clip),
        fps,
    )


def acted(person: Person, clip: Sequence[tuple[Posture, Scene]]) -> tuple[Shot, ...]:
    """That person in that clip."""
    return tuple(Shot(person, posture, scene) for posture, scene in clip)


def worn(identity: Person, driver: Person) -> Person:
    """The identity's face under the driver's hair and glasses, in D's clothes: what a swap of the face can reach."""
    return replace(
        identity,
        hair=driver.hair,
        hair_lab=driver.hair_lab,
        glasses=driver.glasses,
        glasses_lab=driver.glasses_lab,
        clothes_seed=driver.clothes_seed,
    )


def source_photos(rng: Generator, identity: Person, count: int | None = None) -> tuple[Shot, ...]:
    """1 to 8 photos of the identity, each in its own room; the first nearly frontal and calm, as a passport's."""
    if count is None:
        count = int(rng.integers(1, MOST_SOURCES + 1))
    if not 1 <= count <= MOST_SOURCES:
        raise ValueError(f"1 to {MOST_SOURCES} sources, not {count}")
    return tuple(Shot(identity, _photo_posture(rng, first=i == 0), sample_scene(rng)) for i in range(count))


def _photo_posture(rng: Generator, first: bool) -> Posture:
    calm = 0.25 if first else 1.0
    head = cut_head(SOURCE_SPREAD * calm * sample_head(rng))
    gaze = 0.4 * sample_gaze(rng)
    return posture(calm * sample_expression(rng), head, rng.standard_normal(3) * 0.7, gaze)


@dataclass(frozen=True, slots=True)
class RenderedTriplet:
    """The pictures, with masks, landmarks and depth (distill.people.render.Render), batch first: time, or photos."""

    triplet: Triplet
    sources: Render
    target: Render
    truth: Render
    twin: Render


def render_triplet(
    assets: Assets, sample: Triplet, size_px: int, whole_identity: bool = False, photos: Render | None = None
) -> RenderedTriplet:
    """Renders a triplet. The truth wears the driver's hair and glasses unless `whole_identity`. photos: the sources,
    where they are drawn already. The three clips are drawn as one: short ones cost a third less."""
    from distill.people.render import Render, render

    wanted = sample.truth if whole_identity else sample.worn
    sources = render(assets, sample.sources, size_px) if photos is None else photos
    frames = len(sample.target)
    together = render(assets, (*sample.target, *wanted, *sample.twin), size_px)

    def clip(number: int) -> Render:
        part = slice(number * frames, (number + 1) * frames)
        return Render(*(getattr(together, name)[part] for name in Render.__dataclass_fields__))

    return RenderedTriplet(sample, sources, clip(0), clip(1), clip(2))
