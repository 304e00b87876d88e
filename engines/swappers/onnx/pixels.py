"""Pictures as swappers take and give them, where the paste of a swapped face may begin, and its colours.

S side of the crop in pixels; crops are uint8 [S, S, 3] RGB, swapped faces float32 [3, S, S] RGB 0..1.
"""

from __future__ import annotations

import numpy as np

from engines.pixels import gaussian_blur
from engines.runtimes.base import Array
from engines.swappers.onnx.contracts import Contract
from engines.types import Floats, Rgb

BORDER = 0.08  # of the side: over it the face fades in from the crop's edge
SHARPER, SHARPER_PX = 0.75, 2.0  # DFM: by how much, and sigma
DFM_ERODED_PX, DFM_SOFT_PX = 2, 6.25
LEAST_GAIN, MOST_GAIN = 0.6, 1.6


def taken(crop_SS3: Rgb, contract: Contract) -> Floats:
    """The crop as planes, float32 [1, 3, S, S], by the contract's mean and spread."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (contract.mean, contract.std))
    planes = crop_SS3.transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 255)
    return np.ascontiguousarray(((planes - mean) / std)[None], np.float32)


def given(output: Array, contract: Contract) -> Floats:
    """The picture that came out, [1, 3, S, S], as a face 0..1."""
    face = output[0] * np.float32(0.5) + np.float32(0.5) if contract.signed else output[0]
    return np.asarray(np.clip(face, 0, 1), np.float32)


def taken_dfm(crop_SS3: Rgb) -> Floats:
    """The crop sharpened, float32 [1, S, S, 3], BGR 0..1, in whole levels."""
    planes = crop_SS3.astype(np.float32)
    soft = np.stack([gaussian_blur(np.ascontiguousarray(planes[..., c]), SHARPER_PX) for c in range(3)], axis=2)
    sharp = np.clip(np.rint(planes + SHARPER * (planes - soft)), 0, 255)
    return np.ascontiguousarray(sharp[None, ..., ::-1] / np.float32(255), np.float32)


def given_dfm(picture: Array, masks: tuple[Array, Array]) -> tuple[Floats, Floats]:
    """Picture [1, S, S, 3] BGR and two masks [1, S, S, 1] -> the face, and where it is, float32 [S, S] 0..1."""
    face = np.clip(picture[0, ..., ::-1].transpose(2, 0, 1), 0, 1)
    where = np.clip(np.minimum(masks[0][0, ..., 0], masks[1][0, ..., 0]), 0, 1).astype(np.float32)
    for _ in range(DFM_ERODED_PX):
        edged = np.pad(where, 1, mode="edge")
        sides = [edged[:-2, 1:-1], edged[2:, 1:-1], edged[1:-1, :-2], edged[1:-1, 2:]]
        where = np.minimum.reduce([where, *sides])
    soft: Floats = gaussian_blur(np.ascontiguousarray(where), DFM_SOFT_PX)
    return np.ascontiguousarray(face, np.float32), soft


def fading(side_px: int) -> Floats:
    """0 at the crop's edge, 1 inside of its border, float32 [S, S]: many templates cut the chin off."""
    from_edge = np.minimum(np.arange(side_px), np.arange(side_px)[::-1]) / (BORDER * side_px)
    ramp = np.clip(from_edge, 0, 1).astype(np.float32)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.minimum(ramp[:, None], ramp[None, :])


def split(crop_KK3: Rgb, times: int) -> list[Rgb]:
    """A crop `times` as large as the swapper's, as times x times pictures of every n-th pixel."""
    return [np.ascontiguousarray(crop_KK3[y::times, x::times]) for y in range(times) for x in range(times)]


def joined(faces: list[Floats]) -> Floats:
    """What became of the pictures of `split`, as one face."""
    times = round(len(faces) ** 0.5)
    side = faces[0].shape[1] * times
    whole = np.empty((3, side, side), np.float32)
    for number, face in enumerate(faces):
        whole[:, number // times :: times, number % times :: times] = face
    return whole


def change(face_3SS: Floats, crop_SS3: Rgb, weight_SS: Floats) -> float:
    """How far the face is from the driver's own, over where it will be seen, as a share of its brightness."""
    own = crop_SS3.transpose(2, 0, 1) * np.float32(1 / 255)
    return float((weight_SS * np.abs(face_3SS - own)).sum() / max(float((weight_SS * own).sum()), 1e-3))


def colour_gains(face_3SS: Floats, crop_SS3: Rgb, weight_SS: Floats) -> Floats | None:
    """Per channel, gain and shift that give the face the mean and spread of the driver's own: float32 [2, 3].

    On 0..1, over where the face will be seen; Reinhard et al., "Color transfer between images", 2001, in RGB.
    None where nothing will be seen.
    """
    total = float(weight_SS.sum())
    if total < 16:
        return None
    share = weight_SS / total
    own = crop_SS3.transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 255)
    mean_own, mean_face = ((share * planes).sum(axis=(1, 2)) for planes in (own, face_3SS))
    var_own = (share * (own - mean_own[:, None, None]) ** 2).sum(axis=(1, 2))
    var_face = (share * (face_3SS - mean_face[:, None, None]) ** 2).sum(axis=(1, 2))
    gain = np.clip(np.sqrt((var_own + 1e-6) / (var_face + 1e-6)), LEAST_GAIN, MOST_GAIN)
    return np.asarray(np.stack([gain, mean_own - gain * mean_face]), np.float32)


def toned(face_3SS: Floats, gains_23: Floats, share: float) -> Floats:
    """The face taken part of the way to the driver's colours."""
    gain, shift = (1 - share) + share * gains_23[0], share * gains_23[1]
    return np.asarray(np.clip(face_3SS * gain[:, None, None] + shift[:, None, None], 0, 1), np.float32)
