"""Takes a photo's light, hair and gaps out of an unwrapped face texture.

Colours are natural logarithms of 8-bit values, where light is a sum. Legend: A = side of the atlas in texels.
Offline: nothing here is in the frame path.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import ndimage

from engines.face.relight import Light, fit_light, shading
from engines.face.zones import UNIT, Bools, Zones
from engines.identity import ATLAS_PX
from engines.types import Floats, Rgb

LUMINANCE = np.array([0.3, 0.6, 0.1], np.float32)
FLOOR = 4.0  # 8-bit value added before the logarithm, so that black stays finite
# Breadth in 64ths of the atlas, and the share of broad brightness and of broad shadow that is taken for light.
# The light's quadratic terms are half believed where it is carried on to skin that it was not fitted on.
HALF_QUADRATIC = np.array([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5], np.float32)
EVENED = ((3.0, 0.5, 0.4),)
FILL_SIGMAS = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 96.0)
# Contrast of skin in octaves of breadth, from what is broader than the first of CALM_SIGMAS (64ths of the atlas) to
# what is finer than the last: rms in log units over the plain skin of five photos in plain light. Skin may have twice
# as much (wrinkles, freckles), below the nose three times (beards); what goes beyond is a photographer's light.
CALM_SIGMAS = (6.0, 3.0, 1.5, 0.75, 0.35)
NATURAL_RMS = (0.038, 0.030, 0.028, 0.023, 0.017, 0.017)
SKIN_FREE, BEARD_FREE = 2.0, 3.0
FEATURE_BAND = 2  # from this one on a feature and its surroundings keep their contrast; broader ones are light
LEAST_SEEN = 100  # texels of skin, below which a photo's contrast is not known
TINT_FREE, LIT_FREE = (0.05, 0.15), (0.22, 0.6)  # log units that pass, and the share of what goes beyond


def log_colour(rgb: Rgb | Floats) -> Floats:
    """8-bit colour -> natural logarithm, finite at black."""
    return np.asarray(np.log(rgb.astype(np.float32) + np.float32(FLOOR)), np.float32)


def from_log(log_rgb: Floats) -> Rgb:
    """The inverse of log_colour, rounded and clipped to 8 bits."""
    return np.asarray(np.clip(np.exp(log_rgb) - FLOOR + 0.5, 0, 255).astype(np.uint8))


def light_and_foreign(log_rgb: Floats, normal: Floats, seen: Floats, places: Zones) -> tuple[Light, Bools]:
    """The photo's light, and the texels that are not this person's skin: hair that hangs in, rims of glasses."""
    step = max(ATLAS_PX // 128, 1)
    grid = (slice(None, None, step), slice(None, None, step))

    def fit(weight: Floats) -> Light:
        chosen = weight[grid] > 0
        return fit_light(normal[grid][chosen], log_rgb[grid][chosen], weight[grid][chosen])

    light = fit(seen * places.cheeks if (seen * places.cheeks > 0.3).mean() > 0.02 else seen * places.plain)
    foreign = _hair(log_rgb, normal, seen, places, light)
    light = fit(seen * (places.plain | (places.hairy & ~foreign)))
    return light, _hair(log_rgb, normal, seen, places, light)


def _hair(log_rgb: Floats, normal: Floats, seen: Floats, places: Zones, light: Light) -> Bools:
    """Texels of the hairy zones whose colour or roughness is not that of the plain skin. bool [A, A]."""
    linear = Light(light.coefficients_BC * HALF_QUADRATIC[:, None], light.mean_C)
    flat = log_rgb - shading(linear, normal.reshape(-1, 3).astype(np.float32)).reshape(log_rgb.shape) - light.mean_C
    luminance = flat @ LUMINANCE
    chroma = flat - luminance[..., None]
    sure = places.cheeks & (seen > 0.5)
    if not sure.any():
        return np.zeros_like(places.oval)
    middle, spread = _middle_and_spread(luminance[sure])
    luminance = luminance - middle
    tint_C, tint = _middle_and_spread(chroma[sure])
    chroma = chroma - tint_C
    mean = ndimage.gaussian_filter(luminance, 0.25 * UNIT)
    rough = np.sqrt(
        ndimage.gaussian_filter((luminance - ndimage.gaussian_filter(luminance, 0.6 * UNIT)) ** 2, 0.6 * UNIT)
    )
    smooth = float(np.median(rough[sure]))
    dark, strange, strands = -2.5 * spread - 0.08, 4 * tint + 0.06, 3 * smooth + 0.03
    odd = (mean < dark) | (np.abs(chroma).max(axis=-1) > strange) | (rough > strands)
    hairy = places.hairy & ~(places.beard if _bearded(mean, rough, smooth, places) else np.False_)
    odd &= hairy
    odd = ndimage.binary_opening(odd, iterations=max(int(0.2 * UNIT), 1))
    # Hair hangs from the rim: what is not joined to it is a mole, a wrinkle or a shadow and stays.
    rim = places.oval & ~ndimage.binary_erosion(places.oval, iterations=int(1.5 * UNIT))
    joined = ndimage.binary_propagation(
        odd & rim, mask=ndimage.binary_dilation(odd, iterations=int(0.5 * UNIT)) & places.oval
    )
    return np.asarray(ndimage.binary_dilation(joined, iterations=int(1.8 * UNIT)) & hairy)


def _bearded(mean: Floats, rough: Floats, smooth: float, places: Zones) -> bool:
    """Whether chin and upper lip are hairy: then what is dark along the jaw is a beard and belongs to the person."""
    rim = np.asarray(ndimage.distance_transform_edt(places.oval))
    middle = places.beard & places.plain & (rim > 8 * UNIT)
    return bool(np.median(mean[middle]) < -0.18 or np.median(rough[middle]) > 2.2 * smooth)


def _middle_and_spread(values: Floats) -> tuple[Floats, float]:
    """Median, per channel where there are several, and a robust standard deviation (1.48 MAD), at least 0.02."""
    middle = np.median(values, axis=0)
    return middle, max(1.48 * float(np.median(np.abs(values - middle))), 0.02)


def _pressed(deviation: Floats, free: float, share: float) -> Floats:
    """Lets a deviation through up to about `free`, and `share` of what goes beyond."""
    return np.asarray(free * np.tanh(deviation / free) * (1 - share) + share * deviation)


def evened(log_rgb: Floats, seen: Floats, places: Zones) -> Floats:
    """Takes out what the harmonics left of the light: highlights, cast shadows, coloured patches, none of it skin.

    Broad deviations of brightness and tint are measured on skin only (normalised convolution over what is no feature)
    and taken off; shadows below the nose mostly stay, since a beard looks the same. Tint that is far from the face's
    own is light as well, however small the patch: skin varies in brightness, hardly in tint.
    """
    sure = places.cheeks & (seen > 0.3)
    if not sure.any():
        return log_rgb
    middle = np.median(log_rgb[sure], axis=0)
    flat = log_rgb - middle
    beard = ndimage.gaussian_filter(places.beard.astype(np.float32), UNIT)
    for sigma, lit, shaded in EVENED:
        luminance = flat @ LUMINANCE
        weight = (seen * places.inside * ~places.features / (1 + (luminance / 0.5) ** 2)).astype(np.float32)
        total = ndimage.gaussian_filter(weight, sigma * UNIT) + 1e-4
        broad = ndimage.gaussian_filter(luminance * weight, sigma * UNIT) / total
        flat = flat - (np.where(broad > 0, lit, shaded * (1 - 0.8 * beard)) * broad)[..., None]
    luminance = flat @ LUMINANCE
    tint = flat - luminance[..., None]
    blood = ndimage.gaussian_filter(places.red.astype(np.float32), 0.5 * UNIT)[..., None]
    tint = tint * blood + _pressed(tint, *TINT_FREE) * (1 - blood)
    luminance = np.where((luminance > 0) & places.inside, _pressed(luminance, *LIT_FREE), luminance)
    # What is left of hair and its shadow along the hairline is held close to the skin.
    hairline = ndimage.gaussian_filter((places.hairy & ~places.beard & ~places.brows).astype(np.float32), 0.5 * UNIT)
    luminance = luminance + hairline * (_pressed(luminance, 0.1, 0.2) - luminance)
    return np.asarray(luminance[..., None] + tint + middle, np.float32)


def calmed(log_rgb: Floats, seen: Floats, places: Zones) -> Floats:
    """Takes the skin's contrast back to what skin has in plain light, octave by octave, where a photo has more.

    Portraits are lit from one side and made brilliant: what harmonics leave of it lies on the face like paint once it
    is drawn into the picture of an ordinary camera. Brows, eyes, lips and nostrils keep theirs, with the folds around
    them: likeness is in them, and calm skin about the driver's own eyes leaves the driver to be seen.
    """
    skin = places.plain & places.inside & ~places.features & (seen > 0.3)
    if skin.sum() < LEAST_SEEN:
        return log_rgb
    luminance = log_rgb @ LUMINANCE
    weight = (places.inside * ~places.features * seen + 1e-4).astype(np.float32)
    level = luminance - np.median(luminance[skin])
    softer = [_over_skin(level, weight, sigma) for sigma in CALM_SIGMAS]
    bands = [softer[0], *(fine - broad for broad, fine in pairwise([*softer, level]))]
    beard = ndimage.gaussian_filter(places.beard.astype(np.float32), UNIT)
    near = ndimage.binary_dilation(places.features, iterations=int(1.5 * UNIT))
    near = ndimage.gaussian_filter(near.astype(np.float32), 0.7 * UNIT)
    change = np.zeros_like(level)
    for number, (band, natural) in enumerate(zip(bands, NATURAL_RMS, strict=True)):
        plain = _share_of(band, skin & ~places.beard, SKIN_FREE * natural)
        bearded = _share_of(band, skin & places.beard, BEARD_FREE * natural)
        share = plain + beard * (bearded - plain)
        if number >= FEATURE_BAND:
            share += near * (1 - share)
        change += (share - 1) * band
    return np.asarray(log_rgb + change[..., None], np.float32)


def _over_skin(values: Floats, weight: Floats, sigma: float) -> Floats:
    """Blurred over what has weight, by normalised convolution. sigma in 64ths of the atlas."""
    total = ndimage.gaussian_filter(weight, sigma * UNIT) + 1e-4
    return np.asarray(ndimage.gaussian_filter(values * weight, sigma * UNIT) / total)


def _share_of(band: Floats, where: Bools, most_rms: float) -> float:
    """What a band is multiplied with so that its rms does not go beyond `most_rms`."""
    rms = float(np.sqrt(np.mean(band[where] ** 2))) if where.sum() >= LEAST_SEEN else 0.0
    return min(1.0, most_rms / max(rms, 1e-6))


def skin_white_balance(log_rgb: Floats, mean_C: Floats) -> Floats:
    """Moves a face's mean tint into the range of human skin: what lies outside of it is the photo's light.

    Range in log(red/green) and log(blue/green) of 8-bit sRGB, over the portraits and skins the project was tuned on.
    """
    ratio = np.array([mean_C[0] - mean_C[1], mean_C[2] - mean_C[1]])
    allowed = np.clip(ratio, (0.18, -0.42), (0.46, -0.10))
    move = (allowed - ratio) * 0.85
    shift = np.array([move[0], 0.0, move[1]])
    return np.asarray(log_rgb + shift - shift @ LUMINANCE, np.float32)


def filled(values_AAC: Floats, weight_AA: Floats) -> Floats:
    """Fills texels of low weight from their surroundings, coarse to fine (normalised convolution, Knutsson 1993)."""
    known_CAA = np.ascontiguousarray((values_AAC * weight_AA[..., None]).transpose(2, 0, 1), np.float32)
    planes = np.concatenate([known_CAA, weight_AA[None].astype(np.float32)])
    result_CAA = np.zeros_like(known_CAA)
    trust = np.zeros_like(planes[-1])
    for sigma in FILL_SIGMAS:
        blur = _blur_matrix(len(weight_AA), sigma)
        blurred = blur @ planes @ blur.T
        share = np.clip(blurred[-1] * 4, 0, 1) * (1 - trust)
        result_CAA += share / (blurred[-1] + np.float32(1e-6)) * blurred[:-1]
        trust += share
    gaps = (1 - planes[-1]) / np.maximum(trust, np.float32(1e-6))
    return np.ascontiguousarray((known_CAA + result_CAA * gaps).transpose(1, 2, 0))


@lru_cache(maxsize=len(FILL_SIGMAS))
def _blur_matrix(size: int, sigma: float) -> Floats:
    """A Gaussian along one axis as a product: wide ones take a tenth of the time of a filter. float32 [size, size]."""
    return np.asarray(ndimage.gaussian_filter1d(np.eye(size, dtype=np.float32), sigma, axis=0))
