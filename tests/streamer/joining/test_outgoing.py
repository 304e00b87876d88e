"""What goes out: pictures to whatever connection there is, cards never as pictures, sound without gaps and in time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from engines import SettingError
from streamer.joining.outgoing import LOOKAHEAD_S, OpusCoder, Outgoing
from streamer.joining.run import open_join_source
from streamer.joining.settings import JoinSettings
from streamer.stats import CallStats
from streamer.tracks import DelayedSound, SwappedVideo, standby_frame
from streamer.transport.sound import CodedSound
from tests.streamer.joining.janus_room import HEIGHT_PX, WIDTH_PX, grey, tone


async def test_a_picture_reaches_every_output_and_a_card_none_of_them_as_a_picture() -> None:
    outgoing = Outgoing("test")
    stats = CallStats()
    track = SwappedVideo("test", stats, standby_frame(HEIGHT_PX, WIDTH_PX))
    outgoing.audience.watch(track)
    now_s = time.monotonic()
    await asyncio.to_thread(outgoing.write, grey(200), now_s)
    frame = await track.recv()
    assert (frame.width, frame.height, frame.pts) == (WIDTH_PX, HEIGHT_PX, round(now_s * 90_000))
    outgoing.is_card = lambda: True
    await asyncio.to_thread(outgoing.write, grey(10), time.monotonic())
    frame = await track.recv()
    assert frame.to_ndarray(format="gray").std() > 5, "the track's own card, with its words"
    assert stats.shown == {"card": 1}
    outgoing.is_card = lambda: False
    await asyncio.to_thread(outgoing.write, grey(200), time.monotonic())
    assert abs(float((await track.recv()).to_ndarray(format="rgb24").mean()) - 200) < 3
    outgoing.audience.leave(track)
    track.stop()
    assert outgoing.counts == {"pictures": 2, "cards": 1}


def test_timestamps_of_sound_go_on_where_a_file_begins_again_and_jump_where_sound_is_missing() -> None:
    coder = OpusCoder()
    found: list[CodedSound] = []
    for number, captured_s in enumerate((10.0, 10.02, 10.04, 10.061, 10.079, 10.1, 11.0, 11.02)):
        found += coder.code(tone(number % 3, captured_s))  # the source's own clock begins again every third time
    first = found[0].pts
    steps = [(one.pts - first) // 960 for one in found]
    assert steps == [0, 1, 2, 3, 4, 5, 50, 51]
    assert found[0].arrived_s == pytest.approx(10.0 - LOOKAHEAD_S)


async def test_sound_that_comes_before_its_time_waits_and_is_not_dropped() -> None:
    outgoing = Outgoing("test")
    track = DelayedSound(CallStats())
    outgoing.audience.listen(track)
    begun_s = time.monotonic()

    def hear() -> None:
        for number in range(75):  # 1.5 s at once, as files of some recorders do
            outgoing.hear(tone(number, begun_s + number * 0.02))

    await asyncio.to_thread(hear)
    came_s = []
    for _ in range(75):
        await track.recv()
        came_s.append(time.monotonic() - begun_s)
    assert track.dropped == 0
    assert came_s[-1] == pytest.approx(1.48, abs=0.3)
    track.stop()


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(SettingError, match="size"):
        JoinSettings.read({"size": "641x480"})
    with pytest.raises(SettingError, match="size"):
        JoinSettings.read({"size": "big"})
    assert JoinSettings.read({"size": "1280x720"}).size_px == (1280, 720)


def test_figures_that_cannot_be_written_and_a_microphone_beside_a_file_are_refused_before_anything_starts() -> None:
    with pytest.raises(SettingError, match="--numbers /proc/nowhere/x: cannot be written"):
        open_join_source(JoinSettings(numbers=Path("/proc/nowhere/x")))
    with pytest.raises(SettingError, match="heard beside a camera only"):
        open_join_source(JoinSettings(source="clip.mp4", sound="hw:9"))
