"""What an engine is proved on: pictures of people who do not exist, in the way a session would feed them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from engines.golden import FROM_WINDOW
from engines.graph import GraphSpec, TensorSpec
from engines.identity_store import IdentityStore
from engines.runtimes.base import Array
from engines.types import Rgb

SEED = 20261123
PICTURES = ("masked", "proxy", "attribute", "texture")
FACE_RADII = (0.42, 0.34)  # of the drawn region: half of its height and width, as shares of the picture


def first_inputs(spec: GraphSpec, known: dict[str, Array] | None = None) -> dict[str, Array]:
    """Inputs of the first frame, without those that follow from the window. known: taken as they are."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    made: dict[str, Array] = {}
    for tensor in spec.inputs:
        if known is not None and tensor.name in known:
            made[tensor.name] = np.ascontiguousarray(np.broadcast_to(known[tensor.name], tensor.shape), np.float32)
        elif tensor.name not in FROM_WINDOW:
            made[tensor.name] = _made(tensor, generator)
    return made


def _made(tensor: TensorSpec, generator: np.random.Generator) -> Array:
    batch, side = tensor.shape[0], tensor.shape[-1]
    if tensor.name in PICTURES:
        rows = [_picture(row + (tensor.name == "proxy"), side) for row in range(batch)]
        if tensor.name == "masked":
            rows = [np.where(_region(side) > 0, row.mean(), row) for row in rows]
        return np.stack(rows).astype(np.float32)
    if tensor.name == "mask":
        return np.broadcast_to(_region(side), tensor.shape).astype(np.float32)
    if tensor.name == "weights":
        return np.full(tensor.shape, 0.6, np.float32)
    normal = generator.standard_normal(tensor.shape)
    if tensor.name == "identity":
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return normal.astype(np.float32)


def _picture(person: int, side_px: int) -> Array:
    """A built-in persona's portrait, [3, side, side] in -1..1."""
    store = IdentityStore()
    names = store.built_in()
    portrait: Rgb = store.load(names[person % len(names)]).portrait_PP3
    resized = Image.fromarray(portrait).resize((side_px, side_px), Image.Resampling.BICUBIC)
    picture: Array = np.asarray(resized, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return picture


def _region(side_px: int) -> Array:
    """An ellipse where the face would be drawn, [1, side, side] in 0..1."""
    y, x = np.mgrid[:side_px, :side_px] / side_px - 0.5
    region: Array = ((y / FACE_RADII[0]) ** 2 + (x / FACE_RADII[1]) ** 2 < 1)[None].astype(np.float32)
    return region
