"""The pattern that the invisible mark adds: a tile of chips, known to everybody, that carries the payload's code.

Legend: a chip is one cell of the tile, +1 or -1. A frame is 60 chips high (its shorter side; a chip is 12 pixels at
1280x720), whatever its size, so that scaling a whole frame moves nothing. The tile of 30 x 40 chips is laid from the
upper left corner and repeats: a quarter of a 4:3 frame still holds all of it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.marks.payload import CODED_BITS, Payload, encode
from engines.types import Floats

CHIPS_ACROSS_SHORTER_SIDE = 60
TILE_ROWS, TILE_COLUMNS = 30, 40
CHIPS = TILE_ROWS * TILE_COLUMNS
SYNC_CHIPS = 408  # the rest carry the code
_KEY = b"vividstream mark 1"

Signs = NDArray[np.int8]
Places = NDArray[np.int64]


def _random(label: bytes, count: int) -> NDArray[np.uint32]:
    """Numbers that are the same everywhere and for ever: SHA-256 in counter mode."""
    blocks = -(-count * 4 // 32)
    stream = b"".join(hashlib.sha256(_KEY + label + i.to_bytes(4, "big")).digest() for i in range(blocks))
    return np.frombuffer(stream, dtype=">u4")[:count].astype(np.uint32)


@lru_cache(maxsize=1)
def roles() -> Places:
    """Which coded bit each chip of the tile carries, -1 for synchronisation. int64 [TILE_ROWS * TILE_COLUMNS]."""
    order = np.argsort(_random(b"order", CHIPS), kind="stable")
    bit = np.full(CHIPS, -1, np.int64)
    bit[order[SYNC_CHIPS:]] = np.arange(CHIPS - SYNC_CHIPS) % CODED_BITS
    return bit


@lru_cache(maxsize=1)
def signs() -> Signs:
    """The sign of each chip of the tile, which its coded bit multiplies: int8 [TILE_ROWS * TILE_COLUMNS]."""
    return np.where(_random(b"signs", CHIPS) & 1, 1, -1).astype(np.int8)


def sync_tile() -> Floats:
    """The chips that are always the same, 0 elsewhere: float32 [TILE_ROWS, TILE_COLUMNS]."""
    return np.where(roles() < 0, signs(), 0).astype(np.float32).reshape(TILE_ROWS, TILE_COLUMNS)


def tile_of(payload: Payload) -> Floats:
    """All chips of a payload, +-1: float32 [TILE_ROWS, TILE_COLUMNS]."""
    coded = encode(payload)
    values = np.where(roles() < 0, 1.0, coded[roles()]) * signs()
    return values.astype(np.float32).reshape(TILE_ROWS, TILE_COLUMNS)


def soft_bits(chips: Floats) -> Floats:
    """What a measured tile says of each coded bit. float32 [TILE_ROWS, TILE_COLUMNS] -> float32 [CODED_BITS]."""
    carries = roles() >= 0
    values = chips.ravel()[carries] * signs()[carries]
    return np.bincount(roles()[carries], values, CODED_BITS).astype(np.float32)


def chip_px(height_px: int, width_px: int) -> float:
    """Side of a chip in a frame of that size, pixels."""
    return min(height_px, width_px) / CHIPS_ACROSS_SHORTER_SIDE


def between(length_px: int, side_px: float) -> tuple[Places, Floats]:
    """For each pixel the chip before its centre (-1 at first), and how far it lies on the way to the next, 0..1."""
    at = (np.arange(length_px) + 0.5) / side_px - 0.5
    before = np.floor(at)
    return before.astype(np.int64), (at - before).astype(np.float32)


def spread(tile: Floats, height_px: int, width_px: int, side_px: float) -> Floats:
    """A tile laid over a frame from its upper left corner, chips joined by straight lines: float32 [height, width]."""
    rows, row_share = between(height_px, side_px)
    columns, column_share = between(width_px, side_px)
    down = tile[rows % TILE_ROWS] * (1 - row_share[:, None]) + tile[(rows + 1) % TILE_ROWS] * row_share[:, None]
    left, right = down[:, columns % TILE_COLUMNS], down[:, (columns + 1) % TILE_COLUMNS]
    return np.asarray(left * (1 - column_share) + right * column_share, np.float32)
