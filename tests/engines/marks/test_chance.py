"""What an unmarked picture can score: the bound holds over random signs, of the sum that it is proved for."""

from __future__ import annotations

import numpy as np
import pytest

from engines.marks.chance import ALARM, WAYS, chance_log10, found_log10, needed, read_log10, tail_log10
from engines.marks.detect import ALIGNED_LOOKS, SAMPLES, SEARCHED_LOOKS, Known, code_at, known
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
    assert decode_all(soft) == [None] * len(soft)


def test_chances_are_those_of_a_gaussian_times_a_constant() -> None:
    assert tail_log10(0) == pytest.approx(np.log10(0.5))
    assert tail_log10(4.7534) == pytest.approx(-6, abs=0.01)
    assert tail_log10(5.001) == pytest.approx(tail_log10(4.999), abs=0.03)
    assert chance_log10(-5, 6) == 0
    assert found_log10(6, 9) == pytest.approx(tail_log10(6) + np.log10(3.178 * 9 * WAYS))


def test_a_code_counts_alone_or_together_with_the_known_chips() -> None:
    assert read_log10(5.0, 7.0, SEARCHED_LOOKS, 100) == 0, "2**40 words: one of them is that near to anything"
    assert read_log10(0.0, 12.0, SEARCHED_LOOKS, 100) < -12
    assert read_log10(7.0, 9.5, SEARCHED_LOOKS, 100) < read_log10(0.0, 9.5, SEARCHED_LOOKS, 100)


@pytest.mark.parametrize("looks", [ALIGNED_LOOKS, SEARCHED_LOOKS])
def test_what_is_needed_is_what_the_alarm_allows(looks: int) -> None:
    assert 10 ** found_log10(needed(looks), looks) == pytest.approx(ALARM, rel=1e-3)
