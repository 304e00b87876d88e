"""`vividstream eval steps`: opens weights and held-out examples, draws with few and many steps, writes the curves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch

from distill.errors import NotWritten
from distill.evaluate.bands import NAMES
from distill.evaluate.curves import (
    MOST_STEPS,
    Curve,
    Drawn,
    Painter,
    autoencoded,
    curves,
    stream_teacher,
    student,
    window_teacher,
)
from distill.evaluate.frechet import mean_with_interval
from distill.evaluate.on_examples import ratio
from distill.evaluate.origin import machine_facts
from distill.evaluate.settings import StepsEvalConfig
from distill.evaluate.swap_report import cell, number, padded, span
from distill.examples.batches import Batches
from distill.examples.cache import Record
from distill.examples.settings import BatchSettings
from distill.examples.types import Shown
from engines import SettingError, WeightsError
from engines.models.swapper import Swapper
from engines.weights import Contents, inspect, load_into

Say = Callable[[str], None]
PROXY, AUTOENCODED = "proxy", "truth through the autoencoder"


def run(config: StepsEvalConfig, say: Say) -> tuple[str, dict[str, object]]:
    """The report as text, and for JSON. Raises VividError for whatever is not there."""
    paths = {"teacher": config.teacher, "student": config.student}
    given = {name: path for name, path in paths.items() if path is not None}
    if not given:
        raise SettingError("nothing to measure: give --student FILE, --teacher FILE, or both")
    if not all(1 <= steps <= MOST_STEPS for steps in config.steps):
        raise SettingError(f"a student takes 1 to {MOST_STEPS} steps, not {', '.join(map(str, config.steps))}")
    opened = {name: open_weights(path) for name, path in given.items()}
    if len(opened) == 2:
        check_together(opened["student"][0], opened["teacher"][0])
    painters, reference = painters_of(config, opened)
    held = opened.get("student", opened.get("teacher"))
    assert held is not None
    found = curves(painters, held_out(config, held[0]), held[0], reference, config.seed, say)
    facts = {
        f"{name} weights": f"{given[name].name} sha256 {contents.sha256}" for name, (_, contents) in opened.items()
    }
    facts |= {"examples": str(config.examples), "solver": config.solver, **machine_facts()}
    return markdown(found, reference, facts), values(found, reference, facts)


def open_weights(path: Path) -> tuple[Swapper, Contents]:
    """Raises WeightsError where the file is damaged, or parts of it were never trained."""
    card = inspect(path).card
    if card.untrained:
        raise WeightsError(f"{path}: nobody trained {', '.join(card.untrained)}: what it draws means nothing")
    swapper = Swapper(card.config)
    contents = load_into(swapper, path)
    return swapper.eval().requires_grad_(False), contents


def check_together(few: Swapper, many: Swapper) -> None:
    """Raises SettingError where latents of the two are not of one autoencoder, so also where one draws changes."""
    mine, theirs = few.autoencoder.state_dict(), many.autoencoder.state_dict()
    same = mine.keys() == theirs.keys() and all(
        mine[name].shape == theirs[name].shape and bool((mine[name] == theirs[name]).all()) for name in mine
    )
    if not same:
        raise SettingError("student and teacher have other autoencoders: their latents cannot be compared")


def painters_of(
    config: StepsEvalConfig, opened: Mapping[str, tuple[Swapper, Contents]]
) -> tuple[dict[str, Painter], str | None]:
    """By name, and which is the reference."""
    any_of_them = next(iter(opened.values()))[0]
    painters: dict[str, Painter] = {PROXY: proxy(any_of_them)}
    if any_of_them.config.draws == "face":  # a decoder of changes gives no truth back
        painters[AUTOENCODED] = autoencoded(any_of_them)
    reference = None
    if "teacher" in opened:
        swapper, contents = opened["teacher"]
        causal = contents.card.stage == "causal"
        for steps in sorted(set(config.teacher_steps)):
            name = f"{'causal teacher' if causal else 'teacher'}, {steps} steps"
            made = stream_teacher(swapper, steps, config.solver)
            painters[name] = made if causal else window_teacher(swapper, steps, config.solver, config.frames)
            reference = name
    if "student" in opened:
        for steps in sorted(set(config.steps)):
            painters[f"student, {steps} step{'s' if steps > 1 else ''}"] = student(opened["student"][0], steps)
    return painters, reference


def proxy(swapper: Swapper) -> Painter:
    """The proxy's picture, and its latents as the network is shown them."""

    def draw(shown: Shown, noise_BTnChw: torch.Tensor) -> Drawn:
        latents = swapper.autoencoder.encode(shown.proxy_BT3SS, still=shown.kind == "image", causal=True).float()
        return Drawn(latents, shown.proxy_BT3SS)

    return draw


def held_out(config: StepsEvalConfig, swapper: Swapper) -> Iterator[Shown]:
    """Clips of people who were kept apart, each once. Raises DataMissing, BadShard, SettingError."""
    clips = Record.read(config.examples).count("held_out", "video")
    settings = BatchSettings(
        folder=config.examples,
        seed=config.seed,
        frames=config.frames,
        videos_a_batch=min(config.clips, max(clips, 1)),
        rhythm=("video",),
    )
    batches = Batches(settings, workers=0, split="held_out", device=str(next(swapper.parameters()).device))
    most = min(config.batches, max(clips // settings.videos_a_batch, 1))
    return (shown for shown, _ in islice(batches.batches(), most))


HEAD = ("true rms", "95 %", "PSNR dB", "SSIM", "dE", "temporal", "to reference", "latent", *NAMES, "changes", "ms")


def markdown(found: Mapping[str, Curve], reference: str | None, facts: Mapping[str, str]) -> str:
    """The curves as text."""
    rows = [(name, *cells(curve)) for name, curve in found.items()]
    few = [name for name in found if name.startswith("student")]
    lines = ["# Quality by steps", "", padded(("", *HEAD), rows), ""]
    if reference is not None:
        lines += [f"The reference is {reference}; all start from the same noise.", ""]
        lines += [
            f"- {name}: {ratio(found[name].true, found[reference].true)} of its error on true swap" for name in few
        ]
    lines += [f"- {name}: {ratio(found[name].true, found[PROXY].true)} of the proxy's error" for name in few]
    count = len(next(iter(found.values())).true.examples)
    lines += [
        "",
        f"{count} held-out clips. True: against the truth, in the face's region as it is pasted; rms and temporal in "
        "levels of 255. To reference: rms of pictures. Latent: rms distance of latents, over the reference's spread. "
        f"{', '.join(NAMES)}: spread of the latents in three bands, over the true ones'; below 1 detail is lost. "
        "Changes: energy of the latents' frame differences, over the true ones'; below 1 lag or blur, above flicker. "
        "ms: denoiser alone, a frame.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
    ]
    return "\n".join(lines)


def cells(curve: Curve) -> list[str]:
    interval = mean_with_interval([one.rms for one in curve.true.examples])
    figures = [curve.true.mean(name) for name in ("psnr", "ssim", "colour", "temporal")]
    figures += [curve.near.mean(), curve.latent, *curve.bands, curve.energy, curve.ms]
    return [cell(interval.value), span(interval), *map(cell, figures)]


def values(found: Mapping[str, Curve], reference: str | None, facts: Mapping[str, str]) -> dict[str, object]:
    """For JSON."""
    return {
        "kind": "vividstream eval steps",
        "reference": reference,
        "facts": dict(facts),
        "curves": {
            name: {
                "true": {key: number(value) for key, value in curve.true.summary().items()},
                "near": {key: number(value) for key, value in curve.near.summary().items()},
                "latent": number(curve.latent),
                "bands": dict(zip(NAMES, map(number, curve.bands))),
                "changes": number(curve.energy),
                "ms": number(curve.ms),
                "true_rms": [number(one.rms) for one in curve.true.examples],
            }
            for name, curve in found.items()
        },
    }


def write(text: str, stored: Mapping[str, object], folder: Path) -> Path:
    """Writes steps.md and steps.json. Raises NotWritten."""
    path = folder / "steps.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise NotWritten(f"{path}: {error.strerror or error}") from error
    return path
