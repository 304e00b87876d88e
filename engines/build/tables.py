"""What the command line says of engines, as facts for JSON and as lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from engines import store
from engines.build.progress import duration
from engines.engine_manifest import EngineManifest
from engines.errors import EngineUnavailable
from engines.machine import gigabytes, this_machine
from engines.models import presets
from engines.registry import engine_names
from engines.settings import SwapSettings
from engines.store import Entry, Wanted

if TYPE_CHECKING:
    from engines.build.verify import Verdict


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell; nothing for no rows."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def drawing_facts(built: Sequence[Entry]) -> dict[str, Any]:
    """What can draw, and which one `auto` takes. Learned engines are looked for, not opened."""
    from engines.session import load

    session = load(SwapSettings(engine="auto"))
    session.close()
    engines = [{"name": name, "state": _state(name)} for name in engine_names()]
    return {"engines": engines, "auto": session.engine, "why": session.why}


def _state(name: str) -> str:
    from engines.session import load

    try:
        if name in presets.preset_names():
            store.find(Wanted(name, device="cuda" if this_machine("cuda").gpu else "cpu"))
        else:
            load(SwapSettings(engine=name)).close()
    except EngineUnavailable as error:
        return f"unavailable: {error}"
    return "ready"


def built_facts(entry: Entry) -> dict[str, Any]:
    """One built engine."""
    manifest = entry.manifest
    key = manifest.key
    return {
        "key": entry.key,
        "folder": str(entry.folder),
        "name": key.name,
        "runtime": key.runtime,
        "device": key.device,
        "precision": key.precision,
        "size_px": key.size_px,
        "steps": key.steps,
        "window": key.window,
        "batch": key.batch,
        "weights": manifest.weights.source,
        "random_weights": manifest.random,
        "created": manifest.created,
        "size_bytes": sum(fact.size_bytes for fact in manifest.files.values()),
        "ms_per_frame": manifest.golden.ms_per_frame,
        "unfit": store.misfit_of(manifest, key.device),
    }


def built_rows(facts: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line for each built engine, under a line of titles."""
    rows = [
        (
            one["key"][:12],
            one["name"],
            one["runtime"],
            one["device"],
            one["precision"],
            f"{one['size_px']} px",
            str(one["steps"]),
            str(one["batch"]),
            "RANDOM" if one["random_weights"] else one["weights"],
            one["created"][:10],
            gigabytes(one["size_bytes"]),
            one["unfit"] or "fits this machine",
        )
        for one in facts
    ]
    titles = "key name runtime device precision size steps batch weights built disk state".split()
    return [tuple(titles), *rows] if rows else []


def verdict_facts(verdict: Verdict) -> dict[str, Any]:
    """What was found of one engine."""
    return {
        "key": verdict.entry.key,
        "name": verdict.entry.manifest.key.name,
        "fault": verdict.fault,
        "ms_per_frame": verdict.ms_per_frame,
        "results": [result.model_dump() for result in verdict.results],
    }


def manifest_text(entry: Entry) -> str:
    """What a manifest says, for people."""
    manifest, key = entry.manifest, entry.manifest.key
    proof, worst = manifest.golden, max(result.rms for result in manifest.golden.results)
    weights = manifest.weights.source
    if manifest.weights.random_seed is not None:
        weights = f"RANDOM, seed {manifest.weights.random_seed}"
    elif manifest.weights.untrained:
        weights += f", RANDOM IN PART: {', '.join(manifest.weights.untrained)}"
    machine = key.machine.gpu or key.device
    steps = "1 step" if key.steps == 1 else f"{key.steps} steps"
    shape = f"{key.size_px} px, {steps}, window of {key.window} frames, batch {key.batch}"
    allowed = proof.tolerance
    rows = [
        ("engine", f"{key.name}, {shape}"),
        ("executed by", f"{key.runtime}, {key.precision}, {machine}, {', '.join(map(' '.join, key.versions.items()))}"),
        ("weights", f"{weights}, licence: {manifest.weights.licence or 'none'}, sha256 {key.weights_sha256[:16]}"),
        ("proof", f"{worst:.2g} at most off {proof.reference} over {proof.frames} frames"),
        ("", f"allowed: {allowed.first_rms:.2g} in the first frame, {allowed.rollout_rms:.2g} after it"),
        *_quantised_rows(manifest),
        ("speed", f"{proof.ms_per_frame:.1f} ms a frame while it was built"),
        ("built", f"{manifest.created} in {duration(sum(manifest.timings_s.values()))}"),
        ("by", f"vividstream {manifest.vividstream} {manifest.git_revision[:12]}".rstrip()),
        ("on", " ".join(str(value) for value in manifest.built_on.model_dump().values() if value)),
        ("fits here", store.misfit_of(manifest, key.device) or "yes"),
        ("key", entry.key),
        *(("file", f"{name}, {gigabytes(fact.size_bytes)}") for name, fact in manifest.files.items()),
        ("again", store.rebuild_command(manifest)),
    ]
    return "\n".join(f"{title:<13}{text}" for title, text in rows)


def _quantised_rows(manifest: EngineManifest) -> list[tuple[str, str]]:
    """Of an engine in 8 bits: what is, what is not, and how far the face is from that of float32."""
    made = manifest.quantised
    if made is None:
        return []
    worst, most = max(one.rms for one in made.results), max(one.most for one in made.results)
    colour, limits = max(one.colour for one in made.results), made.limits
    return [
        (
            "8 bits",
            f"{made.in_8_bits} of {made.products} products, ranges of {made.frames} frames ({made.calibration})",
        ),
        ("face", f"{worst:.2g} levels off float32 (rms), 99 % within {most:.2g}, colours dE {colour:.2g}"),
        ("", f"allowed: {limits.rms:.2g}, {limits.most:.2g}, dE {limits.colour:.2g}"),
    ]
