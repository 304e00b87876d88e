"""What the latency benchmark stands on: ids that survive an encoder, and pictures matched with those that were sent."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.burnt_ids import NUMBERS, burn, read
from benchmarks.call_latency import figures
from benchmarks.packet_caller import (
    BEEP_EVERY,
    Back,
    Measured,
    Sent,
    Sound,
    beeps_at,
    encode_beeps,
    encode_loop,
    matched,
)


@given(st.integers(0, NUMBERS - 1), st.sampled_from([(480, 640), (720, 1280), (180, 320)]), st.integers(0, 60))
def test_an_id_is_read_through_noise_and_never_out_of_nothing(number: int, size: tuple[int, int], noise: int) -> None:
    generator = np.random.default_rng(number)
    picture = generator.integers(0, 256, (*size, 3)).astype(np.uint8)
    burn(picture, number)
    luma = picture[:, :, 1].astype(int) + generator.integers(-noise, noise + 1, size)
    assert read(luma.clip(0, 255).astype(np.uint8)) == number
    assert read(np.full(size, number % 256, np.uint8)) is None


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_ids_and_flashes_survive_a_slow_line(codec: str) -> None:
    scene = (np.indices((240, 320)).sum(0)[:, :, None] % 256 * np.ones(3)).astype(np.uint8)
    loop = encode_loop([scene], codec, 30.0, 200_000, flash_every=30, count=70)
    context = av.CodecContext.create({"VP8": "vp8", "H264": "h264"}[codec], "r")
    for number, coded in enumerate(loop):
        (frame,) = context.decode(av.Packet(coded.payload))  # type: ignore[attr-defined]
        luma = np.asarray(frame.to_ndarray(format="gray"), np.uint8)
        assert read(luma) == number
        assert (luma[-10:].mean() > 128) == (number % 30 < 8)
        assert coded.is_key == (number % 60 == 0)


def test_beeps_are_found_where_they_begin() -> None:
    beeps = encode_beeps()
    assert len(beeps) == BEEP_EVERY
    sounds = [Sound(beeps[number % BEEP_EVERY], 0.02 * number) for number in range(20, 20 + 3 * BEEP_EVERY)]
    assert beeps_at(sounds) == pytest.approx([1.0, 2.0, 3.0])


def test_a_picture_is_matched_with_the_latest_of_its_id() -> None:
    """Ids come again with the loop; what comes back belongs to what was sent last under that id."""
    sent = [Sent(number % 5, number / 10, number / 10 + 0.01) for number in range(20)]
    back = [Back(one.number, one.last_s + 0.03, one.last_s + 0.04, 1_000) for one in sent if one.first_s != 1.2]
    back.insert(9, Back(None, 0.95, 0.96, 1_000))  # a standby picture
    pairs = list(matched(Measured(sent, back, []), 0.0))
    assert [came.last_s - left.last_s for left, came in pairs] == pytest.approx([0.04] * 19)


def test_freezes_duplicates_and_losses_are_counted() -> None:
    numbers = [0, *range(100, 250)]  # the first seconds do not count
    sent = [Sent(number, index / 30, index / 30 + 0.002) for index, number in enumerate(numbers)]
    back = [Back(one.number, one.last_s + 0.01, one.last_s + 0.02, 1_000) for one in sent]
    del back[120:130]  # a third of a second without a picture
    back.insert(140, back[139])
    run = figures("ours", "passthrough", "VP8", Measured(sent, back, []), 0.5)
    assert (run.freezes, run.duplicates, run.lost) == (1, 1, 10)
    assert run.added_p50 == pytest.approx(20.0)
    assert run.longest_gap == pytest.approx(11 / 30 * 1e3)
