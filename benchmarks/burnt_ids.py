"""Numbers burnt into pictures: fat luma blocks that survive an encoder, to tell a picture at the far end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engines.types import Rgb

NUMBER_BITS, CHECK_BITS = 12, 4
BITS = NUMBER_BITS + CHECK_BITS
NUMBERS = 1 << NUMBER_BITS
DARK, BRIGHT = 20, 235
LEAST_SWING = 60.0  # between a bright and a dark block: a blurred or drawn-over strip has none


def block_px(height_px: int, width_px: int) -> int:
    """The side of one block: one row of them fits into the upper left, clear of the label in the upper right."""
    return min(height_px // 20, width_px // 26)


def burn(rgb_HW3: Rgb, number: int) -> None:
    """Writes the number (modulo 4096) with its check bits into uint8 [H, W, 3], in place."""
    side_px = block_px(*rgb_HW3.shape[:2])
    word = _word(number % NUMBERS)
    for bit in range(BITS):
        left = bit * side_px
        rgb_HW3[:side_px, left : left + side_px] = BRIGHT if word >> bit & 1 else DARK


def read(luma_HW: npt.NDArray[np.uint8]) -> int | None:
    """The number in a picture's luma, or None where none can be read."""
    side_px = block_px(*luma_HW.shape)
    inner = slice(side_px // 4, side_px - side_px // 4)
    strip = luma_HW[inner, : BITS * side_px].reshape(-1, BITS, side_px)[:, :, inner].mean((0, 2))
    if strip.max() - strip.min() < LEAST_SWING:
        return None
    word = sum(1 << bit for bit in range(BITS) if strip[bit] > (DARK + BRIGHT) / 2)
    number = word % NUMBERS
    return number if _word(number) == word else None


def _word(number: int) -> int:
    """The number with check bits above it. All blocks alike is never a word, so that a plain picture is none."""
    check = (number ^ number >> 4 ^ number >> 8 ^ 0b0101) & (1 << CHECK_BITS) - 1
    return check << NUMBER_BITS | number
