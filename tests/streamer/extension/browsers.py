"""The extension as it is tried, and the pages that it is tried on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from streamer.extension.settings import ExtensionSettings
from streamer.extension.writer import write_extension

PAGES = Path(__file__).parent / "pages"
TOKEN = "a-token-of-some-length"


def written(folder: Path, server: str, **more: Any) -> Path:
    """The extension for Chromium, as the command writes it, for that server."""
    settings = ExtensionSettings(folder=folder, server=server, **{"token": TOKEN, **more})
    return write_extension(settings)["chromium"][0]


@asynccontextmanager
async def pages(more: Sequence[web.RouteDef] = ()) -> AsyncIterator[str]:
    """Where the pages of the folder `pages` are served: on another port than any vividstream server."""
    app = web.Application()
    app.add_routes([*more, web.static("/", PAGES)])
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")
