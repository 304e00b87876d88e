"""What the mark says survives noise, and noise says nothing."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.marks.payload import CODED_BITS, PAYLOAD_BITS, Payload, crc24, decode, encode

PAYLOADS = st.builds(Payload, st.integers(0, 2**24 - 1), st.integers(0, 4095), st.integers(0, 15))


@given(PAYLOADS)
def test_what_is_encoded_is_read(payload: Payload) -> None:
    assert decode(encode(payload)) == payload
    assert Payload.unpack(payload.pack()) == payload
    assert payload.pack() < 1 << PAYLOAD_BITS


@given(PAYLOADS, st.integers(0, 2**32 - 1))
def test_one_bit_in_twelve_may_be_wrong(payload: Payload, seed: int) -> None:
    coded = encode(payload)
    wrong = np.random.default_rng(seed).permutation(CODED_BITS)[: CODED_BITS // 12]
    coded[wrong] *= -0.5
    assert decode(coded) == payload


def test_noise_is_not_read() -> None:
    random = np.random.default_rng(0)
    assert all(decode(random.normal(size=CODED_BITS).astype(np.float32)) is None for _ in range(200))


def test_one_flipped_bit_of_the_word_is_found() -> None:
    word = Payload(0xABCDEF, 326).pack()
    assert len({crc24(word ^ 1 << place, PAYLOAD_BITS) for place in range(PAYLOAD_BITS)}) == PAYLOAD_BITS
    assert crc24(word, PAYLOAD_BITS) not in {crc24(word ^ 1 << place, PAYLOAD_BITS) for place in range(PAYLOAD_BITS)}


def test_a_day_is_a_date() -> None:
    payload = Payload.of(0x00BEEF, date(2026, 11, 23))
    assert (payload.date, payload.instance_hex, payload.day) == (date(2026, 11, 23), "00beef", 326)
    assert Payload.of(0, date(2025, 1, 1)).day == 0
    assert Payload.of(0, date(2099, 1, 1)).day == 4095


@pytest.mark.parametrize("values", [(2**24, 0, 0), (-1, 0, 0), (0, 4096, 0), (0, 0, 16)])
def test_numbers_that_do_not_fit_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Payload(*values)
