"""`vividstream engines import`: published checkpoints become a file of weights with a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from engines.build.manifest import git_revision, product_version
from engines.errors import SettingError, UnknownEngine, nearest
from engines.models import presets
from engines.models.config import SwapperConfig
from engines.weights import SUFFIX, ModelCard, some, write

if TYPE_CHECKING:
    from engines.build.import_weights import Imported, Taken

DTYPES = ("float32", "float16", "bfloat16")


@click.command("import", short_help="Turn published checkpoints into a file of weights.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--as", "name", required=True, help="what they are to become: a preset, or a configuration as .json")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help=f"file to write, {SUFFIX}")
@click.option("--licence", required=True, help="under which the sources may be used; stands in the model card")
@click.option("--data", default="see the sources", show_default=True, help="what the sources were trained on")
@click.option("--partial", is_flag=True, help="let what no source gives stay random, and leave out what has no place")
@click.option("--causal", is_flag=True, help="make the autoencoder's convolutions over time a start for streams")
@click.option("--seed", default=0, show_default=True, help="of what stays random")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="how numbers are stored")
@click.option("--from-torch", is_flag=True, help="read .pt, .pth, .ckpt and .bin too, with torch's weights_only")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def import_command(
    sources: tuple[Path, ...],
    name: str,
    output: Path,
    licence: str,
    data: str,
    partial: bool,
    causal: bool,
    seed: int,
    dtype: str,
    from_torch: bool,
    as_json: bool,
) -> None:
    """Merge SOURCES, files or folders in diffusers' layout, into one file of weights for an engine.

    Each source is recognised by its keys: UNet2DConditionModel, UNetMotionModel, MotionAdapter, AutoencoderKL,
    AutoencoderKLTemporalDecoder, VividFace's denoising_unet and face3dvae, DINOv2, CLIP's text encoder. Keys that are
    unknown, missing, misshapen or given twice are errors that name them.
    """
    from engines.build.command import need_torch

    need_torch("import")
    config = config_called(name)
    import torch

    from engines.build.import_sources import open_source
    from engines.build.import_weights import import_weights

    opened = [open_source(path, from_torch=from_torch) for path in sources]
    imported = import_weights(opened, config, partial=partial, causal=causal, seed=seed, say=_say)
    tensors = {
        key: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        for key, tensor in imported.tensors.items()
    }
    card = ModelCard(
        config=imported.config,
        licence=licence,
        data=data,
        recipe="import, causal" if causal else "import",
        revision=git_revision() or product_version(),
        sources=tuple(f"{one.source.title} ({one.kind}) sha256 {one.source.sha256}" for one in imported.taken),
        untrained=tuple(_parts(imported.random)),
    )
    contents = write(output, tensors, card)
    facts = _facts(imported) | {
        "file": str(output),
        "sha256": contents.sha256,
        "parameters": contents.parameters,
        "size_bytes": contents.size_bytes,
    }
    click.echo(json.dumps(facts, indent=1) if as_json else "\n".join(_lines(facts)))


def config_called(name: str) -> SwapperConfig:
    """A preset, or what a .json says. Raises UnknownEngine or SettingError."""
    if not name.endswith(".json"):
        if name not in presets.preset_names():
            raise UnknownEngine(f'no preset "{name}"; {nearest(name, presets.preset_names())}')
        return presets.of(name)
    try:
        return SwapperConfig.model_validate_json(Path(name).read_bytes())
    except OSError as error:
        raise SettingError(f"{name}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SettingError(f"{name}: {field or 'the whole'}: {first['msg']}") from error


def _say(line: str) -> None:
    click.echo(line, err=True)


def _facts(imported: Imported) -> dict[str, Any]:
    return {
        "name": imported.config.name,
        "sources": [_source_facts(one) for one in imported.taken],
        "configuration": imported.notes,
        "random": _parts(imported.random),
        "tensors": len(imported.tensors),
    }


def _source_facts(one: Taken) -> dict[str, Any]:
    return {
        "path": str(one.source.path),
        "kind": one.kind,
        "sha256": one.source.sha256,
        "keys": len(one.source.tensors),
        "gave": len(one.given),
        "not_taken": {why: len(keys) for why, keys in one.not_taken.items()},
        "left_out": one.no_place,
        "notes": one.notes,
    }


def _parts(names: list[str]) -> list[str]:
    """Tensors gathered by the part of the network that they are in: `face_encoder.backbone (150 tensors)`."""
    count: dict[str, int] = {}
    for name in names:
        words = name.split(".")
        kinds = [word for word in words[2:] if word in ("res", "spatial", "temporal")]
        faces = ["*_face"] if any(word.endswith("_face") for word in words) else []
        part = ".".join([words[0], *faces] if faces else [*words[:2], *kinds[:1]])
        count[part] = count.get(part, 0) + 1
    return [f"{part} ({many} tensor{'s' if many > 1 else ''})" for part, many in count.items()]


def _lines(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    for source in facts["sources"]:
        lines.append(f"{source['path']}: {source['kind']}, {source['keys']} tensors, gave {source['gave']}")
        lines += [f"  not taken: {many} ({why})" for why, many in source["not_taken"].items()]
        if source["left_out"]:
            lines.append(f"  left out, since the configuration has no place for them: {some(source['left_out'])}")
        lines += [f"  {note}" for note in source["notes"]]
    lines += [f"configuration: {note}" for note in facts["configuration"]]
    if facts["random"]:
        lines.append(f"still random: {some(facts['random'], most=12)}")
    size_mb, millions = facts["size_bytes"] / 1e6, facts["parameters"] / 1e6
    lines.append(f"{facts['file']}: {facts['tensors']} tensors, {millions:.1f} million numbers, {size_mb:.1f} MB")
    lines.append(f"sha256 {facts['sha256']}")
    return lines
