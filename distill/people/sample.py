"""Drawing people, postures and scenes by lot. Ranges: those that let training on renders transfer to cameras.

Every sample has its own generator, made from (split, data set's seed, index, part) alone, so that any one can be made
by itself, on any machine, in any order. Held-out samples differ from training ones twice over: by the split in the
seed, and by pairs of skins that training never mixes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from distill.people.expressions import INDEX, UNITS, Weights, follow_gaze, sensible
from distill.people.types import EXPRESSIONS, IDENTITY_MODES, GlassesKind, Person, Posture, Scene, Vector

Split = Literal["train", "held_out"]
SEED_DOMAIN = 0x76697669  # keeps these streams apart from any other use of the same seed
INDEX_LIMIT = 2**48

IDENTITY_SPREAD, IDENTITY_CUT = 0.9, 2.5
YAW_DEG, PITCH_DEG, ROLL_DEG = 22.0, 12.0, 10.0
MOST_YAW_DEG, MOST_PITCH_DEG, MOST_ROLL_DEG = 75.0, 40.0, 40.0
GAZE_YAW_DEG, GAZE_PITCH_DEG = 25.0, 15.0
BLINK_SHARE = 0.15
COVERING, COVERING_LIKELIHOOD = ("bob01", "bob02", "short03"), 0.25
HAIR_SHARE, GLASSES_SHARE, STUBBLE_SHARE = 0.85, 0.2, 0.3
DARK_SHARE = 0.45  # of people have at least one dark skin in their mix: three of eleven skins are dark
LEFT_RIGHT_CORRELATION = 0.8
FIELD_OF_VIEW_DEG = (20.0, 65.0)
FACE_SHARE = (0.3, 0.62)  # of the picture's side
FACE_CM, NEAREST_CM = 15.0, 34.0
KELVIN = (2700.0, 8000.0)
LIGHTS, HARMONICS = 3, 9


class Names(Protocol):
    """The names of what there is."""

    @property
    def skins(self) -> tuple[str, ...]: ...
    @property
    def brows(self) -> tuple[str, ...]: ...
    @property
    def hair(self) -> tuple[str, ...]: ...
    @property
    def irises(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class AssetFacts:
    """What there is to choose from: how many of each, and which skins are dark, in the order of sorted names.

    covering_hairs hang over an eye or half the face; they are drawn by lot less often than others.
    """

    skins: int = 11
    dark_skins: tuple[int, ...] = (0, 4, 5)
    brows: int = 12
    hairs: tuple[int, ...] = tuple(range(10))
    covering_hairs: tuple[int, ...] = (1, 2, 8)
    irises: int = 7

    @staticmethod
    def of(assets: Names) -> AssetFacts:
        """The facts of loaded assets (distill.people.assets.Facts)."""
        return AssetFacts(
            len(assets.skins),
            tuple(i for i, name in enumerate(assets.skins) if "darkskinned" in name),
            len(assets.brows),
            tuple(range(len(assets.hair))),
            tuple(i for i, name in enumerate(assets.hair) if name in COVERING),
            len(assets.irises),
        )


STANDARD = AssetFacts()


def generator(split: Split, dataset_seed: int, index: int, part: int = 0) -> Generator:
    """The generator of one sample's part. 0 <= index < 2**48; dataset_seed and part below 2**32, else ValueError."""
    key = seed_key(split, dataset_seed, index, part)
    return np.random.default_rng(np.random.SeedSequence(SEED_DOMAIN, spawn_key=key))


def seed_key(split: Split, dataset_seed: int, index: int, part: int) -> tuple[int, ...]:
    """Five words of 32 bits, different for different samples: numpy would write one long number like two short ones."""
    if not (0 <= index < INDEX_LIMIT and 0 <= dataset_seed < 2**32 and 0 <= part < 2**32):
        raise ValueError(f"no sample has seed {dataset_seed}, index {index}, part {part}")
    return get_args(Split).index(split), dataset_seed, index & 0xFFFFFFFF, index >> 32, part


def is_held_out_pair(first: int, second: int) -> bool:
    """Whether this mix of skins, in either order, is kept for measuring: about a fifth of the mixes, of all tones."""
    return first != second and (first + second) % 5 == 4


def sample_person(rng: Generator, facts: AssetFacts = STANDARD, split: Split = "train") -> Person:
    """Somebody. `split` decides which mixes of skins they may have."""
    identity = np.clip(IDENTITY_SPREAD * rng.standard_normal(IDENTITY_MODES), -IDENTITY_CUT, IDENTITY_CUT)
    skins = _skins(rng, facts, split)
    dark = sum(skin in facts.dark_skins for skin in skins)
    hair = _hair(rng, facts) if rng.random() < HAIR_SHARE and facts.hairs else -1
    stubble = float(rng.beta(1.2, 2)) if rng.random() < STUBBLE_SHARE else 0.0
    freckles = float(rng.beta(1, 2.5)) if rng.random() < (0.12 if dark else 0.35) else 0.0
    lips = float(rng.beta(1.5, 2.0)) if rng.random() < 0.5 else 0.0
    shadow = float(rng.beta(1.2, 2.5)) if rng.random() < 0.25 else 0.0
    kinds: tuple[GlassesKind, ...] = ("round", "square", "thin")
    glasses: GlassesKind = kinds[int(rng.integers(3))] if rng.random() < GLASSES_SHARE else "none"
    return Person(
        identity=_vector(identity),
        skins=skins,
        skin_mix=float(rng.random()),
        skin_lab=_vector(rng.uniform((-12, -4, -6), (12, 4, 6))),
        roughness=float(rng.uniform(0.3, 0.6)),
        freckles=freckles,
        stubble=stubble,
        blotches=float(rng.beta(1.5, 2.0)),
        marks_seed=int(rng.integers(2**31)),
        lips_lab=_vector(rng.uniform((-14, 2, -6), (4, 22, 8))),
        lips_strength=lips,
        shadow_lab=_vector(rng.uniform((-22, -6, -12), (-4, 8, 8))),
        shadow_strength=shadow,
        brows=int(rng.integers(facts.brows)),
        brow_lightness=float(np.clip(0.4 * rng.standard_normal() - 0.25 * dark, -1, 1)),
        hair=hair,
        hair_lab=_vector(rng.uniform((-20, -3, -3), (12 if not dark else 0, 7, 14))),
        iris=int(rng.integers(facts.irises)),
        iris_lab=_vector(rng.uniform((-25 if dark else -15, -3, -4), (0 if dark else 8, 6, 12))),
        glasses=glasses,
        glasses_lab=_vector(rng.uniform((8, -10, -15), (70, 25, 25))),
        clothes_seed=int(rng.integers(2**31)),
    )


def _skins(rng: Generator, facts: AssetFacts, split: Split) -> tuple[int, int]:
    """Two skins whose mix belongs to the split."""
    everyone = np.arange(facts.skins)
    with_dark = rng.random() < DARK_SHARE
    while True:
        first = int(rng.choice(facts.dark_skins if with_dark and facts.dark_skins else everyone))
        second = int(rng.choice(everyone))
        if is_held_out_pair(first, second) == (split == "held_out"):
            return first, second


def _hair(rng: Generator, facts: AssetFacts) -> int:
    chances = np.array([COVERING_LIKELIHOOD if hair in facts.covering_hairs else 1.0 for hair in facts.hairs])
    return int(rng.choice(facts.hairs, p=chances / chances.sum()))


def sample_expression(rng: Generator) -> Weights:
    """One to four movements, the sides alike but not equal, nothing that no face can do. float64 [57], no blink."""
    weights = np.zeros(EXPRESSIONS)
    chances = np.array([unit.how_often for unit in UNITS])
    chosen = rng.choice(len(UNITS), size=int(rng.integers(1, 5)), replace=False, p=chances / chances.sum())
    for which in chosen:
        unit = UNITS[which]
        strength = rng.beta(0.6, 1.5)
        for place in unit.indices:
            own = rng.beta(0.6, 1.5)
            weights[place] = unit.most * (LEFT_RIGHT_CORRELATION * strength + (1 - LEFT_RIGHT_CORRELATION) * own)
    jaw = weights[INDEX["jawOpen"]]
    if jaw > 0 and rng.random() < 0.15:  # chewing, swallowing: the jaw drops behind closed lips
        weights[INDEX["mouthClose"]] = jaw * rng.uniform(0.3, 1)
    return sensible(weights)


def sample_gaze(rng: Generator) -> NDArray[np.float64]:
    """Yaw and pitch of the eyes against the head in degrees. Mostly near the middle. float64 [2]."""
    gaze = rng.standard_normal(2) * (GAZE_YAW_DEG / 2.2, GAZE_PITCH_DEG / 2.2)
    return np.asarray(np.clip(gaze, (-GAZE_YAW_DEG, -GAZE_PITCH_DEG), (GAZE_YAW_DEG, GAZE_PITCH_DEG)))


def sample_head(rng: Generator) -> NDArray[np.float64]:
    """Yaw, pitch and roll of the head in degrees. float64 [3]."""
    return cut_head(rng.standard_normal(3) * (YAW_DEG, PITCH_DEG, ROLL_DEG))


def cut_head(angles_T3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles within what a neck does and a camera is shown. float64 [..., 3]."""
    most = np.array([MOST_YAW_DEG, MOST_PITCH_DEG, MOST_ROLL_DEG])
    return np.asarray(np.clip(angles_T3, -most, most))


def sample_posture(rng: Generator) -> Posture:
    """What somebody does in a photo."""
    weights = sample_expression(rng)
    if rng.random() < BLINK_SHARE:
        closed = rng.uniform(0.3, 1.0)
        weights[[INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = np.clip(closed + rng.uniform(-0.04, 0.04, 2), 0, 1)
    gaze = sample_gaze(rng)
    head = sample_head(rng)
    return posture(weights, head, rng.standard_normal(3) * (1.0, 0.8, 1.0), gaze)


def posture(weights_E: Weights, head_3: Weights, shift_3: Weights, gaze_2: Weights) -> Posture:
    """The plain value of one moment: conflicts settled, lids following the gaze."""
    weights = follow_gaze(sensible(weights_E), gaze_2)
    yaw, pitch, roll = (float(angle) for angle in head_3)
    return Posture(_vector(weights), yaw, pitch, roll, _vector(shift_3), (float(gaze_2[0]), float(gaze_2[1])))


def light_colour(kelvin: float) -> NDArray[np.float64]:
    """A black body's colour in linear sRGB, luminance 1. float64 [3]. 1667 to 25000 K (Kim et al. 2002, cubic fits)."""
    t = 1000 / kelvin
    if kelvin <= 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    xyz = np.array([x / y, 1.0, (1 - x - y) / y])
    rgb = (
        np.array(
            [
                [3.2404542, -1.5371385, -0.4985314],
                [-0.9692660, 1.8760108, 0.0415560],
                [0.0556434, -0.2040259, 1.0572252],
            ]
        )
        @ xyz
    )
    return np.asarray(np.maximum(rgb, 0.02))


def sample_scene(rng: Generator) -> Scene:
    """Camera, light and background of a room, a street or a studio; the camera balances white, but not quite."""
    view = float(rng.uniform(*FIELD_OF_VIEW_DEG))
    share = rng.uniform(*FACE_SHARE)
    distance = max(FACE_CM / (2 * share * math.tan(math.radians(view / 2))), NEAREST_CM)
    room, white = rng.uniform(*KELVIN, 2)
    balance = light_colour(0.7 * room + 0.3 * white)
    colour = light_colour(room) / balance
    ambient = _ambient(rng, colour)
    count = int(rng.integers(1, LIGHTS + 1))
    directions, colours, softness = _lights(rng, count, room, balance)
    received = ambient[0].mean() + 0.45 * colours.mean(axis=1).sum()
    exposure = math.exp(0.28 * rng.standard_normal()) / max(received, 1e-3)
    return Scene(
        field_of_view_deg=view,
        distance_cm=float(distance),
        ambient=_vector(ambient.ravel()),
        light_directions=_vector(directions.ravel()),
        light_colours=_vector(colours.ravel()),
        light_softness=_vector(softness),
        background_seed=int(rng.integers(2**31)),
        exposure=float(exposure),
    )


def _ambient(rng: Generator, colour_3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Harmonics of light from all around, more from above than from below. float64 [9, 3]."""
    level = rng.uniform(0.3, 0.8)
    ambient = np.zeros((HARMONICS, 3))
    ambient[0] = level * colour_3
    slope = rng.standard_normal(3) * (0.14, 0.1, 0.14) + (0.16, 0.05, 0.0)  # y, z, x
    ambient[1:4] = level * slope[:, None] * colour_3 * (1 + 0.12 * rng.standard_normal((3, 3)))
    ambient[4:] = level * 0.05 * rng.standard_normal((5, 1)) * colour_3
    return ambient


def _lights(
    rng: Generator, count: int, room: float, balance_3: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Directions [3, 3], colours [3, 3] and softness [3]; lights beyond `count` are black."""
    directions, colours = np.tile((0.0, 0.0, 1.0), (LIGHTS, 1)), np.zeros((LIGHTS, 3))
    for i in range(count):
        yaw = rng.normal(0, 55 if i == 0 else 80)
        pitch = np.clip(rng.normal(25, 22), -25, 80)
        directions[i] = direction(yaw, pitch)
        power = rng.uniform(0.35, 1.1) if i == 0 else rng.uniform(0.05, 0.5)
        kelvin = 0.5 * room + 0.5 * rng.uniform(*KELVIN)  # lamps of one room are not all different
        colours[i] = power * light_colour(kelvin) / balance_3
    return directions, colours, rng.uniform(0.1, 1.0, LIGHTS)


def direction(yaw_deg: float, pitch_deg: float) -> NDArray[np.float64]:
    """Unit vector in camera axes (x right, y up, z towards the camera), from the middle of the view. float64 [3]."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    return np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])


def _vector(values: NDArray[np.float64]) -> Vector:
    return tuple(float(value) for value in values)
