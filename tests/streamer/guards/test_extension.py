"""Requests of a browser extension: its origin is different in each browser, so the token that it shows must do."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.config import ServerConfig
from streamer.guards.access import COOKIE, Claim, refusal
from tests.streamer.calls import served

TOKEN = "a-token-of-some-length"
OURS = "chrome-extension://liakfffbkognipacndipaommbnggjckf"
FOXES = "moz-extension://226511c6-fd2f-4285-9363-d0b9298e2a50"


def posts(origin: str, bearer: str, *others: str) -> Claim:
    return Claim("POST", "http", "127.0.0.1:8080", origin, "none", (*others, bearer), bearer=bearer)


def status(config: ServerConfig, claim: Claim) -> int:
    answer = refusal(config, claim)
    return 200 if answer is None else answer[0]


@pytest.mark.parametrize("origin", [OURS, FOXES])
def test_an_extension_passes_with_the_token_in_its_header_alone(origin: str) -> None:
    config = ServerConfig(token=TOKEN)
    assert status(config, posts(origin, TOKEN)) == 200
    assert status(config, posts(origin, "a-token-that-is-wrong")) == 401
    assert status(config, posts(origin, "", TOKEN)) == 401, "the cookie or the address had the token"
    assert status(config, posts(origin, "a-token-that-is-wrong", TOKEN)) == 401


def test_without_a_token_no_extension_may_call_and_a_page_never_passes_for_one() -> None:
    assert status(ServerConfig(), posts(OURS, "")) == 403
    assert status(ServerConfig(), posts(OURS, TOKEN)) == 403
    assert status(ServerConfig(origin=(OURS,)), posts(OURS, "")) == 200
    for origin in ("https://chrome-extension.example", "https://evil.example/chrome-extension://", "null", ""):
        assert status(ServerConfig(token=TOKEN), posts(origin, TOKEN)) == 403


async def test_a_served_request_is_judged_by_its_own_headers() -> None:
    async with served(ServerConfig(token=TOKEN)) as client:

        async def answered(origin: str, **headers: str) -> int:
            sent: dict[str, Any] = {"Origin": origin, "Content-Type": "application/json", **headers}
            return (await client.post("/session", data="{}", headers=sent)).status

        assert await answered(OURS, Authorization=f"Bearer {TOKEN}") == 400, "only the offer is missing"
        assert await answered(OURS, Cookie=f"{COOKIE}={TOKEN}") == 401
        assert await answered("https://evil.example", Authorization=f"Bearer {TOKEN}") == 403
