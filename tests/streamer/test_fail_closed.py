"""No picture that leaves the server shows the real face: not at the start, not covered, not when an engine fails.

Through real WebRTC, with a real face. Every picture that the other side receives is compared with the camera's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from engines import Box, Identity, Rgb, Status, StepResult, SwapSettings, load
from streamer.config import ServerConfig
from streamer.pacing import HOLD_S
from tests.streamer.calls import Camera, Identities, Loader, Received, calling, negative, served
from tests.streamer.faces import RAW, RawFace, clip_pictures, face_box, photo_identity

NETWORK_S = 0.35  # two encoders, two decoders and a busy machine


@dataclass(frozen=True)
class Person:
    """Somebody before a camera."""

    pictures: list[Rgb]
    box: Box
    raw: RawFace


@pytest.fixture(scope="module")
def person(shared_data: Path) -> Person:
    pictures = clip_pictures(shared_data / "clips" / "single_face.mp4", 40)
    box = face_box(pictures)
    return Person(pictures, box, RawFace.of(pictures, box))


@pytest.fixture(scope="module")
def worn(shared_data: Path) -> Identity:
    return photo_identity(shared_data / "synth_faces" / "t0003_schnell.jpg")


class Wardrobe(Identities):
    """One identity that can really be drawn."""

    def __init__(self, worn: Identity) -> None:
        super().__init__()
        self._all[worn.name] = worn


def likeness(raw: RawFace, received: Sequence[Received], size: tuple[int, ...]) -> list[float]:
    """Of every picture that has the camera's size; others are cards from before the size was known."""
    return [raw.likeness(one.rgb_HW3) for one in received if one.rgb_HW3.shape == size]


def shows_negative(raw: RawFace, received: Sequence[Received], size: tuple[int, ...]) -> bool:
    """Whether what `negative` draws has come through."""
    return any(raw.negative(one.rgb_HW3) < -RAW for one in received if one.rgb_HW3.shape == size)


def blank(raw: RawFace, received: Sequence[Received], size: tuple[int, ...]) -> bool:
    """Whether all of them show nothing of the face, not even its negative."""
    fit = [one.rgb_HW3 for one in received if one.rgb_HW3.shape == size]
    return all(raw.likeness(rgb) < 0.3 and raw.negative(rgb) > -0.3 for rgb in fit)


async def test_the_check_notices_a_raw_face(person: Person) -> None:
    """What every other test here relies on: a face that passes through unchanged is found in nearly every picture."""
    loader = Loader(lambda rgb, at: StepResult(rgb.copy(), Status.DRAWN, 1))
    async with served(loader=loader) as client, calling(client) as caller:
        await caller.start(Camera(person.pictures))
        await caller.pictures(60)
    found = likeness(person.raw, caller.received, person.pictures[0].shape)
    assert np.mean([one > RAW for one in found]) > 0.9


async def test_from_the_first_picture_on_the_real_proxy_shows_no_raw_face(person: Person, worn: Identity) -> None:
    config = ServerConfig(swap=SwapSettings(engine="proxy"))
    async with served(config, load, Wardrobe(worn)) as client, calling(client) as caller:
        await caller.start(Camera(person.pictures, fps=15))
        await caller.until(lambda: drawn(caller.reports) > 20, 60.0)
    found = likeness(person.raw, caller.received, person.pictures[0].shape)
    assert len(found) > 20
    assert max(found) < RAW


async def test_before_the_first_drawn_frame_only_standby_is_sent(person: Person) -> None:
    """An engine that takes a second for its first picture, as one that is compiling does."""
    first = threading.Event()

    def slow_at_first(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        if not first.is_set():
            time.sleep(1.0)
            first.set()
        return negative(rgb_HW3)

    size = person.pictures[0].shape
    async with served(loader=Loader(slow_at_first)) as client, calling(client) as caller:
        await caller.start(Camera(person.pictures))
        await caller.until(lambda: len(caller.received) > 1)
        assert not first.is_set(), "the standby card must be there before the engine is"
        await caller.until(lambda: len(likeness(person.raw, caller.received, size)) > 30)
        await caller.until(lambda: shows_negative(person.raw, caller.received, size))  # the swap arrives in the end
    assert max(likeness(person.raw, caller.received, size)) < RAW


async def test_an_engine_that_raises_gives_standby_and_comes_back(person: Person) -> None:
    failing = threading.Event()

    def fragile(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        if failing.is_set():
            raise RuntimeError("out of memory")
        return negative(rgb_HW3)

    size = person.pictures[0].shape
    async with served(loader=Loader(fragile)) as client, calling(client) as caller:
        await caller.start(Camera(person.pictures))
        await caller.until(lambda: shows_negative(person.raw, caller.received, size))
        failing.set()
        failed_s = time.monotonic()
        await asyncio.sleep(1.5)
        while_failing = [one for one in caller.received if one.at_s > failed_s + HOLD_S + NETWORK_S]
        failing.clear()
        mark = len(caller.received)
        await caller.until(lambda: shows_negative(person.raw, caller.received[mark + 5 :], size))
        numbers = await (await client.get(f"/session/{caller.call}")).json()
    assert numbers["faults"] > 10
    assert while_failing, "a receiver is never left without pictures"
    assert blank(person.raw, while_failing, size), "standby, nothing else"
    assert max(likeness(person.raw, caller.received, size)) < RAW


async def test_an_engine_that_stalls_for_two_seconds_gives_standby_and_comes_back(person: Person) -> None:
    stall = threading.Event()

    def stalling(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        if stall.is_set():
            stall.clear()
            time.sleep(2.0)
        return negative(rgb_HW3)

    size = person.pictures[0].shape
    async with served(loader=Loader(stalling)) as client, calling(client) as caller:
        await caller.start(Camera(person.pictures))
        await caller.until(lambda: shows_negative(person.raw, caller.received, size))
        stall.set()
        stalled_s = time.monotonic()
        await asyncio.sleep(1.9)
        frozen = [one for one in caller.received if one.at_s > stalled_s + HOLD_S + NETWORK_S]
        assert len(frozen) >= 3, "the card is repeated while the worker is stuck"
        assert blank(person.raw, frozen, size), "the card, not the last picture"
        mark = len(caller.received)
        await caller.until(lambda: shows_negative(person.raw, caller.received[mark + 5 :], size))
        numbers = await (await client.get(f"/session/{caller.call}")).json()
    assert numbers["shown"]["card"] >= 3
    assert max(likeness(person.raw, caller.received, size)) < RAW
    stamps = [one.pts for one in caller.received]
    assert all(later > earlier for earlier, later in pairwise(stamps)), "time never runs backwards"


async def test_a_covered_face_is_never_seen_around_its_cover(person: Person, worn: Identity) -> None:
    """A grey board rises before the face until it is gone, and sinks again."""
    top, bottom = int(person.box.top_px) - 60, int(person.box.bottom_px) + 60
    covered = []
    for number, picture in enumerate(person.pictures * 2):
        share = min(1.0, 1.4 * np.sin(np.pi * number / (2 * len(person.pictures))))
        edge = int(bottom - share * (bottom - top))
        board = picture.copy()
        board[edge:bottom, int(person.box.left_px) - 60 : int(person.box.right_px) + 60] = (118, 116, 112)
        covered.append(board)
    await _real_call_shows_nobody(person, worn, covered, [person.raw, RawFace.of(person.pictures, _eyes(person.box))])


async def test_a_second_person_who_enters_is_not_seen(person: Person, worn: Identity, shared_data: Path) -> None:
    """Somebody else's real face slides in from the left and stays."""
    guest = clip_pictures(shared_data / "clips" / "head-pose-face-detection-male.gif", 1)[0]
    box = face_box([guest] * 3)
    margin_x, margin_y = int(0.5 * box.width_px), int(0.6 * box.height_px)
    patch = guest[
        max(int(box.top_px) - margin_y, 0) : int(box.bottom_px) + margin_y,
        max(int(box.left_px) - margin_x, 0) : int(box.right_px) + margin_x,
    ]
    scale = 150 / patch.shape[0]
    patch = ndimage.zoom(patch, (scale, scale, 1), order=1)
    shown, entered = [], []
    for number in range(2 * len(person.pictures)):
        picture = person.pictures[number % len(person.pictures)].copy()
        left = min(number * 8 - patch.shape[1], 20)
        visible = patch[:, max(-left, 0) :]
        if visible.shape[1] > 0:
            picture[100 : 100 + patch.shape[0], max(left, 0) : max(left, 0) + visible.shape[1]] = visible
        shown.append(picture)
        if left == 20:
            entered.append(picture)
    inner = Box(
        20 + 0.3 * patch.shape[1], 100 + 0.3 * patch.shape[0], 20 + 0.7 * patch.shape[1], 100 + 0.75 * patch.shape[0]
    )
    await _real_call_shows_nobody(person, worn, shown, [person.raw, RawFace.of(entered[:1], inner)])


async def _real_call_shows_nobody(person: Person, worn: Identity, pictures: list[Rgb], raws: list[RawFace]) -> None:
    config = ServerConfig(swap=SwapSettings(engine="proxy"))
    size = pictures[0].shape
    camera = Camera(pictures, fps=15)
    async with served(config, load, Wardrobe(worn)) as client, calling(client) as caller:
        await caller.start(camera)
        await caller.until(lambda: camera.number > len(pictures) + 10, 60.0)
    assert drawn(caller.reports) > 0, "the engine must have drawn, or nothing was tested"
    for raw in raws:
        found = likeness(raw, caller.received, size)
        assert max(found) < RAW, f"{sum(one >= RAW for one in found)} of {len(found)} pictures show a raw face"


def _eyes(box: Box) -> Box:
    """The upper half: brows and eyes."""
    return Box(box.left_px, box.top_px, box.right_px, (box.top_px + box.bottom_px) / 2)


def drawn(reports: Sequence[dict[str, object]]) -> int:
    """How many swaps were sent, by the server's last report."""
    if not reports:
        return 0
    numbers = reports[-1]["numbers"]
    assert isinstance(numbers, dict)
    return int(numbers["shown"].get("drawn", 0))
