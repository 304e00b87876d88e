"""How a result moves, held against the input: warp error, flicker, frame-difference energy, drift. Pure functions.

S side of the aligned crop (`CROP_PX`), into which the head's own motion is taken out: both videos are cut with the
transform of the driver's landmarks. The flow is that of the *input*: a result that has the identity's skin move as the
driver's does is right, however it looks. Pictures float32 [S, S, 3], levels 0..255; masks bool [S, S].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from distill.colour import lab
from distill.evaluate.flow import consistent, flow, warped
from distill.evaluate.metrics import LUMA, Mask
from engines.types import Floats, Rgb

CROP_PX = 128
PATCH_PX = 8.0  # standard deviation: what is coarser than this is light and colour, what is finer is texture
LEAST_SEEN = 0.2  # of the mask: where less of it can be followed, nothing is said


@dataclass(frozen=True, slots=True)
class Motion:
    """Two neighbouring frames of one video, after `now` has been laid over `before` by the input's flow. Levels.

    warp     root mean square of what is left, in the face: texture that does not move with the skin, and jumps
    patches  the same of what is left after blurring by PATCH_PX: light and colour that jump
    energy   mean square of the plain frame difference, in the face
    """

    warp: float
    patches: float
    energy: float


UNKNOWN = Motion(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Path:
    """The input's flow from `now` to `before`, and where it can be trusted."""

    flow_SS2: Floats
    sure_SS: Mask


def path(now_SS3: Rgb, before_SS3: Rgb) -> Path:
    """Of the driver's two crops."""
    now, before = (np.asarray(picture @ LUMA, np.float32) for picture in (now_SS3, before_SS3))
    there = flow(now, before)
    return Path(there, consistent(there, flow(before, now)))


def motion(now_SS3: Rgb, before_SS3: Rgb, way: Path, mask_SS: Mask) -> Motion:
    """What two neighbouring crops of any video do along the input's flow, inside the mask."""
    seen = mask_SS & way.sure_SS
    if not mask_SS.any() or seen.sum() < LEAST_SEEN * mask_SS.sum():
        return UNKNOWN
    now, before = now_SS3.astype(np.float32), before_SS3.astype(np.float32)
    left = now - warped(before, way.flow_SS2)
    return Motion(
        warp=float(np.sqrt((left[seen] ** 2).mean())),
        patches=float(np.sqrt((_coarse(left, seen)[seen] ** 2).mean())),
        energy=float(((now - before)[mask_SS] ** 2).mean()),
    )


def _coarse(left: Floats, seen: Mask) -> Floats:
    """Blurred inside of what is seen alone."""
    weight = ndimage.gaussian_filter(seen.astype(np.float32), PATCH_PX)
    planes = [ndimage.gaussian_filter(left[..., c] * seen, PATCH_PX) / np.maximum(weight, 1e-6) for c in range(3)]
    return np.stack(planes, -1)


def mean_lab(crop_SS3: Rgb, mask_SS: Mask) -> NDArray[np.float64]:
    """Mean colour inside the mask: L, a, b. NaN where the mask is empty."""
    return np.asarray(lab(crop_SS3[mask_SS]).mean(axis=0)) if mask_SS.any() else np.full(3, np.nan)


def drift(at_s: ArrayLike, values: ArrayLike, over_s: float = 300.0) -> float:
    """How far a value strays over that time: the length of its slope, by least squares. [N] and [N] or [N, K].

    NaN for fewer than four known values, or values over no time.
    """
    when = np.asarray(at_s, np.float64)
    what = np.asarray(values, np.float64).reshape(len(when), -1)
    known = ~np.isnan(what).any(axis=1)
    when, what = when[known], what[known]
    if len(when) < 4 or not np.ptp(when) > 0:
        return float("nan")
    centred = when - when.mean()
    slope = centred @ (what - what.mean(axis=0)) / (centred @ centred)
    return float(np.linalg.norm(slope) * over_s)
