"""Who the face is: retrieval, cosine, and how steady both are over time. Pure functions of unit vectors.

L looks   G people in the gallery   D width of the judge's vectors
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mean_face(photos_PD: Array) -> Array:
    """One vector of length 1 of several photos; [0] of none."""
    if not len(photos_PD):
        return np.zeros(0)
    middle = photos_PD.mean(axis=0)
    return np.asarray(middle / np.linalg.norm(middle))


def cosines(vectors_LD: Array, one_D: Array) -> Array:
    """[L]; NaN where a vector is missing (a row of NaN), or `one` is."""
    if vectors_LD.shape[1:] != one_D.shape or not len(one_D):
        return np.full(len(vectors_LD), np.nan)
    return np.asarray(vectors_LD @ one_D)


def ranks(vectors_LD: Array, gallery: Mapping[str, Array], own: str) -> Array:
    """How many of the gallery are at least as near as the one it should be: 1 is found first. [L], NaN unknown.

    Who is exactly as near as the right one counts as nearer: a swapper gains nothing where a judge cannot tell.
    """
    if own not in gallery or not len(gallery[own]):
        return np.full(len(vectors_LD), np.nan)
    right = cosines(vectors_LD, gallery[own])
    others = [cosines(vectors_LD, vector) for name, vector in gallery.items() if name != own and len(vector)]
    nearer = np.sum([other >= right for other in others], axis=0) if others else np.zeros(len(right))
    return np.where(np.isnan(right), np.nan, 1 + nearer)


def found_within(ranks_L: Array, first: int) -> float:
    """Share of looks in which the right one is among the first few."""
    known = ranks_L[~np.isnan(ranks_L)]
    return float((known <= first).mean()) if len(known) else float("nan")


def frame_to_frame(pairs_L2D: Array) -> float:
    """VIDD (GaussianSwap): mean distance of a face's vectors in neighbouring frames. 0 is perfectly steady."""
    if not pairs_L2D.size:
        return float("nan")
    apart = np.linalg.norm(pairs_L2D[:, 1] - pairs_L2D[:, 0], axis=1)
    known = apart[~np.isnan(apart)]
    return float(known.mean()) if len(known) else float("nan")


def variance(cosines_L: Array) -> float:
    """Variance over time of the likeness to the identity (DreamID-V's "ID variance")."""
    known = cosines_L[~np.isnan(cosines_L)]
    return float(known.var()) if len(known) > 1 else float("nan")


def same_network(judges: Mapping[str, Sequence[str]], known: Mapping[str, str]) -> list[str]:
    """A warning for each judge that is a network which the swapper was trained with, or draws with.

    judges: name -> sha256 of its files. known: sha256 -> what it was used for.
    """
    return [
        f"the judge {judge} is biased: it is the network of {known[sha256]}"
        for judge, files in judges.items()
        for sha256 in files
        if sha256 in known
    ]
