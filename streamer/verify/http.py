"""The page on which a file is dropped to see whether it is marked: `*verify_routes()` among an application's routes.

A file from a stranger is looked at in a process of its own, one at a time, and is deleted afterwards.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

from aiohttp import web

from streamer.guards.doorman import takes_its_body

MOST_BYTES = 200_000_000
LONGEST_S = 120.0  # looking at it
ARRIVED_S = 300.0  # all of it
SILENT_S = 10.0  # between two pieces of it
STATIC = Path(__file__).parent.parent / "static"
KINDS = {"verify.html": "text/html", "verify.js": "text/javascript", "verify.css": "text/css"}
COMMAND = (sys.executable, "-m", "streamer", "verify", "--json")
BUSY = web.AppKey("verify_busy", asyncio.Lock)

log = logging.getLogger(__name__)


def verify_routes() -> list[web.RouteDef]:
    """GET /verify: the page. POST /verify?name=clip.mp4, the file as body: what `vividstream verify --json` says."""
    return [
        web.get("/verify", _page),
        web.get("/verify/{file}", _page_file),
        web.post("/verify", _verify),
    ]


def prepare(app: web.Application) -> None:
    """Before the application starts: what the routes need."""
    app[BUSY] = asyncio.Lock()


async def _page(request: web.Request) -> web.StreamResponse:
    return await _static("verify.html")


async def _page_file(request: web.Request) -> web.StreamResponse:
    return await _static(request.match_info["file"])


async def _static(name: str) -> web.Response:
    if name not in KINDS:
        raise web.HTTPNotFound(reason="there is no such file")
    body = await asyncio.to_thread((STATIC / name).read_bytes)
    return web.Response(body=body, content_type=KINDS[name], charset="utf-8")


@takes_its_body
async def _verify(request: web.Request) -> web.StreamResponse:
    busy = request.app[BUSY]
    if busy.locked():
        return web.json_response({"error": "another file is being looked at; try again in a moment"}, status=503)
    name = PurePosixPath(request.query.get("name", "file")).name[:100]
    suffix = PurePosixPath(name).suffix.lower()
    async with busy:
        with tempfile.TemporaryDirectory(prefix="vividstream-verify-") as folder:
            path = Path(folder) / f"dropped{suffix if suffix[1:].isalnum() else ''}"
            try:
                async with asyncio.timeout(ARRIVED_S):
                    whole = await _received(request, path)
            except TimeoutError:
                return web.json_response({"error": "the file did not come in time"}, status=408)
            if not whole:
                return web.json_response({"error": f"at most {MOST_BYTES // 1_000_000} MB are looked at"}, status=413)
            return await _looked_at(path, name)


async def _received(request: web.Request, path: Path) -> bool:
    left = MOST_BYTES
    with path.open("wb") as file:
        while True:
            async with asyncio.timeout(SILENT_S):
                block = await request.content.read(1 << 18)
            left -= len(block)
            if not block or left < 0:
                return left >= 0
            await asyncio.to_thread(file.write, block)


async def _looked_at(path: Path, name: str) -> web.Response:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), LONGEST_S)
    except TimeoutError:
        return web.json_response({"error": "looking at it takes too long here"}, status=422)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode not in (0, 3, 4):
        lines = complaint.decode("utf-8", "replace").strip().splitlines() or ["it could not be looked at"]
        why = lines[-1].removeprefix("error: ").replace(str(path), name)
        return web.json_response({"error": why}, status=422)
    return web.json_response({**json.loads(said), "source": name})
