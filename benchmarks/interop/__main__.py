"""Real clients against the real server, on this machine: what each of them does, and how soon it has a picture.

    python -m benchmarks.interop                    all of them: 4 min
    python -m benchmarks.interop chromium firefox   some: chromium, firefox, whip-client, gstreamer, npm, coturn
    python -m benchmarks.interop --write            with a table in docs/benchmarks

What is not installed is named and left out; with --require it is an error. Debian: apt install chromium firefox-esr
simple-whip-client coturn gcc python3-gi gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice gstreamer1.0-plugins-base
gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly; Node.js with npm for the two packages.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path

import click

from benchmarks.interop import browsers, npm, programs, relay
from benchmarks.interop.common import Missing, Result, serving
from benchmarks.report import machine, table, write_report

CALLS = ("--max-sessions", "4", "--max-viewers", "8")
LIMIT_S = 150.0
HEAD = ("client", "way", "works", "first picture, s", "pictures/s", "size", "said")


def _version(*names: str) -> str:
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        raise Missing(names[0])
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.split()
    return next((word for word in said if word[:1].isdigit()), "")


async def _chromium() -> list[Result]:
    with serving(*CALLS) as server:
        return await browsers.tried("Chromium", _version("chromium", "google-chrome"), browsers.chromium, server)


async def _firefox() -> list[Result]:
    with serving(*CALLS) as server:
        return await browsers.tried("Firefox", _version("firefox-esr", "firefox"), browsers.firefox, server)


async def _whip_client() -> list[Result]:
    with serving(*CALLS) as server:
        return await programs.whip_client(server)


async def _gstreamer() -> list[Result]:
    with serving(*CALLS) as server:
        return await programs.gstreamer(server)


async def _npm() -> list[Result]:
    with serving(*CALLS) as server, tempfile.TemporaryDirectory() as folder:
        return await npm.packages(server, Path(folder))


CLIENTS: dict[str, Callable[[], Awaitable[list[Result]]]] = {
    "chromium": _chromium,
    "firefox": _firefox,
    "whip-client": _whip_client,
    "gstreamer": _gstreamer,
    "npm": _npm,
    "coturn": relay.relayed,
}


async def tried(name: str) -> list[Result]:
    """One client in all its ways. A client that fails altogether is one result that says how."""
    try:
        async with asyncio.timeout(LIMIT_S):
            return await CLIENTS[name]()
    except Missing:
        raise
    except Exception as error:  # noqa: BLE001  the boundary to programs of others: whatever they do is a result
        return [Result(name, "", False, note=" ".join(f"{type(error).__name__}: {error}".split())[:160])]


def _row(result: Result) -> list[str]:
    first_s, fps = (str(value) if value else "" for value in (result.first_s, result.fps))
    return [result.client, result.way, "yes" if result.works else "**no**", first_s, fps, result.size, result.note]


@click.command(help=__doc__, context_settings={"max_content_width": 110})
@click.argument("names", nargs=-1, type=click.Choice(tuple(CLIENTS)))
@click.option("--write", is_flag=True, help="write docs/benchmarks/…-interop.md and .json")
@click.option("--require", is_flag=True, help="what is not installed is an error")
def main(names: tuple[str, ...], write: bool, require: bool) -> None:
    began_s = time.monotonic()
    results: list[Result] = []
    missing: list[str] = []
    for name in names or CLIENTS:
        try:
            found = asyncio.run(tried(name))
        except Missing as lacks:
            missing.append(f"{name} (needs {lacks})")
            print(f"{name}: not tried, {lacks} is not installed", flush=True)
            continue
        for result in found:
            said = f"{result.first_s:.1f} s to the first picture, {result.fps:.0f} a second  {result.note}"
            print(f"{'works' if result.works else 'FAILS'}  {result.client}: {result.way}  {said}", flush=True)
        results += [replace(result, first_s=round(result.first_s, 2), fps=round(result.fps, 1)) for result in found]
    took_s = time.monotonic() - began_s
    text = table(HEAD, [_row(result) for result in results])
    if write:
        notes = [
            "Each client against `vividstream serve --engine passthrough` on this machine, other load included. What a "
            "client sends is looked at by our own WHEP player. What a player shows is counted by itself; the other end "
            "is our own WHIP sender then, 640x480 at 30.",
            *([f"Not tried: {', '.join(missing)}."] if missing else []),
        ]
        body = "\n\n".join([f"`python -m benchmarks.interop`, {took_s:.0f} s. {machine()}.", *notes, text])
        write_report("interop", f"# Real clients\n\n{body}\n", {"results": [asdict(result) for result in results]})
    print(text)
    sys.exit(1 if any(not result.works for result in results) or (require and missing) else 0)


if __name__ == "__main__":
    main()
