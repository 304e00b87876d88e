"""Whole calls: an aiortc client against the real application."""

from __future__ import annotations

import asyncio
import threading

import numpy as np

from tests.streamer.calls import Camera, Loader, Tone, calling, negative, plain, served


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
    async with served(loader=loader) as client:
        async with calling(client) as caller:
            await caller.start(Camera([plain((9, 9, 9))]))
            await caller.pictures(5)
            response = await client.delete(f"/session/{caller.call}")
            assert response.status == 204
            await caller.until(lambda: loader.made[-1].closed == 1)
            await asyncio.sleep(0.2)
            assert (await client.get(f"/session/{caller.call}")).status == 404
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if "engine" in name or "decoder" in name}
