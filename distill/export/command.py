"""`vividstream export WEIGHTS -o FOLDER`. Torch comes in when it runs."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distill.evaluate.command import need_torch
from engines.build.command import CHATTY, Teller
from engines.engine_manifest import ROLLOUT_FRAMES

if TYPE_CHECKING:
    from engines.store import Entry

RUNTIMES = ("ort", "torch", "compiled", "tensorrt")


@click.command("export", short_help="Turn a trained student into files and a built engine.")
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="folder to make for the files")
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice(RUNTIMES),
    multiple=True,
    help="build the engine for it, prove it and put it into the store; may be given several times [default: ort]",
)
@click.option("--half/--no-half", default=False, help="round the weights to 16 bits: half the file [default: no]")
@click.option("--build/--no-build", default=True, help="build engines at all [default: yes]")
@click.option("--device", default="cpu", help="where the engine is to run: cpu, cuda, cuda:1 [default: cpu]")
@click.option("--store", type=click.Path(path_type=Path), help="folder of the built engines")
@click.option("--json", "as_json", is_flag=True, help="say what was made as JSON")
def export_command(
    weights: Path,
    out: Path,
    runtimes: tuple[str, ...],
    half: bool,
    build: bool,
    device: str,
    store: Path | None,
    as_json: bool,
) -> None:
    """Turn a trained student into files for other programs, and into a proved engine for this machine.

    FOLDER gets weights with their model card, step.onnx and identity.onnx, and graphs.json, which says what goes in,
    what comes out and what is remembered between frames. Then the engine is built into the store and its whole stored
    rollout is drawn once more from there.
    """
    need_torch("export")
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from distill.export.package import package

    copied = package(weights, out, half)
    if not as_json:
        click.echo(f"written to {out}", err=True)
    entries = [built(copied, runtime, device, store) for runtime in (runtimes or RUNTIMES[:1])] if build else []
    if as_json:
        facts = [{"key": one.key, "runtime": one.manifest.key.runtime, "folder": str(one.folder)} for one in entries]
        click.echo(json.dumps({"folder": str(out), "weights": str(copied), "engines": facts}, indent=1))


def built(weights: Path, runtime: str, device: str, store: Path | None, rollout: int = ROLLOUT_FRAMES) -> Entry:
    """The engine in the store, after the check that `vividstream engines verify` makes. Where that fails, the program
    ends with status 1."""
    from engines.build.builder import build
    from engines.build.settings import BuildSettings
    from engines.build.verify import verify
    from engines.weights import inspect

    name = inspect(weights).card.config.name
    settings = BuildSettings.read(
        {"name": name, "runtime": runtime, "weights": weights, "device": device, "store": store, "rollout": rollout}
    )
    teller = Teller()
    try:
        entry = build(settings, teller)
    finally:
        teller.end()
    verdict = verify(entry)
    if verdict.fault:
        click.echo(f"{entry.key[:12]}: {verdict.fault}", err=True)
        sys.exit(1)
    allowed = entry.manifest.golden.tolerance.rollout_rms
    click.echo(
        f"{entry.key[:12]}  {name} for {runtime}: at most {verdict.worst:.2g} off ({allowed:.2g} is allowed), "
        f"{verdict.ms_per_frame:.1f} ms a frame",
        err=True,
    )
    return entry
