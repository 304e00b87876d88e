"""`vividstream examples FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.examples.settings import ExampleSettings
from distill.progress import ProgressLine, bar

if TYPE_CHECKING:
    from distill.examples.cache import Record


class Progress:
    """How far the drawing is, on one line."""

    def __init__(self) -> None:
        self._line = ProgressLine()
        self.end = self._line.end

    def show(self, done: int, total: int, record: Record) -> None:
        """Call as often as you like."""
        if self._line.is_due():
            self._line.show(progress_text(done, total, sum(record.refused().values()), self._line.elapsed_s))


def progress_text(done: int, total: int, refused: int, elapsed_s: float) -> str:
    """`[######..................] 96/1100 samples, 7 of all left out, about 12 min left`."""
    left_s = elapsed_s / max(done, 1) * (total - done)
    left = f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {left_s:.0f} s left"
    return f"{bar(done, total)} {done}/{total} samples, {refused} of all left out, {left}"


@click.command("examples", short_help="Draw training examples as the live engine would.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--stills", type=int, help="stills to draw [default: 1000]")
@click.option("--clips", type=int, help="clips to draw [default: 100]")
@click.option("--held-out-stills", type=int, help="stills of people kept apart [default: 64]")
@click.option("--held-out-clips", type=int, help="clips of people kept apart [default: 8]")
@click.option("--frames", type=int, help="frames of a clip [default: 12]")
@click.option("--size-px", type=int, help="side of the crops: the network's [default: 256]")
@click.option("--picture-px", type=int, help="side of the face encoder's pictures: the network's [default: 64]")
@click.option("--frame-px", type=int, help="side of the whole frames [default: 1.5 times the crops', 192 at least]")
@click.option("--photo-px", type=int, help="side of the photos that are enrolled [default: 384]")
@click.option("--photos", type=int, help="photos of an identity [default: 1]")
@click.option("--same-person", type=int, help="samples in a row of one identity [default: 3]")
@click.option("--seed", type=int, help="decides every sample [default: 0]")
@click.option("--occlude", type=float, help="share of samples with something before the face [default: 0.25]")
@click.option("--degrade/--no-degrade", default=None, help="what camera and call do to pictures [default: yes]")
@click.option("--disguise/--no-disguise", default=None, help="drivers who are the identity wear a face [default: yes]")
@click.option("--data", type=click.Path(path_type=Path), help="folder with the face model [default: ../shared/data]")
@click.option("--rendered", type=float, help="weight of rendered people [default: 0.7]")
@click.option("--portraits", type=click.Path(path_type=Path), help="portraits to move [default: DATA/synth_faces]")
@click.option("--moved", type=float, help="weight of portraits that move [default: 0.3]")
@click.option("--shards", type=click.Path(path_type=Path), help="folder that `vividstream prepare` wrote")
@click.option("--held-out-shards", type=click.Path(path_type=Path), help="such a folder of people kept apart")
@click.option("--real", type=float, help="weight of the shards, where there are any [default: 1]")
@click.option("--workers", type=int, help="processes that draw at the same time [default: 1]")
def examples_command(folder: Path, **values: Any) -> None:
    """Draw training examples into FOLDER as the live engine would be shown them.

    Samples that a call would not draw (no face found, hidden, at the picture's edge, photos that enrolment refuses) are
    left out and counted. Run the same command again to go on where it was ended, or with larger numbers for more.
    """
    from distill.errors import NotWritten
    from distill.evaluate.command import need_torch

    settings = ExampleSettings.read(
        {"folder": folder, **{name: one for name, one in values.items() if one is not None}}
    )
    need_torch("examples")
    from distill.examples.cache import make_examples

    progress = Progress()
    try:
        record = make_examples(settings, progress.show)
    except NotWritten:
        progress.end()
        click.echo("stopped; what is done is kept, and the same command goes on from there", err=True)
        raise
    progress.end()
    click.echo(summary(record))


def summary(record: Record) -> str:
    """What there is now, and how much was left out for which reason."""
    stills, clips = record.count("train", "image"), record.count("train", "video")
    apart = f"{record.count('held_out', 'image')} and {record.count('held_out', 'video')}"
    refused = record.refused()
    lines = [f"{stills} stills and {clips} clips, and {apart} of people kept apart, in {record.folder}"]
    if refused:
        reasons = ", ".join(f"{reason} ({number})" for reason, number in refused.most_common())
        lines.append(f"left out {sum(refused.values())}: {reasons}")
    return "\n".join(lines)
