"""Whether sound and picture leave the server in step: beeps and flashes that were sent at the same moment.

    python -m benchmarks.lip_sync               passthrough and proxy at 640x480, 30 s each, beside stock aiortc: 3 min
    python -m benchmarks.lip_sync --quick       10 s each: 1 min
    python -m benchmarks.lip_sync --write

skew: how much later the beep came back than the flash of the same moment (negative: earlier). 45 ms is what nobody
notices (ITU-R BT.1359). The caller is that of benchmarks/call_latency.py; all on one clock.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import aioice.ice
import click
import numpy as np

from benchmarks.call_latency import BITS_PER_S, CLIP, FPS, SETTLE_S, Case, server
from benchmarks.corpus import DATA
from benchmarks.packet_caller import (
    FLASH_PICTURES,
    Coded,
    Measured,
    beeps_at,
    call,
    encode_beeps,
    encode_loop,
    matched,
    pictures,
)  # fmt: skip
from benchmarks.report import machine, table, write_report

SIZE = (480, 640)
LIMIT_MS = 45.0
LONGEST_S = 0.9  # that a beep may be away: the next one follows after a second
WARM_S = 7.0  # the sound's delay follows the picture's slowly, so that nobody hears it


@dataclass(frozen=True, slots=True)
class Skew:
    """One call's figures, milliseconds."""

    server: str
    case: str
    beeps: int
    picture_delay: float  # median, first packet to last packet
    sound_delay: float  # median
    skew_p50: float
    skew_p95: float  # of its size
    skew_max: float


def skews(measured: Measured) -> tuple[list[float], list[float], list[float]]:
    """Of each flash that came back with its beep: the picture's delay, the sound's, and their difference, seconds."""
    flashes = [(sent.first_s, back.last_s) for sent, back in matched(measured, WARM_S) if back.flash]
    beeps_back = beeps_at(measured.sounds_back)
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    for beep_s in beeps_at(measured.sounds_sent):
        flash = next((one for one in flashes if -0.5 / FPS < one[0] - beep_s < FLASH_PICTURES / FPS), None)
        place = bisect_left(beeps_back, beep_s)
        if flash is None or place == len(beeps_back) or beeps_back[place] - beep_s > LONGEST_S:
            continue
        picture_s, sound_s = flash[1] - flash[0], beeps_back[place] - beep_s
        for values, value in zip(found, (picture_s, sound_s, sound_s - picture_s), strict=True):
            values.append(value)
    return found


def run_once(kind: str, case: Case, loop: Sequence[Coded], seconds: float) -> Skew:
    """One call to a fresh server."""
    choice: dict[str, str] | None = {} if kind == "ours" else None
    with server(kind, case, ()) as (address, _):
        length_s = SETTLE_S + WARM_S + seconds
        measured = asyncio.run(call(address, loop, "VP8", FPS, length_s, choice, encode_beeps()))
    picture_s, sound_s, skew_s = skews(measured)
    if not skew_s:
        raise click.ClickException(f"{kind} {case}: no flash came back with its beep")
    sizes = np.abs(skew_s) * 1e3
    return Skew(
        kind, case, len(skew_s), float(np.median(picture_s)) * 1e3, float(np.median(sound_s)) * 1e3,
        float(np.median(skew_s)) * 1e3, float(np.percentile(sizes, 95)), float(sizes.max()),
    )  # fmt: skip


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--seconds", default=30.0, help="of each call that count")
@click.option("--quick", is_flag=True, help="10 s")
@click.option("--only", type=click.Choice(["ours", "stock"]), help="without the other one")
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-lip-sync.{md,json}")
def main(seconds: float, quick: bool, only: str | None, write: bool) -> None:
    loop = encode_loop(pictures(DATA / CLIP, *SIZE), "VP8", FPS, BITS_PER_S, flash_every=round(FPS))
    runs: list[Skew] = []
    cases: tuple[Case, ...] = ("passthrough", "proxy")
    for case in cases:
        for kind in [only] if only else ["ours", "stock"]:
            if kind == "stock" and case != "passthrough":
                continue
            runs.append(run_once(kind, case, loop, 10.0 if quick else seconds))
            click.echo(str(runs[-1]), err=True)
    head = "server,engine,beeps,picture's delay p50,sound's delay p50,skew p50,skew p95,skew max".split(",")
    rows = [
        (one.server, one.case if one.server == "ours" else "none", one.beeps, *(
            f"{value:.1f}" for value in (one.picture_delay, one.sound_delay, one.skew_p50, one.skew_p95, one.skew_max)
        ))
        for one in runs
    ]  # fmt: skip
    about = __doc__.split("\n\n")[-1].strip() if __doc__ else ""
    title = f"# Lip sync at {SIZE[1]}x{SIZE[0]}: milliseconds, at most {LIMIT_MS:.0f} wanted"
    text = "\n".join([title, "", f"{machine()}.", "", about, "", table(head, rows)])
    click.echo(text)
    if write:
        click.echo(f"written: {write_report('lip-sync', text, {'runs': [asdict(run) for run in runs]})}", err=True)


if __name__ == "__main__":
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # loopback only
    main()
