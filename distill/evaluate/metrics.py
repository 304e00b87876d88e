"""How far a picture is from the true one. Pure NumPy: no torch, no faces, no files.

Pictures are uint8 [H, W, 3], sRGB; masks bool [H, W]. Every figure is NaN where the mask is empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from distill.colour import lab
from engines.types import Floats, Rgb

Mask = NDArray[np.bool_]
Image = NDArray[np.float64]

LUMA = np.array([0.2126, 0.7152, 0.0722])
SSIM_SIGMA_PX, SSIM_C1, SSIM_C2 = 1.5, (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al. 2004
LEFT_CHEEK, RIGHT_CHEEK = 454, 234  # between them lies the face's width
PSNR_CEILING_DB = 99.0  # of equal pictures


def psnr(result: Rgb, truth: Rgb, mask: Mask) -> float:
    """Peak signal to noise inside the mask, dB, over all channels; higher is better."""
    if not mask.any():
        return float("nan")
    error = result[mask].astype(np.float64) - truth[mask]
    mean_square = float(np.mean(error**2))
    return PSNR_CEILING_DB if mean_square == 0 else min(10 * float(np.log10(255**2 / mean_square)), PSNR_CEILING_DB)


def rms(result: Rgb, truth: Rgb, mask: Mask) -> float:
    """Root mean square error inside the mask, levels, over all channels."""
    if not mask.any():
        return float("nan")
    return float(np.sqrt(np.mean((result[mask].astype(np.float64) - truth[mask]) ** 2)))


def ssim(result: Rgb, truth: Rgb, mask: Mask) -> float:
    """Mean structural similarity of luma inside the mask, Gaussian window of 1.5 px (Wang et al. 2004); 1 is equal."""
    if not mask.any():
        return float("nan")
    a, b = result @ LUMA, truth @ LUMA

    def smooth(image: Image) -> Image:
        return np.asarray(ndimage.gaussian_filter(image, SSIM_SIGMA_PX, truncate=3.5))

    mean_a, mean_b = smooth(a), smooth(b)
    variance_a, variance_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    similarity = ((2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_a**2 + mean_b**2 + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    )
    return float(similarity[mask].mean())


def colour_error(result: Rgb, truth: Rgb, mask: Mask) -> float:
    """Mean CIE76 difference of single pixels inside the mask. 2 can just be seen side by side."""
    if not mask.any():
        return float("nan")
    return float(np.linalg.norm(lab(result[mask]) - lab(truth[mask]), axis=1).mean())


def tone_shift(result: Rgb, truth: Rgb, mask: Mask) -> Image:
    """Mean colour of the result minus the truth's inside the mask: L, a, b. L > 0 is too pale. float64 [3]."""
    if not mask.any():
        return np.full(3, np.nan)
    return np.asarray(lab(result[mask]).mean(axis=0) - lab(truth[mask]).mean(axis=0))


def temporal_error(result: Rgb, before: Rgb, truth: Rgb, truth_before: Rgb, mask: Mask) -> float:
    """Root mean square of the difference of both frame differences inside the mask, levels: flicker, lag, jumps."""
    if not mask.any():
        return float("nan")
    moved = result[mask].astype(np.float64) - before[mask]
    should = truth[mask].astype(np.float64) - truth_before[mask]
    return float(np.sqrt(np.mean((moved - should) ** 2)))


def seam(result: Rgb, truth: Rgb, mask: Mask, band_px: int) -> float:
    """Edges on the mask's border that the truth has not: mean excess of luma's gradient, levels per pixel.

    The truth's gradient is taken as the largest within 2 px, so that an edge a little off is no seam.
    """
    reach = max(band_px, 1)
    band = ndimage.binary_dilation(mask, iterations=reach) & ~ndimage.binary_erosion(mask, iterations=reach)
    if not band.any():
        return float("nan")
    excess = _gradient(result) - ndimage.maximum_filter(_gradient(truth), 5)
    return float(np.maximum(excess[band], 0).mean())


def _gradient(rgb: Rgb) -> Image:
    rows, columns = np.gradient(rgb @ LUMA)
    return np.asarray(np.hypot(rows, columns))


def face_width_px(landmarks_N3: Floats) -> float:
    """Distance of both cheeks in space, so that a turned face is as wide as a frontal one."""
    return float(np.linalg.norm(landmarks_N3[LEFT_CHEEK] - landmarks_N3[RIGHT_CHEEK]))


def landmark_error(found_N3: Floats, true_N3: Floats, width_px: float) -> float:
    """Mean distance of landmarks in the picture, per cent of the face's width."""
    return float(np.linalg.norm(found_N3[:, :2] - true_N3[:, :2], axis=1).mean() / width_px * 100)
