"""When a decoder is ended, and when it is given up."""

from __future__ import annotations

from streamer.decoding.health import Restarts, SizeStorm


def test_a_sender_that_adapts_is_no_storm() -> None:
    storm = SizeStorm()
    sizes = [(720, 1280), (540, 960), (360, 640), (540, 960)] * 10
    assert not any(storm.saw("VP8", *size, now_s=5.0 * number) for number, size in enumerate(sizes))
    assert storm.changes == 39


def test_a_storm_is_seen_whether_by_size_or_by_codec() -> None:
    for pictures in (
        [("VP8", 64 + 2 * n, 64) for n in range(10)],
        [(("VP8", "H264")[n % 2], 64, 64) for n in range(10)],
    ):
        storm = SizeStorm()
        said = [storm.saw(*picture, now_s=0.1 * number) for number, picture in enumerate(pictures)]
        assert said == [False] * 9 + [True]
        storm.restart()
        assert not storm.saw("VP8", 64, 64, 1.1)


def test_restarts_are_allowed_now_and_then_but_not_for_ever() -> None:
    restarts = Restarts()
    assert [restarts.allow(float(number)) for number in range(6)] == [True] * 5 + [False]
    restarts = Restarts()
    assert all(restarts.allow(20.0 * number) for number in range(50))
