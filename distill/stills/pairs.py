"""Self-swap pairs: one person's views in other light, and their frame before and after its face was given other light.

The target is the photo's own light on a moved head. The driver is the target with the face's light, colour and contrast
disturbed, so that it cannot be copied; the sources are other poses of the same person, each in a light of its own. A
network that makes the target out of them has learnt to relight and to blend.

A network that sees the driver's face masked out cannot copy it. For such a one driver and target stand in one and the
same light, which is all that it can go by, and only the skin inside the face's outline is another's: a target in other
light than the hair, neck and room around it would teach that these say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.stills.motion import still_clip
from distill.stills.move import StillFrame, moved
from distill.stills.portrait import Portrait
from engines.face.relight import harmonics
from engines.types import Floats, Rgb

FPS = 25.0
LIGHT_SPREAD = (0.0, 0.24, 0.12)  # of the harmonics' coefficients by order, in log units
TINT_SPREAD = 0.06  # of one channel against the others, the same
SKIN_SPREAD = 0.25  # of another skin's brightness, the same
SHAPE_OF_ORDER = np.repeat([0, 1, 2], [1, 3, 5])


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Another light and camera: log-light coefficients float32 [9, 3], gains per channel, contrast and gamma."""

    light_BC: Floats
    gain_C: Floats
    contrast: float
    gamma: float
    saturation: float


@dataclass(frozen=True, slots=True)
class SelfSwap:
    """One sample.

    sources      views for the identity, and their pictures source_rgb_VHW3 in lights of their own
    driver_THW3  what a swap starts from. It differs from the truth only where the targets' surface has its fourth
                 channel above 0; with a masked face only where their mask is
    truth_THW3   what the swap should give
    targets      of which the truth was made
    """

    name: str
    sources: tuple[StillFrame, ...]
    source_rgb_VHW3: Rgb
    driver_THW3: Rgb
    truth_THW3: Rgb
    targets: tuple[StillFrame, ...]


def self_swap(
    portrait: Portrait, seed: int, index: int, frames: int = 1, views: int = 1, masked: bool = False
) -> SelfSwap:
    """The sample of this seed and index: `frames` consecutive targets and `views` source views of the same person.

    masked: for networks that are not shown the driver's face.
    """
    rng = np.random.default_rng([seed, index])
    targets = tuple(moved(portrait, still_clip(rng, portrait, frames, FPS)))
    motions = [still_clip(rng, portrait, 8, FPS)[int(rng.integers(8))] for _ in range(views)]
    sources = tuple(moved(portrait, motions))
    in_other_light = [disturbed(view, disturbance(rng), everywhere=True) for view in sources]
    one = disturbance(rng)  # a clip's face is disturbed alike in all of its frames
    if masked:
        truth = np.stack([disturbed(frame, one, everywhere=True) for frame in targets])
        gain = skin(rng)
        driver = np.stack([with_skin(picture, frame, gain) for picture, frame in zip(truth, targets)])
    else:
        truth = np.stack([frame.rgb_HW3 for frame in targets])
        driver = np.stack([disturbed(frame, one, everywhere=False) for frame in targets])
    photos = np.stack(in_other_light) if in_other_light else np.zeros((0, *targets[0].rgb_HW3.shape), np.uint8)
    return SelfSwap(portrait.name, sources, photos, driver, truth, targets)


def disturbance(rng: np.random.Generator) -> Disturbance:
    """A light and a camera by chance."""
    spread = np.array(LIGHT_SPREAD)[SHAPE_OF_ORDER]
    light = spread[:, None] * (rng.normal(size=(9, 1)) + 0.15 * rng.normal(size=(9, 3)))
    gain = np.exp(rng.normal(0, TINT_SPREAD, 3) + rng.normal(0, 0.12))
    return Disturbance(
        light.astype(np.float32),
        gain.astype(np.float32),
        float(rng.uniform(0.8, 1.2)),
        float(np.exp(rng.normal(0, 0.12))),
        float(rng.uniform(0.7, 1.25)),
    )


def skin(rng: np.random.Generator) -> Floats:
    """Another skin by chance, as gains of its channels, float32 [3]."""
    return np.asarray(np.exp(rng.normal(0, TINT_SPREAD, 3) + rng.normal(0, SKIN_SPREAD)), np.float32)


def with_skin(rgb_HW3: Rgb, frame: StillFrame, gain_C: Floats) -> Rgb:
    """The frame's picture with a skin of that gain inside the face's outline."""
    inside = frame.mask_HW[..., None].astype(np.float32) / 255
    other = rgb_HW3 * (1 + inside * (gain_C - 1))
    return np.asarray(np.clip(other + 0.5, 0, 255), np.uint8)


def disturbed(frame: StillFrame, by: Disturbance, everywhere: bool) -> Rgb:
    """The frame in another light. everywhere: the camera's part on the whole picture, else all on the head alone."""
    head = frame.surface_HW4[..., 3:]
    normals = frame.surface_HW4[..., :3].reshape(-1, 3)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    shading = harmonics((normals / np.maximum(length, 1e-6)).astype(np.float32)) @ by.light_BC
    rgb = frame.rgb_HW3.astype(np.float32)
    lit = rgb * np.exp(np.clip(shading.reshape(rgb.shape), -1.2, 0.9) * head)
    lit = 255 * np.clip(lit * by.gain_C / 255, 0, None) ** by.gamma
    grey = lit @ np.array([0.3, 0.59, 0.11], np.float32)
    lit = grey[..., None] + by.saturation * (lit - grey[..., None])
    lit = 110 + by.contrast * (lit - 110)
    shoulder = np.where(lit > 200, 200 + 55 * np.tanh((lit - 200) / 55), lit)
    mixed = shoulder if everywhere else rgb + head * (shoulder - rgb)
    return np.asarray(np.clip(mixed + 0.5, 0, 255), np.uint8)
