"""The page on which files are dropped, in a real Chromium: marked, not marked, text, cut off, empty."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from engines import SwapSettings
from streamer.app import MOST_BODY_BYTES
from streamer.config import FileConfig
from streamer.file import run_file
from tests.streamer.calls import served
from tests.streamer.chromium import chromium_with_camera, console_of
from tests.streamer.clips import Clip, make

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(240)]

LOOKED_AT_MS = 90_000
DROP = """async ([base64, name, text]) => {
  const data = new DataTransfer();
  if (base64 !== null) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], name));
  } else data.setData("text/plain", text);
  const place = document.getElementById("drop");
  for (const kind of ["dragenter", "dragover", "drop"])
    place.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    plain, out = make(folder / "plain.mp4", Clip(size_px=(640, 480))), folder / "marked.mp4"
    run_file(FileConfig(input=plain, output=out, swap=SwapSettings(engine="passthrough")), io.StringIO())
    for whole, name in ((plain, "plain, cut off.mp4"), (out, "cut off.mp4")):
        (folder / name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    changed = bytearray(out.read_bytes())
    changed[changed.find(b"mdat") + 800] ^= 1
    (folder / "changed.mp4").write_bytes(changed)
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.mp4").touch()
    return folder


@asynccontextmanager
async def the_page(chromium: str) -> AsyncIterator[tuple[Page, list[str]]]:
    async with served() as client, chromium_with_camera(chromium, None) as browser:
        page = await (await browser.new_context(viewport={"width": 900, "height": 900})).new_page()
        said = await console_of(page)
        await page.goto(str(client.make_url("/verify")))
        yield page, said


async def drop(page: Page, path: Path) -> None:
    data = base64.b64encode(await asyncio.to_thread(path.read_bytes)).decode()
    await page.evaluate(DROP, [data, path.name, ""])
    await expect(page.locator("body")).to_have_attribute("data-state", "done", timeout=LOOKED_AT_MS)


@pytest.mark.parametrize(
    ("name", "answer", "facts"),
    [
        ("marked.mp4", "Marked", ["Invisible mark", "found in", "Installation", "whole, and their signer is trusted"]),
        ("plain.mp4", "Nothing was found", ["not found in", "none"]),
        ("changed.mp4", "Changed", ["they do not fit the file"]),
        ("cut off.mp4", "Changed", ["no pictures could be read"]),
        ("plain, cut off.mp4", "plain, cut off.mp4: cannot be read: it is no video, or was cut off", []),
        ("notes.txt", "notes.txt: cannot be read: it is no video", []),
        ("empty.mp4", "empty.mp4: the file is empty", []),
    ],
)
async def test_a_dropped_file_gets_its_answer(
    chromium: str, folder: Path, name: str, answer: str, facts: list[str]
) -> None:
    async with the_page(chromium) as (page, _):
        await drop(page, folder / name)
        await expect(page.locator("#answer")).to_contain_text(answer)
        for fact in facts:
            await expect(page.locator("#facts")).to_contain_text(fact)


async def test_what_is_no_file_and_what_is_too_large_is_said_at_once(chromium: str) -> None:
    async with the_page(chromium) as (page, said):
        await page.evaluate(DROP, [None, "", "some words"])
        await expect(page.locator("#answer")).to_have_text("that is no file: save it first, and drop it then")
        await page.evaluate("""() => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(200_000_001)], "long.mp4"));
          document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
        }""")
        await expect(page.locator("#answer")).to_contain_text("larger than 200 MB")
        assert not said, "nothing was sent"


async def test_a_file_may_be_chosen_too_and_is_larger_than_other_requests_may_be(chromium: str, folder: Path) -> None:
    long = folder / "long.mp4"
    long.write_bytes((folder / "plain.mp4").read_bytes() + b"\0\0\0\x08free" * 40_000)
    assert long.stat().st_size > MOST_BODY_BYTES
    async with the_page(chromium) as (page, said):
        await page.locator("#file").set_input_files(long)
        await expect(page.locator("#answer")).to_contain_text("Nothing was found", timeout=LOOKED_AT_MS)
        assert not said
