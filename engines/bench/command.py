"""`vividstream bench`: what each engine costs on this machine, without a camera."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engines import registry, store
from engines.errors import MediaError, SettingError
from engines.registry import LEARNED
from engines.settings import SwapSettings

if TYPE_CHECKING:
    from engines.types import Rgb

WEARER, WORN = "amara", "henrik"  # two of the built-in people who do not exist
PUPPET_FRAMES = 50


@click.command("bench", short_help="Measure what each engine costs on this machine.")
@click.option(
    "-e",
    "--engine",
    "engines",
    multiple=True,
    help="NAME, NAME:RUNTIME or NAME:RUNTIME:PRECISION, several times [default: all here]",
)
@click.option("--random-weights", is_flag=True, help="learned engines with weights of nobody's training")
@click.option("--steps", type=click.IntRange(1, 8), help="denoising steps of one frame")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
    default="auto",
    show_default=True,
    help="of learned engines",
)
@click.option("--frames", type=click.IntRange(10, 100_000), default=300, show_default=True, help="frames per engine")
@click.option("--size", default="640x480", show_default=True, help="of the pictures, WIDTHxHEIGHT")
@click.option(
    "--fps", type=click.FloatRange(1, 240), default=25.0, show_default=True, help="rate of the pictures' clock"
)
@click.option(
    "--pictures", type=click.Path(path_type=Path, file_okay=False), help="folder of pictures instead of the puppet"
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="also write JSON here")
def bench_command(
    engines: Sequence[str],
    random_weights: bool,
    steps: int | None,
    device: str,
    precision: str,
    frames: int,
    size: str,
    fps: float,
    pictures: Path | None,
    json_file: Path | None,
) -> None:
    """Step every engine over the same pictures, in turns, and print what a frame and each of its stages takes.

    The pictures show a puppet: a built-in person who does not exist, moving. Rates are held against what the machine
    reaches at best, measured in the same run.
    """
    from engines.bench.measure import measure
    from engines.bench.peak import measure_peaks
    from engines.bench.report import as_text, facts_of, machine_facts
    from engines.identity_store import IdentityStore

    common = {"device": device, "precision": precision, "steps": steps}
    subjects = [_subject(name, random_weights, common) for name in engines or _all_here(random_weights)]
    shown = _film(pictures, size, fps)
    machine, peaks = machine_facts(), measure_peaks(device)
    with click.progressbar(
        measure(subjects, IdentityStore(None).load(WORN), shown, frames, fps), length=len(subjects), label="measuring"
    ) as runs:
        facts: dict[str, Any] = {
            "machine": machine,
            "peaks_gflops": peaks,
            "pictures": str(pictures or "puppet"),
            "size": f"{shown[0].shape[1]}x{shown[0].shape[0]}",
            "subjects": [facts_of(run, peaks) for run in runs],
        }
    click.echo(as_text(facts))
    if json_file is not None:
        _write(json_file, json.dumps(facts, indent=1))


def _all_here(random_weights: bool) -> list[str]:
    """Every engine that can run here: geometry, those built, and with random weights those that torch runs."""
    whole, _ = store.entries()
    keys = [entry.manifest.key for entry in whole]
    built = [f"{key.name}:{key.runtime}" + (":int8" if key.precision == "int8" else "") for key in keys]
    drawn = ["tiny:torch"] if random_weights and find_spec("torch") else []
    return list(dict.fromkeys(["proxy", *drawn, *built]))


def _subject(name: str, random_weights: bool, common: dict[str, Any]) -> Any:
    """Raises UnknownEngine and SettingError, before anything is measured."""
    from engines.bench.measure import Subject

    engine, runtime, precision = [*name.split(":"), "", ""][:3]
    registry.choose(engine)
    learned = engine in LEARNED
    asked: dict[str, Any] = {"engine": engine}
    if learned:
        asked |= {key: value for key, value in common.items() if value is not None}
        asked |= {"weights": "random" if random_weights else "trained"} | ({"runtime": runtime} if runtime else {})
        asked |= {"precision": precision} if precision else {}
    elif runtime:
        raise SettingError(f'"{name}": {engine} has no runtime to choose; learned engines are {", ".join(LEARNED)}')
    settings = SwapSettings.read(asked)
    if not learned or find_spec("torch") is None:
        return Subject(name, settings)
    from engines.models import presets
    from engines.models.describe import describe

    flop = describe(presets.of(engine, settings.steps or 1)).flop_per_frame
    return Subject(name, settings, float(flop), f"torch {_precision(settings, runtime)}")


def _precision(settings: SwapSettings, runtime: str) -> str:
    """What `auto` means to the runtime, for the peak to hold it against."""
    if settings.precision != "auto":
        return settings.precision
    if runtime == "ort" and settings.device == "cpu":
        return "float32"
    from engines.runtimes.torch_graph import NAMES, open_device, resolve_precision

    return NAMES[resolve_precision("auto", open_device(settings.device))[0]]


def _film(folder: Path | None, size: str, fps: float) -> list[Rgb]:
    """The pictures to step over: uint8 [H, W, 3], all of one size."""
    from engines.bench.puppet import Puppet
    from engines.identity_store import IdentityStore

    width_px, height_px = _size(size)
    if folder is None:
        return list(Puppet(IdentityStore(None).load(WEARER), height_px, width_px, fps).frames(PUPPET_FRAMES))
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not found:
        raise MediaError(f"{folder}: no pictures (.png, .jpg) in it")
    return [_read(path, width_px, height_px) for path in found]


def _read(path: Path, width_px: int, height_px: int) -> Rgb:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB").resize((width_px, height_px), Image.Resampling.BICUBIC))
    except (OSError, UnidentifiedImageError) as error:
        raise MediaError(f"{path}: not a picture that can be read") from error


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()) or not all(64 <= int(side) <= 8192 for side in (width, height)):
        raise SettingError(f'size "{text}": give WIDTHxHEIGHT, for example 640x480')
    return int(width), int(height)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror}") from error
