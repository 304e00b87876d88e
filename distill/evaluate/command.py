"""`vividstream eval`. Importing this file is light: torch and the renderer come in when a command runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import click

from distill.evaluate.settings import TrueSwapConfig
from engines import EngineUnavailable, SwapSettings, UnknownEngine, engine_names, nearest

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

    def say(line: str) -> None:
        click.echo(line, err=True)

    report = run(config.data, settings, config.quick, say, config.pictures)
    click.echo(markdown(report, versions()))
    if config.out is not None:
        click.echo(f"written to {write(report, config.out, versions())}", err=True)


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
