"""How much nearer to the true swap one engine is than another: PSNR inside the face, by pose and by what is in front.

    python -m benchmarks.true_swap_gain                  tiny against proxy, all 24 held-out swaps
    python -m benchmarks.true_swap_gain --quick          six short clips
    python -m benchmarks.true_swap_gain --engine NAME --against proxy --write

The pictures and measures are those of `vividstream eval true-swap`. Frames are compared one by one, and only those
that both engines drew: an engine that refuses hard frames gains nothing here, and `drawn` says that it did.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.corpus import DATA
from benchmarks.report import PRIVATE, REPORTS, machine, mean, median, table, write_report
from benchmarks.wanted import HEAD as WANTED_HEAD
from benchmarks.wanted import Line
from distill.evaluate.true_swap import run
from distill.evaluate.true_swap_report import Measured, Report, groups
from engines import SwapSettings, VividError

GAIN_DB = 3.0
SPLITS = ("turned", "nothing in front", "something in front", "...")  # as the groups' names begin


@dataclass(frozen=True, slots=True)
class Gain:
    """One group of frames. Means in dB; NaN where there is no frame that both drew."""

    group: str
    frames: int  # that both drew
    mine_db: float
    theirs_db: float
    gain_db: float
    median_db: float
    drawn: float  # shares of all frames of the group
    theirs_drawn: float

    @property
    def is_split(self) -> bool:
        return self.group.startswith(SPLITS)


def gains(mine: Report, theirs: Report) -> list[Gain]:
    """Of all groups. Raises ValueError for reports that are not of the same swaps."""
    if mine.fingerprint != theirs.fingerprint:
        raise ValueError("these reports are of different swaps")
    base = {(one.swap, one.frame): one for one in theirs.frames}
    found = []
    for group, members in groups(mine.frames):
        pairs = [(one, base[one.swap, one.frame]) for one in members if (one.swap, one.frame) in base]
        found.append(_gain(group, pairs))
    return found


def _gain(group: str, pairs: Sequence[tuple[Measured, Measured]]) -> Gain:
    both = [
        (one.figures.face_psnr, other.figures.face_psnr)
        for one, other in pairs
        if one.figures is not None and other.figures is not None
    ]
    both = [(one, other) for one, other in both if one == one and other == other]
    more = [one - other for one, other in both]
    return Gain(
        group, len(both), mean([one for one, _ in both]), mean([other for _, other in both]), mean(more), median(more),
        mean([float(one.drawn) for one, _ in pairs]), mean([float(other.drawn) for _, other in pairs]),
    )  # fmt: skip


def wanted(found: Sequence[Gain]) -> list[Line]:
    """The whole, and each pose and occlusion."""
    return [
        Line(f"gain, dB: {one.group}", one.gain_db, GAIN_DB, at_most=False)
        for one in found
        if one.group == "all" or one.is_split
    ]


HEAD = ("", "frames", "PSNR dB", "the other's", "gain", "median", "drawn", "the other's")


def report(engine: str, against: str, found: Sequence[Gain]) -> str:
    rows = [
        (one.group, one.frames, f"{one.mine_db:.2f}", f"{one.theirs_db:.2f}", f"{one.gain_db:.2f}",
         f"{one.median_db:.2f}", f"{one.drawn:.2f}", f"{one.theirs_drawn:.2f}")
        for one in found
    ]  # fmt: skip
    lines = table(WANTED_HEAD, [line.row() for line in wanted(found)])
    return f"## {engine} against {against}\n\n{lines}\n\n{table(HEAD, rows)}\n"


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--engine", "engines", multiple=True, default=("tiny",), show_default=True, help="may be repeated")
@click.option("--against", default="proxy", show_default=True)
@click.option("--quick", is_flag=True, help="six short clips")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(data: Path, engines: tuple[str, ...], against: str, quick: bool, write: bool) -> None:
    started_s = time.monotonic()
    reports: dict[str, Report] = {}
    try:
        for name in dict.fromkeys((against, *engines)):
            settings = SwapSettings(engine=name, label=False)  # the label is no part of the true pictures
            reports[name] = run(data, settings, quick, lambda line: click.echo(line, err=True))
    except VividError as error:
        raise click.ClickException(str(error)) from error
    found = {name: gains(reports[name], reports[against]) for name in engines}
    text = f"# True swap: how much nearer\n\n{machine()}. {time.monotonic() - started_s:.0f} s.\n\n"
    text += "\n".join(report(name, against, mine) for name, mine in found.items())
    click.echo(text)
    figures = {
        name: {one.group: {part: getattr(one, part) for part in Gain.__slots__ if part != "group"} for one in mine}
        for name, mine in found.items()
    }
    click.echo(f"written: {write_report('true-swap-gain', text, figures, REPORTS if write else PRIVATE)}")


if __name__ == "__main__":
    main()
