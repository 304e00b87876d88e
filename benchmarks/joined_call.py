"""A swapped participant in a room of a real Janus: how old its picture is, whether sound is in step, when it is back.

    python -m benchmarks.joined_call               passthrough and proxy, 30 s each; 20 restarts: 4 min
    python -m benchmarks.joined_call --quick       10 s each, 4 restarts: 1 min
    python -m benchmarks.joined_call --write

`vividstream join janus` in a process of its own plays a clip with a flash, a beep and numbered pictures to Debian's
Janus; two others watch with stock aiortc. age: from the moment a picture is due in the clip to its last packet out,
as the participant itself counts. skew: how much later a beep reaches the others than the picture of the same moment
(negative: earlier); 45 ms is what nobody notices (ITU-R BT.1359). back: from the kill of Janus, which is started again
at once, to the third whole picture at another participant; outage: Janus is frozen for a second, and how long after
its end the next picture comes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from benchmarks.corpus import DATA
from benchmarks.flash_clip import FPS, write_flash_clip
from benchmarks.janus_server import ROOM, JanusServer, janus
from benchmarks.janus_viewer import RoomViewer, skews
from benchmarks.packet_caller import PacketTap, beeps_at
from benchmarks.report import REPOSITORY, machine, table, write_report

CLIP = "clips/single_face.mp4"
IDENTITY = "lucia"
SETTLE_S = 8.0  # the sound's delay follows the picture's slowly, so that nobody hears it
LIMIT_MS = 45.0
STARTS_S = 90.0


@dataclass
class Participant:
    """`vividstream join`, and what it says of itself once a second."""

    process: subprocess.Popen[bytes]
    numbers_file: Path

    def numbers(self) -> list[dict[str, Any]]:
        text = self.numbers_file.read_text(encoding="utf-8") if self.numbers_file.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def leave(self) -> int:
        """As Ctrl-C; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@dataclass
class Scene:
    """A room, a participant who shows a swapped face, and others."""

    server: JanusServer
    participant: Participant
    others: list[RoomViewer] = field(default_factory=list)


@asynccontextmanager
async def scene(
    folder: Path, clip: Path, engine: str, others: int = 2, more: Sequence[str] = ()
) -> AsyncIterator[Scene]:
    """All of it, until the others have the first picture; ended after it."""
    with janus() as server:
        numbers = folder / f"numbers-{time.monotonic_ns()}.jsonl"
        command = [
            sys.executable, "-m", "streamer", "join", "janus", server.ws_url, str(ROOM), "--source", str(clip),
            "--loop", "--identity", IDENTITY, "--engine", engine, "--name", "swapped", "--numbers", str(numbers), *more,
        ]  # fmt: skip
        with (folder / "participant.txt").open("ab") as log:
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)  # noqa: ASYNC220  takes no time
        one = Scene(server, Participant(process, numbers))
        one.others = [RoomViewer(server.ws_url, ROOM) for _ in range(others)]
        tasks = [asyncio.create_task(other.run()) for other in one.others]
        try:
            for other in one.others:
                await other.until_pictures(1, STARTS_S)
            yield one
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(one.participant.leave)


@dataclass(frozen=True, slots=True)
class Call:
    """One call's figures, milliseconds."""

    engine: str
    pictures_per_s: float
    age_p50: float
    age_p95: float
    beeps: int
    skew_p50: float
    skew_p95: float  # of its size


async def measure_call(folder: Path, clip: Path, engine: str, seconds: float) -> Call:
    async with scene(folder, clip, engine) as one:
        await asyncio.sleep(SETTLE_S + seconds)
        found, rates = [], []
        for other in one.others:
            backs = other.watched[-1].backs()
            since_s = backs[0].last_s + SETTLE_S
            found += skews(backs, beeps_at(other.watched[-1].sounds_back()), since_s, FPS)
            late = [back.last_s for back in backs if back.last_s >= since_s]
            rates.append((len(late) - 1) / max(late[-1] - late[0], 1e-3) if late else 0.0)
        lines = one.participant.numbers()[-round(seconds) :]
        ages = [line["sending"]["age_ms"] for line in lines if line["sending"] and line["sending"]["age_ms"]["count"]]
    if not found or not ages:
        raise click.ClickException(f"{engine}: too few pictures reached the others; is the machine busy?")
    sizes = np.abs(found) * 1e3
    return Call(
        engine, float(np.mean(rates)), float(np.median([age["p50"] for age in ages])),
        float(np.median([age["p95"] for age in ages])), len(found), float(np.median(found)) * 1e3,
        float(np.percentile(sizes, 95)),
    )  # fmt: skip


async def measure_restarts(folder: Path, clip: Path, count: int) -> tuple[list[float], list[float]]:
    """Seconds until the others see the participant again: after each kill, and after each outage of a second."""
    backs_s, outages_s = [], []
    async with scene(folder, clip, "passthrough", others=1) as one:
        other = one.others[0]
        for _ in range(count):
            await asyncio.sleep(2.0)
            before = len(other.watched)
            one.server.kill()
            killed_s = time.monotonic()
            one.server.start(wait=False)
            while len(other.watched) == before:  # noqa: ASYNC110  another part's state
                await asyncio.sleep(0.01)
            backs_s.append(await other.until_pictures(3, 60.0) - killed_s)
        for _ in range(max(count // 2, 2)):
            await asyncio.sleep(2.0)
            with one.server.frozen():
                await asyncio.sleep(1.0)
            ended_s, tap = time.monotonic(), other.watched[-1].pictures
            assert tap is not None
            while not _newer(tap, ended_s):  # noqa: ASYNC110  another part's state
                await asyncio.sleep(0.005)
            outages_s.append(time.monotonic() - ended_s)
    return backs_s, outages_s


def _newer(tap: PacketTap, since_s: float) -> bool:
    """Whether a whole picture has come since."""
    return any(arrival.whole and arrival.first_s > since_s for arrival in tap.arrivals.values())


def report(calls: Sequence[Call], backs_s: Sequence[float], outages_s: Sequence[float]) -> str:
    rows = [
        (one.engine, *(f"{value:.1f}" for value in (one.pictures_per_s, one.age_p50, one.age_p95)), one.beeps,
         f"{one.skew_p50:.1f}", f"{one.skew_p95:.1f}")
        for one in calls
    ]  # fmt: skip
    first = table(["engine", "pictures/s", "age p50 ms", "age p95 ms", "beeps", "skew p50 ms", "skew p95 ms"], rows)
    second = table(
        ["", "times", "p50 s", "p95 s", "max s"],
        [
            (name, len(values), *(f"{value:.2f}" for value in (*np.percentile(values, (50, 95)), max(values))))
            for name, values in (("back after a kill", backs_s), ("after an outage of 1 s", outages_s))
        ],
    )
    about = __doc__.split("\n\n")[-1].strip() if __doc__ else ""
    return "\n".join(["# A swapped participant in a Janus room", "", f"{machine()}.", "", about, "", first, "", second])


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--quick", is_flag=True, help="10 s each, 4 restarts")
@click.option("--restarts", type=int, help="how often Janus is killed")
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-joined-call.{md,json}")
def main(quick: bool, restarts: int | None, write: bool) -> None:
    with TemporaryDirectory() as folder:
        clip = write_flash_clip(Path(folder) / "clip.mkv", DATA / CLIP)
        calls = []
        for engine in ("passthrough", "proxy"):
            calls.append(asyncio.run(measure_call(Path(folder), clip, engine, 10.0 if quick else 30.0)))
            click.echo(str(calls[-1]), err=True)
        backs_s, outages_s = asyncio.run(measure_restarts(Path(folder), clip, restarts or (4 if quick else 20)))
    text = report(calls, backs_s, outages_s)
    click.echo(text)
    if write:
        figures = {"calls": [asdict(one) for one in calls], "back_s": backs_s, "outage_s": outages_s}
        click.echo(f"written: {write_report('joined-call', text, figures)}", err=True)


if __name__ == "__main__":
    main()
