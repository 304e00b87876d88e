"""How far a face is from the one that float32 draws, in figures that an eye has an opinion on.

Colours in CIE Lab (D65); differences are distances there (dE, CIE 1976): 1 is just visible on two fields side by side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.engine_manifest import FaceLimits, FaceResult
from engines.runtimes.base import Array

INSIDE = 0.5  # of the mask
LEVELS = 127.5  # of 255, for one of -1..1
FIGURES = ("rms", "most", "colour", "tone")
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _XYZ.sum(axis=1)


def face_error(frame: int, drawn_B3SS: Array, truth_B3SS: Array, mask_B1SS: Array) -> FaceResult:
    """Inside the mask, over all rows. Pictures -1..1."""
    inside_BSS = mask_B1SS[:, 0] > INSIDE
    drawn_N3, truth_N3 = (np.moveaxis(np.asarray(one), 1, -1)[inside_BSS] for one in (drawn_B3SS, truth_B3SS))
    off = (drawn_N3.astype(np.float64) - truth_N3) * LEVELS
    drawn_lab, truth_lab = lab(drawn_N3), lab(truth_N3)
    return FaceResult(
        frame=frame,
        rms=_short(float(np.sqrt(np.mean(off**2)))),
        most=_short(float(np.percentile(np.abs(off), 99))),
        colour=_short(float(np.linalg.norm(drawn_lab - truth_lab, axis=-1).mean())),
        tone=_short(float(np.linalg.norm(drawn_lab.mean(axis=0) - truth_lab.mean(axis=0)))),
    )


def lab(picture_N3: Array) -> NDArray[np.float64]:
    """sRGB -1..1 to Lab."""
    srgb = np.clip((picture_N3.astype(np.float64) + 1) / 2, 0, 1)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    share = linear @ (_XYZ / _WHITE[:, None]).T
    bent = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    x, y, z = bent[:, 0], bent[:, 1], bent[:, 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def first_too_far(results: tuple[FaceResult, ...], limits: FaceLimits) -> str:
    """The first figure beyond its limit, in words; empty if there is none. Anything that is no number is beyond."""
    for result in results:
        for figure in FIGURES:
            value, limit = getattr(result, figure), getattr(limits, figure)
            if not value <= limit:
                return f"{WORDS[figure]} of the face in frame {result.frame} is {value:.2g}, and {limit:.2g} is allowed"
    early = [result.rms for result in results if result.frame <= 1]
    late = [result.rms for result in results if result.frame > 1]
    if early and late and not max(late) <= limits.growth * max(early):
        grown = max(late) / max(max(early), 1e-9)
        return f"the error of the face grows {grown:.2g} times over the frames, and {limits.growth:.2g} is allowed"
    return ""


WORDS = {
    "rms": "the error (rms, levels of 255)",
    "most": "the error (99th percentile, levels of 255)",
    "colour": "the colours' error (Lab dE)",
    "tone": "the mean colour's error (Lab dE)",
}


def _short(value: float) -> float:
    return float(f"{value:.3g}")
