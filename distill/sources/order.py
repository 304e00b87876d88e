"""Which sample comes when: pure functions of seed and number, so that any point of a run can be reached at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 120  # samples over which the sources' weights hold exactly (each source's share is a whole number of them)
OF_BLOCKS, OF_EPOCHS = 101, 202  # keep the two kinds of chance apart


def nth(seed: int, clips: bool, ordinal: int, items: int) -> int:
    """The item of that number where all items come once in each epoch, every epoch in an order of its own."""
    epoch, place = divmod(ordinal, items)
    return int(_epoch(seed, clips, epoch, items)[place])


@lru_cache(maxsize=8)
def _epoch(seed: int, clips: bool, epoch: int, items: int) -> NDArray[np.int64]:
    return np.random.default_rng((OF_EPOCHS, seed, clips, epoch)).permutation(items)


def source_of(seed: int, clips: bool, number: int, shares: Sequence[int]) -> tuple[int, int]:
    """Source and ordinal within it of sample `number`; `shares`: each source's samples in a block, BLOCK in all."""
    block, place = divmod(number, BLOCK)
    order = _block(seed, clips, block, tuple(shares))
    source = int(order[place])
    return source, block * shares[source] + int((order[:place] == source).sum())


@lru_cache(maxsize=8)
def _block(seed: int, clips: bool, block: int, shares: tuple[int, ...]) -> NDArray[np.int64]:
    order = np.repeat(np.arange(len(shares)), shares)
    return np.random.default_rng((OF_BLOCKS, seed, clips, block)).permutation(order)


def shares_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole shares of BLOCK, as near to the weights as can be; who has any weight has at least one.

    Raises ValueError for weights that are negative, not finite or all zero.
    """
    values = np.asarray(weights, np.float64)
    if not len(values) or not np.isfinite(values).all() or (values < 0).any() or not values.sum():
        raise ValueError(f"weights must be 0 or more and not all 0, not {list(weights)}")
    exact = BLOCK * values / values.sum()
    shares = np.where(values > 0, np.maximum(np.floor(exact), 1), 0).astype(int)
    while shares.sum() != BLOCK:
        step = 1 if shares.sum() < BLOCK else -1
        room = np.where((values > 0) & (shares + step > 0), step * (exact - shares), -np.inf)
        shares[int(room.argmax())] += step
    return tuple(shares.tolist())
