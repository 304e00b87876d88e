"""`vividstream eval`. Importing this file is light: torch and the renderer come in when a command runs."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import click

from distill.evaluate.settings import StepsEvalConfig, SwapEvalConfig, TrueSwapConfig
from engines import EngineUnavailable, SwapSettings, UnknownEngine, engine_names, nearest

PATH = click.Path(path_type=Path)
INCOMPLETE = 3  # exit status where something was left out that a person should know of
INSTALL = 'pip install "vividstream[train]"'


@click.group("eval")
def eval_group() -> None:
    """Measure engines against the truth."""


@eval_group.command("true-swap")
@click.option("--engine", help="engine to measure, by name [default: proxy]")
@click.option(
    "--tone",
    type=click.Choice(["identity", "driver", "mix"]),
    help="whose skin tone the result has [default: identity]",
)
@click.option("--quick", is_flag=True, default=None, help="six short clips instead of all")
@click.option(
    "--out", type=click.Path(path_type=Path), help="folder for the report, as text and JSON; only printed if not given"
)
@click.option("--pictures", type=click.Path(path_type=Path), help="folder for a picture of every swap")
@click.option("--data", type=click.Path(path_type=Path), help="folder with the face model [default: ../shared/data]")
def true_swap(**values: object) -> None:
    """Swap rendered people, whose true swap is known, and print how far the engine is from it."""
    config = TrueSwapConfig.read({name: value for name, value in values.items() if value is not None})
    if config.engine not in engine_names():
        raise UnknownEngine(f'unknown engine "{config.engine}"; {nearest(config.engine, engine_names())}')
    need_torch("eval true-swap")
    from distill.evaluate.true_swap import run
    from distill.evaluate.true_swap_report import markdown, write

    # The label is this product's own mark, and not on the true pictures.
    settings = SwapSettings(engine=config.engine, tone=config.tone, label=False)
    report = run(config.data, settings, config.quick, _say, config.pictures)
    click.echo(markdown(report, versions()))
    if config.out is not None:
        click.echo(f"written to {write(report, config.out, versions())}", err=True)


@eval_group.command("swap")
@click.option("--engine", help="engine to measure, by name [default: proxy]")
@click.option("--set", multiple=True, metavar="KEY=VALUE", help="a setting of the engine; may be repeated")
@click.option("--clips", multiple=True, type=PATH, help="video, or folder of videos, to swap; may be repeated")
@click.option("--identity", multiple=True, help="whose face is worn; may be repeated [default: the built-in ones]")
@click.option("--identities-dir", type=PATH, help="where enrolled identities lie [default: the user's data folder]")
@click.option("--rendered", is_flag=True, default=None, help="swap clips of people who do not exist; truth is known")
@click.option("--frames", type=PATH, help="folder of swaps that another program made; its layout: docs/evaluation.md")
@click.option("--name", help="what the report calls it [default: the engine, or the folder]")
@click.option("--quick", is_flag=True, default=None, help="two clips, two identities, 60 frames, every sixth looked at")
@click.option("--every", type=int, help="look at every n-th frame [default: 1]")
@click.option("--most-frames", type=int, help="of each clip, from its start [default: all]")
@click.option("--rollout-s", type=float, help="play each clip on for that long, for drift [default: 0]")
@click.option("--judge", multiple=True, metavar="KIND=FILE", help="dlib, or arcface=, adaface=, ir_se50=FILE.onnx")
@click.option("--gallery", type=PATH, help="photos of other people, among whom the right one is to be found")
@click.option("--blendshapes", type=PATH, help="face_landmarker.task [default: DATA/models/face_landmarker.task]")
@click.option("--hopenet", type=PATH, help="Hopenet as an ONNX file, for poses")
@click.option("--deep3d", type=PATH, help="Deep3DFaceRecon's network as an ONNX file, for expressions")
@click.option("--fvd", multiple=True, metavar="KIND=FILE", help="i3d=FILE or videomae=FILE: TorchScript or ONNX")
@click.option("--fvd-sha256", multiple=True, metavar="HEX", help="what each --fvd has to be, in the same order")
@click.option("--lengths", multiple=True, type=int, help="frames of a clip for FVD [default: 32 and 128]")
@click.option("--out", type=PATH, help="folder for report, sheet, and readings to go on from [default: only printed]")
@click.option("--data", type=PATH, help="folder with people's data and models [default: ../shared/data]")
def swap(**values: object) -> None:
    """Measure swaps without a truth, or with one: identity, pose, expression, gaze, flicker, FVD, drift, speed.

    With --out the same command goes on where it was ended. Exit status 3: done, but some swaps could not be measured;
    they are named.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ()}
    config = SwapEvalConfig.read(given)
    from distill.evaluate.swap_report import markdown, write
    from distill.evaluate.swap_run import checked, run, write_sheet

    checked(config)
    need_torch("eval swap")
    measured = run(config, _say)
    click.echo(markdown(measured.report))
    if config.out is not None:
        _say(f"written to {write(measured.report, config.out)} and {write_sheet(measured, config.out)}")
        if not measured.synthetic:
            _say("the sheet shows drivers who may be real people: their pictures are theirs, do not publish them")
    if measured.report.refused:
        sys.exit(INCOMPLETE)


@eval_group.command("steps")
@click.option("--examples", type=PATH, required=True, help="what `vividstream examples` made")
@click.option("--student", type=PATH, help="weights of a few-step student")
@click.option("--teacher", type=PATH, help="weights of a teacher, bidirectional or causal: the reference")
@click.option("--steps", type=int, multiple=True, help="of the student; may be repeated [default: 1, 2, 4]")
@click.option("--teacher-steps", type=int, multiple=True, help="of the teacher; the most are the reference [4, 8, 50]")
@click.option("--solver", type=click.Choice(["ddim", "dpm++2m", "heun"]), help="of the teacher [default: dpm++2m]")
@click.option("--batches", type=int, help="batches that are measured [default: 8]")
@click.option("--clips", type=int, help="clips in a batch [default: 2]")
@click.option("--frames", type=int, help="frames of a clip [default: 8]")
@click.option("--seed", type=int, help="of noise and order [default: 0]")
@click.option("--out", type=PATH, help="folder for the report, as text and JSON [default: only printed]")
def steps(**values: object) -> None:
    """Quality by steps: student and teacher on people kept apart, from the same noise, against truth and reference."""
    config = StepsEvalConfig.read({name: value for name, value in values.items() if value is not None and value != ()})
    need_torch("eval steps")
    from distill.evaluate.steps_run import run, write

    text, stored = run(config, _say)
    click.echo(text)
    if config.out is not None:
        click.echo(f"written to {write(text, stored, config.out)}", err=True)


@eval_group.command("table")
@click.argument("reports", nargs=-1, required=True, type=PATH)
def table(reports: tuple[Path, ...]) -> None:
    """Lay REPORTS of `eval swap` side by side, a line for each: VividFace's table and more."""
    from distill.evaluate.swap_report import read, side_by_side

    click.echo(side_by_side([read(path) for path in reports]))


def _say(line: str) -> None:
    click.echo(line, err=True)


def need_torch(command: str) -> None:
    """Raises EngineUnavailable with the command that mends it where torch is not installed."""
    if find_spec("torch") is None:
        raise EngineUnavailable(f"`vividstream {command}` needs torch, which the extra `train` brings: {INSTALL}")


def versions() -> str:
    """Versions that figures depend on."""
    return ", ".join(f"{name} {_version(name)}" for name in ("vividstream", "torch", "numpy", "mediapipe"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
