"""The extension in a real headless Firefox: its made-up camera shows colours, and the server draws one of its own."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.interop.browsers import firefox
from engines import Rgb, Status, StepResult
from streamer.app import ROOM
from streamer.config import ServerConfig
from streamer.extension.settings import ExtensionSettings
from streamer.extension.writer import write_extension
from tests.conftest import lacking
from tests.streamer.calls import Loader, served
from tests.streamer.extension.browsers import TOKEN, pages

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(240)]

OTHER_SIDE = """new Promise((resolve) => {
  const frame = Object.assign(document.createElement("iframe"), { id: "there", src: "other.html", onload: () => resolve(1) });
  document.body.append(frame);
})"""  # noqa: E501
COLOUR = """(() => {
  const video = document.getElementById("there").contentDocument.getElementById("other");
  if (!video.videoWidth) return null;
  const canvas = Object.assign(document.createElement("canvas"), { width: 16, height: 9 });
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 16, 9);
  return [...context.getImageData(4, 2, 1, 1).data.slice(0, 3)];
})()"""
VOICE = """navigator.mediaDevices.getUserMedia({ video: true, audio: { echoCancellation: false } }).then((stream) => {
  const [track] = stream.getAudioTracks();
  const told = { label: track.label, settings: track.getSettings() };
  stream.getTracks().forEach((one) => one.stop());
  return { ...told, ended: track.readyState };
})"""
REFUSED = "navigator.mediaDevices.getUserMedia(%s).catch((error) => [error.name, error.message, error.constraint])"


def magenta(rgb_HW3: Rgb, captured_s: float) -> StepResult:
    """What no camera shows."""
    return StepResult(np.full_like(rgb_HW3, (230, 20, 200)), Status.DRAWN, 1)


def is_magenta(colour: list[int]) -> bool:
    return colour[0] > 180 and colour[1] < 80 and colour[2] > 150


def is_card(colour: list[int]) -> bool:
    return max(colour) < 70


async def until(evaluate: Callable[[str], Awaitable[Any]], what: Callable[[list[int]], bool], within_s: float) -> float:
    """Looks at the other side until it is so; nothing but the drawn colour and the card may ever be seen there."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < within_s:
        colour = await evaluate(COLOUR)
        if colour is not None and what(colour):
            return time.monotonic() - began_s
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {within_s} s")


async def test_a_call_in_firefox(tmp_path: Path) -> None:
    if shutil.which("firefox-esr") is None and shutil.which("firefox") is None:
        lacking("firefox-esr")
    config = ServerConfig(token=TOKEN, max_sessions=2)
    async with served(config, Loader(magenta)) as client, pages() as at:
        server = str(client.make_url("")).rstrip("/")
        written = write_extension(ExtensionSettings(folder=tmp_path, server=server, token=TOKEN))["firefox"][0]
        async with firefox(f"{at}/meet.html", written) as evaluate:
            await evaluate(OTHER_SIDE)
            green = await evaluate("greenRoom()")
            assert green["labels"][0] == "vividstream"
            joined = await evaluate("join('vividstream')")
            assert (joined["label"], joined["settings"]["facingMode"]) == ("vividstream", "user")
            await until(evaluate, is_magenta, 40)
            name, said, constraint = await evaluate(REFUSED % "{ video: { width: { exact: 9999 } } }")
            assert (name, constraint) == ("OverconstrainedError", "width")
            assert "width" in said
            peers = client.server.app[ROOM].peers  # type: ignore[attr-defined]
            for peer in tuple(peers.values()):
                peer.hang_up("a test")
            await until(evaluate, is_card, 5)
            await until(evaluate, is_magenta, 20)
            assert await evaluate("stream.getVideoTracks()[0].readyState") == "live"
            await evaluate("offAndOn('vividstream')")
            await until(evaluate, is_magenta, 40)
            await evaluate("stream.getTracks().forEach((track) => track.stop())")
            async with asyncio.timeout(20):
                while peers:  # noqa: ASYNC110  the server's own time
                    await asyncio.sleep(0.1)


async def test_the_microphone_in_firefox_keeps_its_name_and_end(tmp_path: Path) -> None:
    if shutil.which("firefox-esr") is None and shutil.which("firefox") is None:
        lacking("firefox-esr")
    async with served(ServerConfig(token=TOKEN), Loader(magenta)) as client, pages() as at:
        server = str(client.make_url("")).rstrip("/")
        written = write_extension(ExtensionSettings(folder=tmp_path, server=server, token=TOKEN))["firefox"][0]
        async with firefox(f"{at}/meet.html", written) as evaluate:
            voice = await evaluate(VOICE)
            assert voice["label"] not in ("", "vividstream")
            assert "Destination" not in voice["label"], "it has the real microphone's name"
            assert (voice["settings"]["echoCancellation"], voice["ended"]) == (False, "ended")
