"""Who an identity is, as the 512 numbers that the face encoder takes: written down here, not learned.

A recogniser's embedding would be the usual choice, but none may be shipped under this project's licence. So the vector
says what an identity file holds. Its entries, in this order, are whitened one by one (mean 0, spread 1 over 178 people
who do not exist: examples/fit_identity_vector.py), weighted, and scaled to length 1 as a recogniser's embedding is:

      0.. 39  shape: the neutral shape's coefficients on the landmark model's 40 identity modes (ridge regression)
     40.. 42  skin: mean log colour of the plain skin, weight 2
     43.. 45  irises: their log colour
     46..405  texture: log colour of 120 cells of the atlas within the outline, less the skin's mean, weight 0.2
    406..511  zeros

A recogniser's own 512 numbers (ArcFace) fit in the same place, for `full` with a person's own file of one.
Weights that were trained with one definition are worth nothing with another: `DEFINITION` counts.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engines.face.cleaning import log_colour
from engines.face.mesh import face_model
from engines.face.zones import zones
from engines.identity import ATLAS_PX, Identity
from engines.types import Floats

DEFINITION = 1
WIDTH = 512
NOISE_CM = 0.15  # of a landmark: what of a shape the modes do not explain
CELLS = 13  # a side over the whole atlas
MOST_CELLS = 120
PARTS = {"shape": 40, "skin": 3, "irises": 3, "texture": 3 * MOST_CELLS}
WEIGHTS = {"shape": 1.0, "skin": 2.0, "irises": 1.0, "texture": 0.2}  # the many texture cells say the same thing often
WHITENING = Path(__file__).with_suffix(".safetensors")


def identity_vector(identity: Identity) -> Floats:
    """float32 [512], of length 1."""
    mean, spread = _whitening()
    weights = np.concatenate([np.full(PARTS[name], WEIGHTS[name]) for name in PARTS])
    entries = weights * (measured(identity) - mean) / spread
    vector = np.zeros(WIDTH)
    vector[: len(entries)] = entries / max(float(np.linalg.norm(entries)), 1e-12)
    return vector.astype(np.float32)


def measured(identity: Identity) -> NDArray[np.float64]:
    """Everything that the vector is made of, before whitening: float64 [406]."""
    shape = _shape_solver() @ (identity.shape_S3 - face_model().mean_S3).reshape(-1).astype(np.float64)
    skin = log_colour(identity.albedo_AA3[zones().plain].astype(np.float32)).mean(axis=0)
    irises = np.log(np.maximum(identity.iris_rgb, 1.0))
    return np.concatenate([shape, skin, irises, (_cells(identity) - skin).reshape(-1)])


@lru_cache(maxsize=1)
def _whitening() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread of `measured` over people who do not exist (examples/fit_identity_vector.py)."""
    stored = load_file(WHITENING)
    return stored["mean"].astype(np.float64), stored["spread"].astype(np.float64)


@lru_cache(maxsize=1)
def _shape_solver() -> NDArray[np.float64]:
    """Coefficients from offsets, [K, 3 S]: the modes have unit spread, so the prior's weight is 1."""
    modes = face_model().identity_KS3.reshape(len(face_model().identity_KS3), -1).astype(np.float64)
    solver: NDArray[np.float64] = np.linalg.solve(
        modes @ modes.T / NOISE_CM**2 + np.eye(len(modes)), modes / NOISE_CM**2
    )
    return solver


@lru_cache(maxsize=1)
def _cell_of_texel() -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The texels that count, [A, A], and for each of them its cell's number: cells that lie mostly in the outline."""
    at = np.arange(ATLAS_PX) * CELLS // ATLAS_PX
    number = at[:, None] * CELLS + at[None, :]
    inside = zones().inside
    share = np.bincount(number.ravel(), inside.ravel(), CELLS**2) / np.bincount(number.ravel(), minlength=CELLS**2)
    fullest = np.sort(np.argsort(-share, kind="stable")[:MOST_CELLS])
    rank = np.full(CELLS**2, -1)
    rank[fullest] = np.arange(MOST_CELLS)
    counts = inside & (rank[number] >= 0)
    return counts, rank[number[counts]]


def _cells(identity: Identity) -> NDArray[np.float64]:
    """Mean log colour of every cell, [120, 3]."""
    counts, cell = _cell_of_texel()
    colour = log_colour(identity.albedo_AA3[counts].astype(np.float32))
    texels = np.bincount(cell, minlength=MOST_CELLS)
    sums = [np.bincount(cell, colour[:, c], MOST_CELLS) for c in range(3)]
    cells: NDArray[np.float64] = np.stack(sums, axis=1) / np.maximum(texels, 1)[:, None]
    return cells
