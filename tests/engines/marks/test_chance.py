"""What an unmarked picture can score: the bound holds over random signs, of the sum that it is proved for."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from engines.marks.chance import ALARM, WAYS, chance_log10, found_log10, needed, read_log10, tail_log10
from engines.marks.detect import (
    ALIGNED_LOOKS,
    LARGEST,
    SAMPLES,
    SEARCHED_LOOKS,
    SIZES,
    SMALLEST,
    STEP,
    Known,
    code_at,
    known,
    read,
)
from engines.marks.pattern import CHIPS, SYNC_CHIPS, TILE_COLUMNS, TILE_ROWS, spread, sync_tile, tile_of
from engines.marks.payload import Payload, decode_all, encode
from engines.types import Floats

SIZE = TILE_ROWS * SAMPLES, TILE_COLUMNS * SAMPLES


def other_signs(random: np.random.Generator) -> Known:
    tile = np.zeros(CHIPS, np.float32)
    tile[random.permutation(CHIPS)[:SYNC_CHIPS]] = random.choice([-1, 1], SYNC_CHIPS)
    return Known(tile.reshape(TILE_ROWS, TILE_COLUMNS))


def few_places_carry_all(random: np.random.Generator) -> Floats:
    """A picture whose sum hangs on a few flat places, and is not a Gaussian's at all."""
    tile = random.normal(0, 0.01, SIZE)
    for y, x in zip(random.integers(0, SIZE[0] - 8, 3), random.integers(0, SIZE[1] - 8, 3)):
        tile[y : y + 8, x : x + 8] += random.choice([-30, 30])
    return tile.astype(np.float32)


def test_no_picture_exceeds_the_bound_over_the_signs() -> None:
    random = np.random.default_rng(0)
    scores = np.stack([other_signs(random).scores(few_places_carry_all(random), 2) for _ in range(60)])
    for level in (2.0, 3.0, 4.0, 5.0):
        assert np.mean(scores > level) <= 10 ** chance_log10(level, 0.0)
    assert scores.std() > 0.5, "it is no empty bound: scores are there"


def test_a_score_is_the_sum_over_chips_that_it_is_said_to_be() -> None:
    random = np.random.default_rng(1)
    folded = random.normal(size=SIZE).astype(np.float32)
    row, column = 17, 90
    tile, shape = sync_tile(), np.zeros((TILE_ROWS, TILE_COLUMNS), np.float32)
    shape[0, 0] = 1
    one = spread(shape, *SIZE, SAMPLES)
    for mirrored, signs in enumerate((tile, tile[:, ::-1])):
        places = np.argwhere(signs)
        centred = folded - folded.mean()
        held = [
            float((np.roll(one, (SAMPLES * y + row, SAMPLES * x + column), (0, 1)) * centred).sum()) for y, x in places
        ]
        of = signs[tuple(places.T)]
        assert known().scores(folded, 2)[mirrored, row, column] == pytest.approx(
            float(of @ held / np.linalg.norm(held)), abs=1e-3
        )


def test_the_mark_scores_as_high_as_can_be_and_its_mirror_too() -> None:
    whole = spread(tile_of(Payload(1, 2)), *SIZE, SAMPLES)
    straight, mirrored = known().scores(whole)[0], known().scores(np.ascontiguousarray(whole[:, ::-1]), 2)[1]
    for scores in (straight, mirrored):
        assert scores.argmax() == 0
        assert 0.8 * SYNC_CHIPS**0.5 < scores.max() <= SYNC_CHIPS**0.5
    soft = code_at(whole, 0, 0, False)
    assert np.array_equal(np.sign(soft), encode(Payload(1, 2)))
    assert soft @ encode(Payload(1, 2)) <= (CHIPS - SYNC_CHIPS) ** 0.5 + 1e-3


def test_words_keep_the_bound_and_noise_is_never_read() -> None:
    random = np.random.default_rng(2)
    words = np.stack([encode(Payload(int(n), 5)) for n in random.integers(0, 1 << 24, 200)])
    soft = np.stack([code_at(random.normal(size=SIZE).astype(np.float32), 0, 0, False) for _ in range(100)])
    for level in (2.0, 3.0, 4.0):
        assert np.mean(soft @ words.T > level) <= 10 ** chance_log10(level, 0.0)
    assert (soft @ words.T).std() == pytest.approx(1, abs=0.06), "in standard deviations"
    assert decode_all(soft) == [None] * len(soft)


@pytest.mark.parametrize("chips", [1, 2, 3, 5, 9, 14])
def test_no_sum_of_signs_exceeds_the_bound_and_two_chips_are_all_of_it(chips: int) -> None:
    """Every sign of every sum, and the theorem's own worst case: there the bound is the chance itself."""
    random = np.random.default_rng(chips)
    signs = np.array(list(product((-1, 1), repeat=chips)))
    for strength in (np.ones(chips), random.exponential(size=chips), random.normal(size=chips) ** 3):
        sums = np.sort(signs @ (strength / np.linalg.norm(strength)))[::-1]
        for rank in np.flatnonzero(sums > 0):
            assert (rank + 1) / len(sums) <= 10 ** chance_log10(float(sums[rank]) - 1e-9, 0.0) * (1 + 1e-6)
    if chips == 2:
        assert 10 ** chance_log10(math.sqrt(2), 0.0) == pytest.approx(1 / 4, rel=1e-9)


@pytest.mark.parametrize("score", [0.5, 2.0, 4.9, 5.1, 6.0, 8.1, 12.0, 20.0])
def test_tails_are_those_of_a_gaussian_and_never_less(score: float) -> None:
    exact = float(norm.logsf(score)) / math.log(10)
    assert exact - 1e-9 <= tail_log10(score) <= exact + 0.02


def test_chances_are_those_of_a_gaussian_times_a_constant() -> None:
    assert tail_log10(0) == pytest.approx(np.log10(0.5))
    assert tail_log10(4.7534) == pytest.approx(-6, abs=0.01)
    assert tail_log10(5.001) == pytest.approx(tail_log10(4.999), abs=0.03)
    assert chance_log10(-5, 6) == 0
    assert found_log10(6, 9) == pytest.approx(tail_log10(6) + np.log10(3.1786551 * 9 * WAYS), abs=1e-6)


def test_the_score_of_a_word_is_that_of_its_chips() -> None:
    """Sign times what the tile holds there, over the root of the sum of squares, chip by chip."""
    folded = np.random.default_rng(3).normal(size=SIZE).astype(np.float32)
    payload, row, column = Payload(77, 5), 6, 31
    chips, signs, carries = read(folded, row, column, False), tile_of(payload), sync_tile() == 0
    assert carries.sum() == CHIPS - SYNC_CHIPS
    wanted = float((chips * signs)[carries].sum() / np.linalg.norm(chips[carries]))
    assert code_at(folded, row, column, False) @ encode(payload) == pytest.approx(wanted, abs=1e-4)


def test_all_ways_to_be_found_are_counted() -> None:
    """Known chips, code, both; where it lies or anywhere, of the mean or of what stands still; in turned frames."""
    assert 3 * (len(("lies", "anywhere")) * len(("mean", "still")) + len(("turned",))) == WAYS
    words = 40 * math.log10(2)
    alone = tail_log10(12) + math.log10(3.1786551 * 100 * WAYS) + words
    assert read_log10(0.0, 12.0, SEARCHED_LOOKS, 100) == pytest.approx(alone, abs=1e-6)
    known, code = 9.0, 11.0  # of chips that are as strong everywhere: over all of them one sum, of that score
    together = (known * math.sqrt(SYNC_CHIPS) + code * math.sqrt(CHIPS - SYNC_CHIPS)) / math.sqrt(CHIPS)
    both = tail_log10(together) + math.log10(3.1786551 * SEARCHED_LOOKS * WAYS) + words
    assert read_log10(known, code, SEARCHED_LOOKS, 100) == pytest.approx(both, abs=1e-6)
    assert 2 * SIZES * 6 * CHIPS * SAMPLES**2 == SEARCHED_LOOKS
    assert math.log(LARGEST / SMALLEST) / STEP <= SIZES


def test_a_code_counts_alone_or_together_with_the_known_chips() -> None:
    assert read_log10(5.0, 7.0, SEARCHED_LOOKS, 100) == 0, "2**40 words: one of them is that near to anything"
    assert read_log10(0.0, 12.0, SEARCHED_LOOKS, 100) < -12
    assert read_log10(7.0, 9.5, SEARCHED_LOOKS, 100) < read_log10(0.0, 9.5, SEARCHED_LOOKS, 100)


@pytest.mark.parametrize("looks", [ALIGNED_LOOKS, SEARCHED_LOOKS])
def test_what_is_needed_is_what_the_alarm_allows(looks: int) -> None:
    assert 10 ** found_log10(needed(looks), looks) == pytest.approx(1e-6, rel=1e-3)
    assert ALARM == 1e-6
    assert ALIGNED_LOOKS == 3 * 3, "a quarter of a chip to each side"
