"""Whole calls: an aiortc client against the real application."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from engines import EngineUnavailable, Identity, Rgb, Session, StepResult, SwapSettings, load
from streamer.app import WORKERS
from streamer.config import GuardSettings, ServerConfig
from streamer.stats import CallStats
from streamer.tracks import CameraPicture, DelayedSound, SwappedVideo, standby_frame
from streamer.transport.sound import CodedSound
from streamer.transport.types import PictureTimes
from streamer.worker import Outcome
from tests.streamer.calls import Camera, Loader, Tone, calling, gone, negative, plain, served


async def test_a_call_comes_back_swapped_with_its_own_clock() -> None:
    async with served() as client, calling(client) as caller:
        answer = await caller.start(Camera([plain((200, 40, 40))]), Tone(), identity="bo")
        assert (answer["engine"], answer["identity"]) == ("stub", "bo")
        pictures = await caller.pictures(30)
        drawn = [p for p in pictures if abs(p.rgb_HW3.mean((0, 1)) - (55, 215, 215)).max() < 12]
        assert len(drawn) > 20
        steps = np.diff([p.pts for p in drawn])
        # Encoders of both sides round to microseconds: a few of 90,000 ticks a second.
        assert (abs((steps + 1_500) % 3_000 - 1_500) <= 6).all()
        assert (steps > 0).all()
        await caller.until(lambda: caller.sounds > 20)


async def test_everything_is_freed_when_a_call_ends() -> None:
    loader = Loader(negative)
    before = {thread.name for thread in threading.enumerate()}
    async with served(loader=loader) as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]))
        await caller.pictures(5)
        response = await client.delete(f"/session/{caller.call}")
        assert response.status == 204
        await caller.until(lambda: loader.made[-1].closed == 1)
        await asyncio.sleep(0.2)
        assert (await client.get(f"/session/{caller.call}")).status == 404
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if "engine" in name or "decoder" in name}


async def test_identity_and_tone_change_in_the_middle_of_a_call() -> None:
    loader = Loader(negative)
    async with served(loader=loader) as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]), identity="ada")
        await caller.pictures(5)
        first = loader.made[-1]
        changed = await client.patch(f"/session/{caller.call}", json={"identity": "bo"})
        assert (await changed.json())["identity"] == "bo"
        assert first.identity is not None
        assert (first.identity.name, first.closed) == ("bo", 0), "the same session, another face"
        changed = await client.patch(f"/session/{caller.call}", json={"tone": "mix"})
        assert changed.status == 200
        second = loader.made[-1]
        assert (first.closed, second.closed, second.settings.tone) == (1, 0, "mix")
        assert second.identity is not None
        assert second.identity.name == "bo", "another tone keeps the face"
        refused = await client.patch(f"/session/{caller.call}", json={"identity": "nobody"})
        assert refused.status == 400
        count = len(caller.received)
        await caller.pictures(count + 10)
    assert [session.closed for session in loader.made] == [1] * len(loader.made)


async def test_two_calls_red_and_blue_never_cross() -> None:
    red, blue = (200, 30, 30), (30, 30, 200)
    raw = ServerConfig(max_sessions=2, swap=SwapSettings(engine="passthrough", label=False))
    async with served(raw, load) as client, calling(client) as one, calling(client) as other:
        await one.start(Camera([plain(red)]))
        await other.start(Camera([plain(blue)]))
        await asyncio.gather(one.pictures(150, 40.0), other.pictures(150, 40.0))
    for caller, colour in ((one, red), (other, blue)):
        means = [picture.rgb_HW3.mean((0, 1)) for picture in caller.received]
        # An encoder begins roughly; the other colour is 170 away.
        cards = [mean for mean in means if abs(mean - colour).max() > 30]
        assert all(mean.max() < 60 for mean in cards), "a picture of neither this call nor the card"
        assert len(means) - len(cards) > 100


async def test_calls_are_spread_over_the_workers() -> None:
    """Each call is drawn in one thread, from its first picture to its last, and its picture is its own."""
    threads: dict[tuple[int, ...], set[int]] = {}

    def noted(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        colour = tuple((rgb_HW3[60, 80] // 100).tolist())
        threads.setdefault(colour, set()).add(threading.get_ident())
        return negative(rgb_HW3)

    config = ServerConfig(max_sessions=2, workers=2)
    async with served(config, Loader(noted)) as client, calling(client) as one, calling(client) as other:
        await one.start(Camera([plain((250, 20, 20))]))
        await other.start(Camera([plain((20, 20, 250))]))
        await asyncio.gather(one.pictures(20, 40.0), other.pictures(20, 40.0))
        metrics = await (await client.get("/metrics")).text()
    assert len(threads) == 2
    assert all(len(used) == 1 for used in threads.values())
    assert len(set.union(*threads.values())) == 2
    assert 'vividstream_load_share{worker="2"}' in metrics


async def test_a_call_that_the_load_leaves_no_room_for_is_told_so() -> None:
    def slow(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        time.sleep(0.03)
        return negative(rgb_HW3)

    async with served(ServerConfig(max_sessions=3), Loader(slow)) as client, calling(client) as one:
        await one.start(Camera([plain((9, 9, 9))]))
        await one.until(lambda: client.server.app[WORKERS][0].load.share(time.monotonic()) > 0.6, 30.0)  # type: ignore[attr-defined]
        async with calling(client) as other:
            offer = await other.offer(Camera([plain((1, 1, 1))]))
            refused = await client.post("/session", json={"sdp": offer, "choice": {}})
            assert refused.status == 503
            assert "of the time there is for drawing" in (await refused.json())["error"]


@pytest.mark.timeout(60)
async def test_an_engine_slower_than_the_camera_does_not_let_pictures_grow_old() -> None:
    def slow(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        time.sleep(0.1)
        return negative(rgb_HW3)

    async with served(loader=Loader(slow)) as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]))
        await caller.until(lambda: len(caller.reports) >= 7, 30.0)
    ages = [report["numbers"]["age_ms"] for report in caller.reports]
    last = caller.reports[-1]["numbers"]
    assert 7 < last["fps_out"] < 11
    assert last["dropped"]["newer_came"] > 90
    assert ages[-1]["p95"] < 300
    assert ages[-1]["p50"] < ages[3]["p50"] + 40, "the age of pictures must not grow"
    assert caller.asks[0]["ask"]["fps"] < 30, "and the camera was asked for fewer pictures"
    assert last["asked"]["why"] == "engine"


async def test_the_page_learns_when_each_picture_came_in() -> None:
    async with served() as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]))
        await caller.until(lambda: len(caller.reports) >= 2)
        for message in ("", "{", "[]", '{"ping_ms": "x"}', "x" * 2_000, '{"ping_ms": 12.5}'):
            caller.channel.send(message)
        await caller.until(lambda: len(caller.pongs) == 1)
        await caller.until(lambda: sum(len(report["pictures"]) for report in caller.reports) > 10)
        now_s, reports = time.monotonic(), list(caller.reports)
    assert caller.pongs[0]["pong_ms"] == 12.5
    assert abs(caller.pongs[0]["server_ms"] / 1e3 - now_s) < 5
    assert isinstance(reports[-1]["rtp_origin"], int)
    assert max(len(report["pictures"]) for report in reports) < 60
    came_in_ms = [came_in_ms for report in reports for _, came_in_ms in report["pictures"]]
    assert came_in_ms == sorted(came_in_ms)
    assert all(0 < now_s - ms / 1e3 < 30 for ms in came_in_ms)


async def test_a_call_without_pictures_is_ended() -> None:
    loader = Loader(negative)
    impatient = ServerConfig(guard=GuardSettings(first_media_s=0.5, silence_s=0.5))
    async with served(impatient, loader) as client, calling(client) as caller:
        await caller.start(Tone(), Camera([plain((9, 9, 9))], fps=0.001))
        await caller.until(lambda: loader.made[-1].closed == 1)
        await gone(client, caller.call)


async def test_a_browser_that_goes_away_frees_its_place() -> None:
    loader = Loader(negative)
    async with served(loader=loader) as client:
        async with calling(client) as caller:
            await caller.start(Camera([plain((9, 9, 9))]))
            await caller.pictures(5)
        await caller.until(lambda: loader.made[-1].closed == 1)


async def test_an_engine_that_cannot_be_loaded_is_said_and_leaves_nothing() -> None:
    def unavailable(settings: SwapSettings, identity: Identity | None = None) -> Session:
        raise EngineUnavailable("engine tiny needs its weights: run `vividstream weights fetch tiny`")

    async with served(loader=unavailable) as client, calling(client) as caller:
        sdp = await caller.offer(Camera([plain((9, 9, 9))]))
        response = await client.post("/session", json={"sdp": sdp})
        assert response.status == 400
        assert "vividstream weights fetch" in (await response.json())["error"]
        assert "vividstream_calls 0" in await (await client.get("/metrics")).text()


async def test_a_result_of_another_call_is_refused_by_the_track() -> None:
    """The last gate against crossed pictures, should everything before it be wrong."""
    video = SwappedVideo("mine", CallStats(), standby_frame(48, 64))
    frame = standby_frame(48, 64)
    now_s = time.monotonic()
    picture = CameraPicture(frame, 0, PictureTimes(now_s, now_s))
    with pytest.raises(RuntimeError, match="delivered to call mine"):
        video.deliver(Outcome("theirs", picture, negative(plain((1, 2, 3))), 1.0, now_s))
    video.deliver(Outcome("mine", picture, negative(plain((1, 2, 3))), 1.0, now_s))
    video.stop()


async def test_sound_waits_for_its_picture() -> None:
    stats = CallStats()
    sound = DelayedSound(stats)
    for number in range(200):
        stats.age_lately.add(time.monotonic(), 120.0)
        sound.put(CodedSound(b"opus", number * 960, time.monotonic()))
    assert sound.dropped == 150, "no more than a second of sound waits"
    since_s = time.monotonic()
    first = await sound.recv()
    assert first.pts == 150 * 960
    assert 0.08 < time.monotonic() - since_s < 0.5
    sound.stop()
    with pytest.raises(MediaStreamError):
        await sound.recv()


async def test_after_the_card_the_next_young_picture_is_sent_at_once() -> None:
    """A picture that was on its way while the card fell is not late, as long as it is young."""
    stats = CallStats()
    video = SwappedVideo("mine", stats, standby_frame(48, 64))
    now_s = time.monotonic()

    def picture(captured_s: float) -> CameraPicture:
        pts = 900_000 + round((captured_s - now_s) * 90_000)
        return CameraPicture(standby_frame(48, 64), pts, PictureTimes(captured_s, captured_s))

    for age_s in (0.4, 0.2, 0.1):
        video.saw(picture(now_s - age_s))
    card = await video.recv()
    assert stats.shown == {"card": 1}
    assert card.pts is not None
    card_pts = card.pts
    on_its_way = picture(now_s - 0.2)
    video.deliver(Outcome("mine", on_its_way, negative(plain((1, 2, 3))), 1.0, now_s))
    sent = await video.recv()
    assert sent.pts == on_its_way.pts
    assert card_pts < on_its_way.pts
    assert stats.dropped == {}
    video.stop()
