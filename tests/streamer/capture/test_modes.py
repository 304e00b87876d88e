"""Which mode of a camera is taken: lists as real webcams give them."""

from __future__ import annotations

from streamer.capture.modes import choose_mode
from streamer.v4l2.devices import Mode

# A Logitech C920's, shortened: uncompressed pictures fill the bus.
WEBCAM = [
    Mode("YUYV", 640, 480, 30.0),
    Mode("YUYV", 1280, 720, 10.0),
    Mode("YUYV", 1920, 1080, 5.0),
    Mode("MJPG", 640, 480, 30.0),
    Mode("MJPG", 1280, 720, 30.0),
    Mode("MJPG", 1920, 1080, 30.0),
    Mode("H264", 1920, 1080, 30.0),
]


def test_full_size_is_taken_compressed_where_uncompressed_gives_five_a_second() -> None:
    assert choose_mode(WEBCAM, 1920, 1080, 30) == Mode("MJPG", 1920, 1080, 30.0)


def test_motion_jpeg_comes_first_at_the_same_rate() -> None:
    assert choose_mode(WEBCAM, 640, 480, 30) == Mode("MJPG", 640, 480, 30.0)


def test_a_size_that_is_not_offered_gives_the_next_larger_one() -> None:
    assert choose_mode(WEBCAM, 1024, 576, 30) == Mode("MJPG", 1280, 720, 30.0)


def test_a_smaller_picture_is_better_than_a_stuttering_one() -> None:
    uncompressed = [mode for mode in WEBCAM if mode.format == "YUYV"]
    assert choose_mode(uncompressed, 1280, 720, 30) == Mode("YUYV", 640, 480, 30.0)


def test_sixty_a_second_are_not_worth_another_size() -> None:
    offered = [Mode("MJPG", 640, 360, 60.0), Mode("MJPG", 1280, 720, 30.0)]
    assert choose_mode(offered, 1280, 720, 60) == offered[1]


def test_a_camera_that_tells_no_rate_is_believed() -> None:
    assert choose_mode([Mode("YUYV", 1280, 720, 0.0)], 1280, 720, 30) == Mode("YUYV", 1280, 720, 0.0)


def test_what_cannot_be_read_is_not_taken() -> None:
    assert choose_mode([Mode("H264", 1280, 720, 30.0), Mode("Y16", 1280, 720, 30.0)], 1280, 720, 30) is None
    assert choose_mode([], 1280, 720, 30) is None
