"""What the extension is written out with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from engines import StrictModel

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ExtensionSettings(StrictModel):
    """`vividstream extension`: the browser extension as files."""

    folder: Path = Field(description="folder to write to")
    server: str = Field("http://127.0.0.1:8080", description="address of the server that the extension talks to")
    token: str | None = Field(None, min_length=16, description="the server's token [default: made for this machine's]")
    hide: bool = Field(False, description="hide the real cameras from pages while the extension is on")
    site: tuple[str, ...] = Field((), description="site (https://meet.example.org) on which it works; else on all")

    @field_validator("server")
    @classmethod
    def _is_an_address(cls, server: str) -> str:
        parts = urlsplit(server)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("must begin with https:// or http://")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("only a server on this machine is reached by http://; any other needs https://")
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @field_validator("site")
    @classmethod
    def _are_sites(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        for site in sites:
            parts = urlsplit(site)
            if parts.scheme not in ("https", "http") or not parts.hostname or parts.path not in ("", "/"):
                raise ValueError(f"must be like https://meet.example.org: {site[:80]}")
        return sites
