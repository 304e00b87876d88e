"""Which camera is meant, and what is said where there is none (real ones: camera/test_under_a_kernel.py)."""

from __future__ import annotations

import errno

import pytest

from engines import MediaError
from streamer.capture.camera import CameraMedium, _refusal, find_camera
from streamer.capture.source import Source, open_source
from streamer.mailbox import Latest
from streamer.v4l2.devices import Device

BUILT_IN = Device("/dev/video70", 70, "Integrated Camera: Integrated C", "uvcvideo", True, False)
LOGITECH = Device("/dev/video72", 72, "HD Pro Webcam C920", "uvcvideo", True, False)
OTHER = Device("/dev/video74", 74, "HD Pro Webcam C922", "uvcvideo", True, False)


def test_a_camera_is_found_by_its_name_or_a_part_of_it() -> None:
    here = [BUILT_IN, LOGITECH]
    assert find_camera("HD Pro Webcam C920", here) is LOGITECH
    assert find_camera("integrated", here) is BUILT_IN


def test_a_part_that_two_have_is_refused_with_both() -> None:
    with pytest.raises(MediaError, match=r"may mean several.*C920.*C922"):
        find_camera("hd pro", [BUILT_IN, LOGITECH, OTHER])


def test_an_unknown_name_is_told_the_cameras_that_are_here() -> None:
    with pytest.raises(MediaError, match=r'no camera "razer"; connected: /dev/video70 \(Integrated'):
        find_camera("razer", [BUILT_IN])


def test_without_any_camera_the_remedy_is_named() -> None:
    with pytest.raises(MediaError, match=r"there is no camera /dev/video99; no camera is connected: plug one in, or"):
        find_camera("99", [])


def test_what_is_no_camera_is_said(tmp_path: object) -> None:
    with pytest.raises(MediaError, match=r"/dev/null is no camera"):
        find_camera("/dev/null", [])


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EBUSY, "in use by another program; close that program"),
        (errno.EACCES, "usermod -aG video"),
        (errno.ENODEV, "plug it in again"),
        (errno.EIO, "cannot be opened"),
    ],
)
def test_every_refusal_has_a_remedy(number: int, said: str) -> None:
    assert said in str(_refusal(LOGITECH, OSError(number, "words")))


def test_a_missing_camera_is_refused_at_the_start_or_waited_for() -> None:
    with pytest.raises(MediaError, match="no camera"):
        open_source("no such webcam").start(Latest())
    patient = Source(CameraMedium("no such webcam"))
    patient.start(Latest(), patient=True)
    assert patient.status.state.value == "waiting"
    assert patient.close()
