"""`vividstream prepare VIDEOS... -o FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from distill.prepare.settings import PrepareSettings
from distill.progress import ProgressLine, bar
from engines.settings import SwapperType

if TYPE_CHECKING:
    from distill.prepare.run import Outcome

INCOMPLETE = 3  # exit status where something was left out that a person should know of


class Progress:
    """How far the cutting is, on one line."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._line = ProgressLine()
        self.end = self._line.end

    def show(self, videos: int, frames: int) -> None:
        """Call as often as you like."""
        if self._line.is_due():
            self._line.show(progress_text(videos, self._total, frames, self._line.elapsed_s))


def progress_text(videos: int, total: int, frames: int, elapsed_s: float) -> str:
    """`[######..................] 3/12 videos, 1234 frames, 56.0 fps`."""
    speed = frames / elapsed_s if elapsed_s > 0 else 0.0
    return f"{bar(videos, total)} {videos}/{total} videos, {frames} frames, {speed:.1f} fps"


@click.command("prepare", short_help="Cut videos into aligned clips of one person each.")
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="folder for the shards")
@click.option("--consent", required=True, help="who agreed, when, for what; recorded with every clip")
@click.option("--licence", required=True, help="licence of the videos; recorded with every clip")
@click.option("--size-px", type=click.Choice([256, 512]), help="side of the aligned crops [default: 256]")
@click.option("--frames", type=int, help="frames of a clip [default: 16]")
@click.option("--least-face-px", type=int, help="width of the smallest face that is taken [default: 64]")
@click.option("--least-sharpness", type=float, help="0 takes everything, 1 only the sharpest [default: 0.1]")
@click.option("--most-yaw-deg", type=float, help="largest turn to a side [default: 75]")
@click.option("--most-pitch-deg", type=float, help="largest turn up or down [default: 45]")
@click.option("--least-inside", type=float, help="share of the crop inside of the video [default: 0.85]")
@click.option("--shard-clips", type=int, help="clips in one shard at most [default: 64]")
@click.option("--workers", type=int, help="processes that work at the same time [default: 1]")
@click.option("--decoupler", type=click.Path(path_type=Path), help="swapper of your own (ONNX) that draws twins")
@click.option("--decoupler-type", type=click.Choice(get_args(SwapperType)), help="its kind [default: auto]")
@click.option("--decoupler-embedder", type=click.Path(path_type=Path), help="face recogniser that it needs")
@click.option("--decoupler-converter", type=click.Path(path_type=Path), help="converter of embeddings that it needs")
@click.option("--decoupler-identities", type=click.Path(path_type=Path), help="folder of the faces that twins wear")
@click.option("--cluster/--no-cluster", default=None, help="run on a Ray cluster [default: no]")
def prepare_command(videos: tuple[Path, ...], **values: Any) -> None:
    """Cut VIDEOS into aligned clips of one person each, in WebDataset shards, for training.

    Folders are searched for files; hidden ones and OUTPUT are left out. Run the same command again to go on where it
    was ended. Exit status 3: done, but some videos could not be used, or not wholly; they are named.
    """
    from distill.errors import NothingLeft, NotWritten
    from distill.prepare.report import write_report
    from distill.prepare.run import prepare
    from distill.prepare.state import Record

    settings = PrepareSettings.read({name: value for name, value in values.items() if value is not None})
    files = found(videos, settings.output)
    if not files:
        raise NothingLeft(f"no files in {', '.join(map(str, videos))}")
    progress = Progress(len(files))
    try:
        outcome = prepare(files, settings, progress.show)
    except NothingLeft as error:
        progress.end()
        for line in error.refused:
            click.echo(line, err=True)
        raise
    except NotWritten:
        progress.end()
        click.echo("stopped; what is done is kept, and the same command goes on from there", err=True)
        raise
    progress.end()
    page = write_report(Record.load(settings), outcome)
    for line in (*outcome.remade, *outcome.refused, *outcome.broke_off):
        click.echo(line, err=True)
    click.echo(summary(outcome, len(files), settings.output, page, settings.decoupler is not None))
    if outcome.refused or outcome.broke_off:
        sys.exit(INCOMPLETE)


def summary(outcome: Outcome, videos: int, folder: Path, page: Path, twins: bool = False) -> str:
    """What there is now, what was there before, and how much is missing, in a line."""
    parts = [f"{outcome.clips} clips in {folder}", f"{videos} videos, {outcome.already} of them known from before"]
    if twins:
        parts.append(f"twins of {outcome.twins} clips")
    if outcome.remade:
        parts.append(f"{len(outcome.remade)} damaged shards made again")
    if outcome.refused:
        parts.append(f"{len(outcome.refused)} could not be used")
    if outcome.broke_off:
        parts.append(f"{len(outcome.broke_off)} not wholly")
    return "; ".join(parts) + f"; see {page}"


def found(paths: tuple[Path, ...], output: Path) -> list[Path]:
    """Files as they are, folders replaced by the files in them, in order of their names.

    In folders hidden files are passed over, and what an earlier run wrote, where the output lies among the videos.
    """
    files: list[Path] = []
    for path in paths:
        files += sorted(one for one in path.rglob("*") if _is_input(one, output)) if path.is_dir() else [path]
    return files


def _is_input(path: Path, output: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and not path.resolve().is_relative_to(output.resolve())
