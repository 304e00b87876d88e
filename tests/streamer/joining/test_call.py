"""The whole way by the command line: three participants in a real Janus, one swapped, two who look and listen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.flash_clip import FPS, write_flash_clip
from benchmarks.janus_server import find_janus
from benchmarks.janus_viewer import skews
from benchmarks.joined_call import CLIP, Scene, scene
from benchmarks.packet_caller import BEEP_EVERY, beeps_at
from engines import Rgb, detect_mark
from streamer.control import tell
from tests.conftest import lacking
from tests.streamer.faces import RawFace, clip_pictures, face_box

MOST_SKEW_S = 0.045
MOST_LIKE = 0.75  # eyes and mouth move as the real ones do, and the video is sharp: raw pictures reach 0.9 and more
BACK_S = 5.0
SETTLED = 8  # pictures


@pytest.fixture(scope="module")
def clip(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_janus() is None:
        lacking("janus")
    return write_flash_clip(tmp_path_factory.mktemp("clip") / "flash.mkv", shared_data / CLIP)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(400)
async def test_others_get_the_swapped_face_with_sound_in_step(clip: Path, tmp_path: Path) -> None:
    raw = clip_pictures(clip)
    real = RawFace.of(raw, face_box(raw))
    control = tmp_path / "control.sock"
    async with scene(tmp_path, clip, "proxy", more=("--control", str(control))) as one:
        await asyncio.sleep(20.0)
        async with asyncio.timeout(180):
            while drawn(one) < 70:  # noqa: ASYNC110  a busy machine draws few
                await asyncio.sleep(2.0)
        for other in one.others:
            assert [person["display"] for person in other.seen] == ["swapped"]
            watched = other.watched[-1]
            rgbs = faces(await asyncio.to_thread(watched.rgbs))
            assert len(rgbs) > 40
            some = rgbs[:: max(len(rgbs) // 60, 1)]
            likenesses = [real.likeness(rgb) for rgb in some]
            keep(some[int(np.argmax(likenesses))], "joined-most-like.png")
            assert max(likenesses) < MOST_LIKE, f"never the real face: {max(likenesses):.2f}"
            finding = await asyncio.to_thread(detect_mark, rgbs)
            assert finding.marked, finding.why
            backs = await asyncio.to_thread(watched.backs)
            beeps = beeps_at(watched.sounds_back())
            assert len(watched.sounds_back()) > 10 * BEEP_EVERY
            found = skews(backs, beeps, backs[0].last_s + 8.0, FPS)
            assert abs(float(np.median(found))) < MOST_SKEW_S, found
        await other_face(one, control)
        await restart(one)
    assert one.participant.process.returncode == 130, "Ctrl-C, after it has left"
    assert "left" in (tmp_path / "participant.txt").read_text(encoding="utf-8")


async def other_face(one: Scene, control: Path) -> None:
    """Another identity in the middle of the call: the others see it, and nothing else in between."""
    other = one.others[0]
    before = faces(await asyncio.to_thread(other.watched[-1].rgbs))[-SETTLED:]
    answer = await asyncio.to_thread(tell, control, {"do": "identity", "name": "amara"})
    assert answer["ok"], answer
    connection = other.watched[-1]
    came = len(await asyncio.to_thread(connection.rgbs))
    wanted = drawn(one) + 4 * SETTLED
    async with asyncio.timeout(120):
        while drawn(one) < wanted:  # noqa: ASYNC110  a busy machine draws few
            await asyncio.sleep(2.0)
    assert other.watched[-1] is connection, "the same call"
    after = faces((await asyncio.to_thread(connection.rgbs))[came + SETTLED :])[-SETTLED:]
    keep(before[-1], "joined-before.png")
    keep(after[-1], "joined-after.png")
    assert brightness(before) - brightness(after) > 20.0, "amara's skin is far darker than lucia's"
    refused = await asyncio.to_thread(tell, control, {"do": "engine", "name": "passthrough"})
    assert not refused["ok"], "the real face is not to be had by a command"


def brightness(rgbs: Sequence[Rgb]) -> float:
    """Of the middle of the picture, where the face is."""
    height_px, width_px = rgbs[0].shape[:2]
    face = (slice(height_px * 2 // 5, height_px * 3 // 5), slice(width_px * 2 // 5, width_px * 3 // 5))
    return float(np.mean([rgb[face].mean() for rgb in rgbs]))


async def restart(one: Scene) -> None:
    """Janus is killed and started again: all are back, and the raw face was never shown."""
    other, killed_s = one.others[0], time.monotonic()
    before = len(other.watched)
    one.server.kill()
    one.server.start(wait=False)
    async with asyncio.timeout(30):
        while len(other.watched) == before:  # noqa: ASYNC110  another program's state
            await asyncio.sleep(0.02)
    assert await other.until_pictures(2, 30) - killed_s < BACK_S


def drawn(one: Scene) -> int:
    """How many swapped pictures the participant has made."""
    lines = one.participant.numbers()
    return int(lines[-1]["live"]["shown"].get("drawn", 0)) if lines else 0


def faces(rgbs: Sequence[Rgb]) -> list[Rgb]:
    """Those that are not the standby card, which is dark all over: a busy machine shows it now and then."""
    return [rgb for rgb in rgbs if rgb.mean() > 60]


def keep(rgb: Rgb, name: str) -> None:
    """For whoever wants to look: below out/, which is ignored by git."""
    folder = Path(__file__).parents[3] / "out"
    folder.mkdir(exist_ok=True)
    Image.fromarray(rgb).save(folder / name)
