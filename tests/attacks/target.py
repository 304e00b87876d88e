"""Starts the server under attack, and says whether an attack did it any harm."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.streamer.calls import Caller, Camera, plain

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
MOST_GROWTH_MB, MOST_LAG_MS = 200.0, 100.0
START_S = 60
TAKEN_S = 20


@dataclass
class Target:
    """A running server and a client of it."""

    process: asyncio.subprocess.Process
    client: aiohttp.ClientSession
    address: str

    async def numbers(self) -> dict[str, Any]:
        """How the server feels; lags are the longest since it was last asked."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        async with asyncio.timeout(30):
            line = await self.process.stdout.readline()
        assert line, "the server has ended"
        numbers: dict[str, Any] = json.loads(line)
        return numbers

    async def serves(self) -> None:
        """Fails unless a new call works, with pictures both ways, and ends.

        A server beside which others use the machine may say that there is no time for one more call now.
        """
        caller = Caller(self.client)  # type: ignore[arg-type]  # both have post, patch and delete
        try:
            offer = {"sdp": await caller.offer(Camera([plain((200, 40, 40))]))}
            async with asyncio.timeout(TAKEN_S):
                while (response := await self.client.post("/session", json=offer)).status == 503:  # noqa: ASYNC110  it is another program's state
                    await asyncio.sleep(float(response.headers["Retry-After"]))
            answer = await response.json()
            assert response.status == 201, answer
            await caller.take(answer)
            await caller.pictures(3)
        finally:
            await self.client.delete(f"/session/{caller.call}")
            await caller.close()

    async def gone(self, calls: int = 0) -> None:
        """Waits until no more than so many calls go on."""
        async with asyncio.timeout(20):
            while await self.calls() > calls:  # noqa: ASYNC110  it is another program's state
                await asyncio.sleep(0.05)

    async def calls(self) -> int:
        text = await (await self.client.get("/metrics")).text()
        line = next(line for line in text.splitlines() if line.startswith("vividstream_calls "))
        return int(float(line.split()[1]))

    @asynccontextmanager
    async def unharmed(self) -> AsyncIterator[None]:
        """Within it the attack runs. Afterwards the server must serve, not have grown, and never have been away."""
        before = await self.numbers()
        yield
        after = await self.numbers()
        await self.serves()
        grown_mb = after["rss_mb"] - before["rss_mb"]
        log.info("grown %.1f MB, away %s ms, %s ms busy", grown_mb, after["lag_ms"], after["busy_ms"])
        assert grown_mb < MOST_GROWTH_MB
        assert after["busy_ms"] < MOST_LAG_MS, f"{after['busy_ms']} ms busy, {after['lag_ms']} ms away"


@asynccontextmanager
async def target(**config: Any) -> AsyncIterator[Target]:
    """The server, started anew, warmed by one call, and ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.attacks.server", json.dumps({"max_sessions": 8, **config}),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            address = (await process.stdout.readline()).decode().strip()
        assert address.startswith("http"), "the server did not start"
        base, _, query = address.partition("?token=")
        headers = {"Authorization": f"Bearer {query}"} if query else {}
        async with aiohttp.ClientSession(base, headers=headers) as client:
            served = Target(process, client, base)
            await served.serves()
            await served.gone()
            yield served
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()
