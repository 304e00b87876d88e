"""What passes before a face in a clip: drawn once, laid over target and twin alike, with exact masks.

Half of the occluders are hands, a quarter are things (most of them held by a hand), a quarter are textures: hair,
veils, scarves, patches (the shares of VividFace, arXiv 2412.11279). They enter, stay, and leave; they are lit as the
face is, cast a soft shadow on it and blur with their speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from distill.occluders.hand import GRIPS, between, hand_solids, placed
from distill.occluders.scene import FaceLight
from distill.occluders.sheets import HAIR, PATCH, SCARF, SHEETS, VEIL, cloth, hair_curves, sheet_numbers, strands
from distill.occluders.solids import drawn
from distill.occluders.things import GRIP_FOR, THINGS
from engines.pixels import gaussian_blur
from engines.types import Floats, Mask, Rgb

KINDS, SHARES = ("hand", "thing", "texture"), (0.5, 0.25, 0.25)
FACE_CM = 14.5  # width of a face
SHUTTER = 0.5  # of the frame's time
SHADOW = 0.5  # at most, of the light
# Where on the face things are held, in widths of the face from its middle (x right, y down).
GOALS = np.array([(0, 0.32), (0.25, 0.1), (-0.25, 0.1), (0.3, -0.25), (-0.3, -0.25), (0, -0.4), (0, 0.0), (0.1, 0.55)])
# sRGB of hands that are not the person's own.
SKINS = np.array([(234, 196, 172), (214, 168, 138), (188, 138, 106), (150, 102, 72), (112, 74, 52), (78, 52, 40)])

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OccluderClip:
    """kind and name of what passes; rgb_THW3 its colour, uint8, straight; mask_THW how much it covers, uint8; and
    shadow_THW how much light it takes from what is behind it, uint8, 255 is all. 0 and 0: the pixel stays as it is."""

    kind: str
    name: str
    rgb_THW3: Rgb
    mask_THW: Mask
    shadow_THW: Mask


@dataclass(frozen=True, slots=True)
class Face:
    """Where the face is: its middle and width in pixels over time, [T, 2] and one number, and its light."""

    middle_T2: Doubles
    width_px: float
    light: FaceLight


@dataclass(frozen=True, slots=True)
class Path:
    """Where the occluder is, in face widths from the face's middle, [T, 2], and its turn in degrees, [T]."""

    place_T2: Doubles
    turn_T: Doubles
    share_T: Doubles  # 0 away, 1 held


def face_of(landmarks_TN3: Floats, light: FaceLight) -> Face:
    """The face's place from its landmarks in every frame."""
    points = landmarks_TN3[..., :2].astype(np.float64)
    low, high = points.min(axis=1), points.max(axis=1)
    return Face((low + high) / 2, float(np.median((high - low)[:, 0])), light)


def occluder_clip(
    rng: np.random.Generator, face: Face, size_px: int, kind: str | None = None, name: str | None = None
) -> OccluderClip:
    """Draws one occluder over all frames of a clip. The same generator state and face give the same bytes."""
    chosen = kind or str(rng.choice(KINDS, p=SHARES))
    if chosen == "texture":
        called = name or str(rng.choice(SHEETS))
        layers, path = _sheets(rng, face, size_px, called)
    else:
        called = "bare" if chosen == "hand" else name or str(rng.choice(list(THINGS)))
        layers, path = _solids(rng, face, size_px, called)
    speed = (
        np.gradient(path.place_T2, axis=0) * face.width_px if len(path.place_T2) > 1 else np.zeros_like(path.place_T2)
    )
    pictures = [_finished(layer, speed[t] * SHUTTER, face) for t, layer in enumerate(layers)]
    rgb, mask, shadow = (np.stack(parts) for parts in zip(*pictures, strict=True))
    return OccluderClip(chosen, called, rgb, mask, shadow)


def occluded(rgb_THW3: Rgb, clip: OccluderClip) -> Rgb:
    """The frames with the occluder before them. Where mask and shadow are 0 they stay as they are, to the bit; where
    the mask is 255 they are the occluder, to the bit."""
    left = 255 - clip.shadow_THW[..., None].astype(np.uint32)
    alpha = clip.mask_THW[..., None].astype(np.uint32)
    behind = (rgb_THW3 * left + 127) // 255
    return ((clip.rgb_THW3 * alpha + behind * (255 - alpha) + 127) // 255).astype(np.uint8)


def _path(rng: np.random.Generator, frames: int, goal: Doubles, enters_from: Doubles) -> Path:
    """Comes in, stays with a tremor, goes away again; a clip may begin or end in the middle of it."""
    time = np.arange(frames, dtype=np.float64)
    quick = rng.uniform(6, 16)
    start = rng.uniform(-1.5 * quick, max(0.5 * frames - 0.75 * quick, -0.75 * quick))  # it is there half way through
    end = start + quick + rng.uniform(0.4, 1.4) * max(frames, 10)
    share = _eased((time - start) / quick) * (1 - _eased((time - end) / rng.uniform(6, 16)))
    sway = np.stack([_sway(rng, time) for _ in range(3)], axis=1)
    place = enters_from + (goal - enters_from) * share[:, None] + 0.05 * sway[:, :2]
    if rng.uniform() < 0.35:  # wipes across instead of staying
        place = place + rng.normal(0, 0.3, 2) * np.sin(time / frames * np.pi * rng.uniform(1, 3))[:, None]
    return Path(place, 8 * sway[:, 2], share)


def _eased(share: Doubles) -> Doubles:
    s = np.clip(share, 0, 1)
    return np.asarray(s**3 * (10 - 15 * s + 6 * s * s))


def _sway(rng: np.random.Generator, time: Doubles) -> Doubles:
    slow, fast = rng.uniform(0.03, 0.10), rng.uniform(0.12, 0.3)
    return np.asarray(
        0.7 * np.sin(time * slow + rng.uniform(0, 6)) + 0.3 * np.sin(time * fast + rng.uniform(0, 6)), np.float64
    )


def turn(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Floats:
    """A rotation about y, then x, then z (clockwise in the picture)."""
    y, p, r = np.radians([yaw_deg, pitch_deg, roll_deg])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y, np.float32)


def _linear(srgb_C: Doubles | Floats) -> Doubles:
    return np.asarray((np.asarray(srgb_C, np.float64) / 255) ** 2.2)


def _materials(rng: np.random.Generator, face: Face) -> Floats:
    """Skin, sleeve, and two of the thing's own: [4, 8]."""
    facing = 0.6 * (face.light.key_C + face.light.ambient_C)  # what a surface towards the camera gets
    own = _linear(face.light.skin_C) / np.maximum(facing, 1e-3)
    skin = own if rng.uniform() < 0.7 else _linear(SKINS[rng.integers(len(SKINS))]) * rng.uniform(0.85, 1.1, 3)
    table = np.empty((4, 8), np.float32)
    table[0] = [*np.clip(skin, 0.01, 0.9), 0, 0, 0, rng.uniform(0.12, 0.4), rng.uniform(0.2, 0.45)]
    for row, gloss in ((1, 0.03), (2, rng.uniform(0.1, 1.0)), (3, rng.uniform(0.1, 0.8))):
        level = rng.choice([rng.uniform(0.01, 0.06), rng.uniform(0.1, 0.4), rng.uniform(0.5, 0.85)])
        first = np.clip(level * np.exp(rng.normal(0, 0.45, 3)), 0.005, 0.9)
        second = np.clip(first * np.exp(rng.normal(0, 0.9, 3)) + rng.uniform(0, 0.15), 0.005, 0.9)
        table[row] = [*first, *second, gloss, float(rng.uniform() < 0.3)]
    return table


def _solids(rng: np.random.Generator, face: Face, size_px: int, name: str) -> tuple[list[Floats], Path]:
    frames = len(face.middle_T2)
    cm_per_px = FACE_CM / face.width_px
    left_hand, shows_back = rng.uniform() < 0.5, rng.uniform() < 0.6
    materials, seed = _materials(rng, face), int(rng.integers(1 << 20))
    thing = None if name == "bare" else THINGS[name](rng)
    held = thing is None or rng.uniform() < 0.75
    if name == "paper":
        materials[2, :3], materials[2, 3:6], materials[2, 6] = rng.uniform(0.6, 0.85), rng.uniform(0.02, 0.15), 0.05
    names = list(GRIPS)
    grips = (
        [GRIPS[GRIP_FOR[name]]] * 2 if name != "bare" else [GRIPS[names[rng.integers(len(names))]] for _ in range(2)]
    )
    scale = rng.uniform(0.85, 1.02)
    thickness, sleeve_cm = rng.uniform(0.88, 1.1), float(rng.choice([3.0, 6.0, 11.0, 99.0]))
    base = np.diag([1.0, -1.0, -1.0]) if shows_back else np.diag([-1.0, -1.0, 1.0])
    base = (np.diag([-1.0, 1.0, 1.0]) if left_hand else np.eye(3)) @ base
    lean = rng.uniform(-55, 55)
    tilt = turn(rng.normal(0, 22), rng.normal(0, 16), lean)
    pull = tilt @ np.array([0.0, 1.0, 0.0])  # from where the forearm comes
    outside = np.array([pull[0], max(pull[1], 0.25)]) * 2.6
    goal = GOALS[rng.integers(len(GOALS))] + rng.normal(0, 0.06, 2)
    path = _path(rng, frames, goal, goal + outside)
    wander = _eased((np.arange(frames) / max(frames - 1, 1) - rng.uniform(0, 0.5)) / rng.uniform(0.2, 0.6))
    light, layers = face.light.for_solids(), []
    for t in range(frames):
        grip = between(grips[0], grips[1], float(wander[t]))
        rows = [hand_solids(grip, sleeve_cm, float(thickness))] if held else []
        rows += [] if thing is None else [thing]
        turned = (turn(0.6 * float(path.turn_T[t]), 0, float(path.turn_T[t])) @ tilt @ base).astype(np.float32)
        at_px = face.middle_T2[t] + path.place_T2[t] * face.width_px
        middle = turned @ np.array([0, 10.0 if name == "bare" else 9.0, -1.0]) * scale
        place = np.array([at_px[0] * cm_per_px - middle[0], at_px[1] * cm_per_px - middle[1], 0], np.float32)
        solids = placed(np.concatenate(rows), turned, place, float(scale))
        layers.append(drawn(solids, materials, light, float(cm_per_px), size_px, seed))
    return layers, path


def _sheets(rng: np.random.Generator, face: Face, size_px: int, name: str) -> tuple[list[Floats], Path]:
    frames = len(face.middle_T2)
    numbers = sheet_numbers(rng, name)
    first = np.clip(rng.uniform(0.03, 0.6) * np.exp(rng.normal(0, 0.5, 3)), 0.005, 0.85).astype(np.float32)
    second = np.clip(rng.uniform(0.03, 0.7) * np.exp(rng.normal(0, 0.6, 3)), 0.005, 0.9).astype(np.float32)
    hairs = (0.012, 0.008, 0.006), (0.06, 0.03, 0.016), (0.22, 0.13, 0.06), (0.30, 0.29, 0.28), (0.2, 0.06, 0.025)
    colour = np.array(hairs[rng.integers(len(hairs))], np.float32)
    gain = (face.light.key_C * 0.6 + face.light.ambient_C).astype(np.float32)
    seed, curves = int(rng.integers(1 << 20)), hair_curves(rng, size_px, face.width_px)
    aside = (float(rng.choice([-1.1, 1.1])), -0.15)
    away = {HAIR: aside, VEIL: (0.0, 1.8), SCARF: (0.0, 1.6)}.get(name, tuple(3 * rng.normal(0, 1, 2)))
    goal = rng.normal(0, 0.25, 2) if name == PATCH else rng.normal(0, 0.06, 2)
    path = _path(rng, frames, goal, np.array(away))
    layers = []
    for t in range(frames):
        at = face.middle_T2[t] + path.place_T2[t] * face.width_px - size_px / 2
        if name == HAIR:
            moved = curves.copy()
            moved[:, 0:6:2] += np.float32(at[0])
            moved[:, 1:6:2] += np.float32(at[1])
            moved[:, 4] += np.float32(path.turn_T[t] * face.width_px * 0.012)
            layers.append(strands(moved, colour, gain, size_px))
            continue
        numbers[6] = 0.04 * path.turn_T[t]
        kind = 0 if name == VEIL else 1 if name == SCARF else 2
        span = max(size_px, round(2.2 * face.width_px))
        picture = cloth(kind, numbers, first, second, gain, face.light.towards_3, span, seed)
        corner = (face.middle_T2[t] + path.place_T2[t] * face.width_px)[::-1] - span / 2
        layers.append(_cut(picture, corner, size_px))
    return layers, path


def _cut(picture: Floats, corner_yx: Doubles, size_px: int) -> Floats:
    """The square laid at a place between pixels, float32 [S, S, 4]. Its edges go on: cloth does not end there."""
    offset = (-corner_yx[0], -corner_yx[1])
    planes = [
        ndimage.affine_transform(picture[..., c], (1.0, 1.0), offset, (size_px, size_px), order=1, mode="nearest")
        for c in range(4)
    ]
    return np.asarray(np.stack(planes, axis=2), np.float32)


def _finished(layer: Floats, blur_px: Doubles, face: Face) -> tuple[Rgb, Mask, Mask]:
    """Blurs with the motion, takes the shadow off it, and goes to 8 bits."""
    taps = int(np.clip(np.ceil(np.hypot(*blur_px)), 1, 12))
    blurred = layer if taps < 2 else _mean_along(layer, blur_px, taps)
    alpha = np.clip(blurred[..., 3], 0, 1)
    straight = blurred[..., :3] / np.maximum(alpha, 1e-4)[..., None]
    rgb = np.clip(np.clip(straight, 0, 1) ** (1 / 2.2) * 255 + 0.5, 0, 255).astype(np.uint8)
    mask = (alpha * 255 + 0.5).astype(np.uint8)
    rgb[mask == 0] = 0
    return rgb, mask, _shadow(alpha, face)


def _mean_along(layer: Floats, way_px: Doubles, taps: int) -> Floats:
    total = np.zeros_like(layer)
    for k in range(taps):
        dx, dy = np.round(way_px * (k / max(taps - 1, 1) - 0.5)).astype(int)
        total += _shifted(layer, int(dx), int(dy))
    return total / np.float32(taps)


def _shifted(picture: Floats, dx: int, dy: int) -> Floats:
    """Moved by whole pixels; what comes in from beyond the edge repeats it."""
    rows = np.clip(np.arange(picture.shape[0]) - dy, 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(picture.shape[1]) - dx, 0, picture.shape[1] - 1)
    return np.asarray(picture[rows][:, columns])


def _shadow(alpha: Floats, face: Face) -> Mask:
    """How much light is taken, uint8 [S, S]: the coverage moved away from the light and blurred, on the head alone."""
    towards, quarter = face.light.towards_3, 4
    side = alpha.shape[0] // quarter * quarter
    small = alpha[:side, :side].reshape(side // quarter, quarter, side // quarter, quarter).mean(axis=(1, 3))
    reach = 0.10 * face.width_px / quarter
    moved = _shifted(small, round(float(-towards[0] * reach)), round(float(-towards[1] * reach)))
    soft = gaussian_blur(moved.astype(np.float32), 0.045 * face.width_px / quarter + 0.5)
    wide = ndimage.zoom(soft, alpha.shape[0] / soft.shape[0], order=1, grid_mode=True, mode="nearest")
    return np.asarray(np.clip(wide * SHADOW * face.light.directness * 255, 0, 255), np.uint8)


def shadow_on(clip: OccluderClip, head_THW: Sequence[Floats] | Floats) -> OccluderClip:
    """The clip with its shadow on the head alone: what is far behind catches none. head_THW: 0..1."""
    shadow = (clip.shadow_THW * np.asarray(head_THW, np.float32)).astype(np.uint8)
    return OccluderClip(clip.kind, clip.name, clip.rgb_THW3, clip.mask_THW, shadow)
