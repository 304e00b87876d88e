"""Cameras under a real kernel: v4l2loopback written by us and read by others, the kernel's test camera read by us.

One machine is booted for all of it (kernel/machine.py), which takes minutes; so they are long.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.conftest import lacking
from tests.streamer.camera.kernel import machine as machines
from tests.streamer.camera.kernel.machine import Machine

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

FIRST, SECOND, OPEN, MISSING, TEST_CAMERA = (f"/dev/video{number}" for number in (0, 1, 2, 7, 5))
CLOSE_DB = 28.0  # a picture that went through 4:2:2 or 4:2:0 and back; another picture of the clip has less than 25


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Machine]:
    lacks = machines.lacking(machines.kernel_folder())
    if lacks:
        lacking(lacks)
    work = tmp_path_factory.mktemp("kernel")
    (work / "out").mkdir()
    np.save(work / "out" / "film.npy", film_of(shared_data / "clips" / "single_face.mp4"))
    with machines.booted(work) as machine:
        yield machine


def film_of(clip: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Six pictures of the clip, half a second apart."""
    with av.open(str(clip)) as media:
        frames = [frame for number, frame in enumerate(media.decode(video=0)) if number % 15 == 0][:6]
    return np.stack([np.asarray(one.reformat(320, 180, "rgb24").to_ndarray(), np.uint8) for one in frames])


@contextmanager
def writing(machine: Machine, path: str, function: str = "write", **options: Any) -> Iterator[dict[str, Any]]:
    """A writer in the background; what it counted is in the dictionary afterwards."""
    until = f"stop-{time.monotonic_ns()}"
    number = machine.begin(function, path=path, until=until, **options)
    counted: dict[str, Any] = {}
    try:
        yield counted
    finally:
        machine.call("stop", name=until)
        result = machine.end(number)
        counted.update(result if isinstance(result, dict) else {"written": result})


@pytest.mark.parametrize(
    ("pixel_format", "size_px", "libav"),
    [("yuyv", (320, 180), "yuyv422"), ("i420", (322, 182), "yuv420p"), ("nv12", (640, 360), "nv12")],
)
def test_ffmpeg_reads_what_was_written(
    machine: Machine, pixel_format: str, size_px: tuple[int, int], libav: str
) -> None:
    with writing(machine, FIRST, size_px=size_px, pixel_format=pixel_format) as counted:
        seen = machine.call("read", path=FIRST, save=f"{pixel_format}.png", hold_s=2.0)
    assert seen["format"] == libav
    assert seen["size_px"] == list(size_px)
    assert min(seen["psnr_db"]) > CLOSE_DB, seen
    assert len(set(seen["numbers"])) > 1, "the picture stands still"
    assert 1 in counted["watched"], "the reader was not seen"


def test_odd_sizes_become_even(machine: Machine) -> None:
    with writing(machine, FIRST, size_px=(323, 181)) as counted:
        assert machine.call("read", path=FIRST, count=2)["size_px"] == [322, 180]
    assert counted["shape"] == [322, 180, "yuyv"]


def test_a_device_with_exclusive_caps_is_a_camera_only_while_it_is_written_to(machine: Machine) -> None:
    assert machine.call("look", path=FIRST) == {"name": "first", "capture": False, "output": True}
    with writing(machine, FIRST, size_px=(320, 180)):
        machine.call("read", path=FIRST, count=1)
        assert machine.call("look", path=FIRST) == {"name": "first", "capture": True, "output": False}
    assert machine.call("look", path=FIRST) == {"name": "first", "capture": False, "output": True}


def test_readers_come_and_go_and_are_counted(machine: Machine) -> None:
    with writing(machine, FIRST, size_px=(320, 180)) as counted:
        machine.call("read", path=FIRST, count=2)
        time.sleep(4)
        two = [machine.begin("read", path=FIRST, count=2, hold_s=6.0) for _ in range(2)]
        for number in two:
            machine.end(number)
        time.sleep(4)
    assert counted["watched"][-1] == 0
    assert max(counted["watched"]) == 2


def test_a_reader_goes_on_when_the_writer_starts_again(machine: Machine) -> None:
    """The device stays held to the reader's format; a writer that wants another one takes that."""
    with writing(machine, SECOND, size_px=(320, 180), pixel_format="yuyv"):
        reader = machine.begin("read_on", path=SECOND, until="reader-stops")
        machine.call("read", path=SECOND, count=2)
        time.sleep(3)
    with writing(machine, SECOND, size_px=(640, 360), pixel_format="i420") as second:
        time.sleep(8)
        machine.call("stop", name="reader-stops")
        seen = machine.end(reader)
    assert second["shape"] == [320, 180, "yuyv"]
    assert seen["lengths"] == [320 * 180 * 2]
    assert seen["pictures"] > 5
    with writing(machine, SECOND, size_px=(640, 360), pixel_format="i420"):
        assert machine.call("read", path=SECOND, count=2)["size_px"] == [640, 360]


def test_what_cannot_be_written_to_says_why_in_one_sentence(machine: Machine) -> None:
    with writing(machine, FIRST, size_px=(320, 180)):
        machine.call("read", path=FIRST, count=1)
        said = machine.call("refusals", paths=[FIRST, MISSING, "/dev/null", TEST_CAMERA])
    assert "is in use: python" in said[FIRST]
    assert "there is no virtual camera /dev/video7: v4l2loopback offers /dev/video0" in said[MISSING]
    assert "sudo modprobe v4l2loopback video_nr=7 exclusive_caps=1" in said[MISSING]
    assert "is no video device" in said["/dev/null"]
    assert "is a real camera (vivid)" in said[TEST_CAMERA]
    assert machine.call("refusals", paths=[FIRST]) == {FIRST: ""}


def test_a_device_that_chrome_would_not_list_is_warned_of(machine: Machine) -> None:
    with writing(machine, OPEN, size_px=(320, 180)) as counted:
        machine.call("read", path=OPEN, count=1)
    assert "without exclusive_caps=1" in counted["warning"]


def test_a_camera_is_read_with_its_own_clock(machine: Machine) -> None:
    seen = machine.call("capture", what="vivid", size_px=(320, 180), save="vivid.png")
    assert seen["size_px"] == [320, 180]
    assert seen["fps"] == 60
    assert seen["damaged"] == 0
    assert all(0 <= age_s < 0.5 for age_s in seen["ages_s"])
    assert seen["deviation"] > 30


def test_the_test_camera_offers_full_size_at_five_a_second_only_and_so_a_smaller_one_is_taken(machine: Machine) -> None:
    assert ["YUYV", 1920, 1080, 5.0] in machine.call("modes", path=TEST_CAMERA)
    assert machine.call("capture", what=TEST_CAMERA, size_px=(1920, 1080), count=2)["size_px"] == [640, 480]


def test_motion_jpeg_is_read_and_damaged_pictures_are_left_out(machine: Machine) -> None:
    with writing(machine, SECOND, "write_jpeg", size_px=(320, 180), damage_every=3):
        machine.call("read", path=SECOND, count=1)
        seen = machine.call("capture", what="second", size_px=(320, 180), count=6)
    assert seen["format"] == "MJPG"
    assert seen["damaged"] > 0
    assert seen["psnr_db"] > CLOSE_DB


def test_a_camera_in_use_and_a_virtual_one_without_a_writer_are_refused(machine: Machine) -> None:
    assert "vivid (/dev/video5) is in use by python" in machine.call("busy", path=TEST_CAMERA)
    said = machine.call("capture", what=SECOND, size_px=(320, 180))
    assert "is a virtual camera that nobody writes to" in said["refused"]


def test_an_unplugged_camera_is_waited_for_and_goes_on(machine: Machine) -> None:
    seen = machine.call("unplug_and_plug", path=TEST_CAMERA)
    assert "was unplugged" in seen["why"] or "is not connected" in seen["why"]
    assert seen["after"]
    assert seen["openings"] == 2
    assert seen["ended"]


def test_the_command_draws_only_while_somebody_watches(machine: Machine) -> None:
    machine.call("film", path="/run/out/film.avi", size_px=(320, 180))
    running = machine.begin(
        "command", source="/run/out/film.avi", sink=FIRST, until="command-stops", size="320x180", loop=True
    )
    seen = machine.call("read", path=FIRST, count=40, save="command.png")
    time.sleep(12)
    machine.call("stop", name="command-stops")
    asked = machine.end(running)["asked"]
    assert seen["size_px"] == [320, 180]
    assert any(one["readers"] for one in asked)
    assert asked[-1]["readers"] == 0
    assert asked[-1]["idle"]
    assert asked[-1]["source"]["state"] == "waiting"


def test_the_doctor_tells_the_cameras_apart(machine: Machine) -> None:
    """A real camera with its modes, a device that Chromium would list, and one that it would not."""
    said = {line["says"].split()[0]: line for line in machine.call("doctor") if line["says"].startswith("/dev/")}
    assert said.keys() >= {FIRST, OPEN, TEST_CAMERA}
    assert said[TEST_CAMERA]["facts"]["modes"]
    assert said[FIRST]["verdict"] == "ok"
    assert (said[OPEN]["verdict"], "exclusive_caps=1" in said[OPEN]["mend"]) == ("warn", True)
    with writing(machine, SECOND, size_px=(320, 180)):
        machine.call("read", path=SECOND, count=1)
        busy = {line["says"].split()[0]: line for line in machine.call("doctor")}
    assert ", open in " in busy[SECOND]["says"]


def test_chromium_takes_it_for_a_camera(machine: Machine) -> None:
    """Chromium without a window in the form without a desktop's services: the whole one takes minutes to begin.

    The last one: it takes the kernel's test camera away.
    """
    program = shutil.which("chromium-headless-shell")
    if program is None:
        lacking("chromium-headless-shell")
    with writing(machine, FIRST, size_px=(320, 180), seconds=900.0) as counted:
        seen = machine.call("chromium", timeout_s=900.0, program=program, most_s=850.0)
    assert seen.get("label", "").startswith("first"), seen
    assert seen["size_px"] == [320, 180]
    assert seen["psnr_db"] > CLOSE_DB - 4  # 4:2:0 and back once more
    assert max(counted["watched"]) >= 1
