"""One run from a configuration to a file of weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from distill.examples.batches import Batches
from distill.examples.cache import Record, Split
from distill.recipes import RunConfig
from distill.shards import written_whole
from distill.stages.make import begun, held, make, still_untrained
from distill.training.batches import Data, first_batches
from distill.training.checkpoint import fingerprint
from distill.training.loop import Outcome, train
from distill.training.ranks import Ranks
from engines import SettingError
from engines.build.manifest import git_revision, product_version
from engines.weights import ModelCard, card_path, inspect, write

RESULT = "swapper.safetensors"


def run(
    config: RunConfig,
    folder: Path,
    ranks: Ranks,
    start: Path | None = None,
    teacher: Path | None = None,
    quiet: bool = False,
) -> Outcome | None:
    """Trains, or goes on, and writes `folder/swapper.safetensors` when the run is at its end.

    start    weights to begin with; None: random
    teacher  whom to learn from, where the stage does

    None where the folder holds this run's result already. Raises what `distill.training.loop.train` does, SettingError
    and WeightsError.
    """
    config = config.model_copy(update={"start": _sha256(start), "teacher": _sha256(teacher)})
    recipe = f"{config.recipe} {fingerprint(config.decisive())[:12]}"
    result = folder / RESULT
    if result.exists() and inspect(result).card.recipe == recipe:
        return None
    check_examples(config)
    own = begun(config.swapper, start, config.train.seed, ranks.device)
    stage = make(config, own, None if teacher is None else held(teacher, ranks.device), ranks.device)
    data, configuration = _batches(config, ranks, "train"), config.decisive()
    outcome = train(
        stage,
        data,
        config.train,
        folder,
        watched=_held_out(config, ranks),
        machine=config.machine,
        ranks=ranks,
        configuration=configuration,
        quiet=quiet,
    )
    if outcome.finished:
        weights = ranks.gathered(own.swapper.state_dict())
        if ranks.first:
            card = ModelCard(
                config=config.swapper,
                licence=config.licence,
                data=data.describe(),
                recipe=recipe,
                revision=git_revision() or product_version(),
                sources=tuple(_source(*one) for one in (("start", start), ("teacher", teacher)) if one[1]),
                untrained=still_untrained(own, next(iter(stage.players.values()))),
                metrics=dict(outcome.metrics),
                stage=config.stage.kind,
            )
            write(result, weights, card)
        ranks.wait()
    return outcome


def check_examples(config: RunConfig) -> None:
    """Raises SettingError where a network that sees its driver would be shown the truth in him."""
    if config.swapper.denoiser.driver == "masked":
        return
    for folder in (config.data.folder, *config.data.more_folders):
        if Record.read(folder).shows_the_truth:
            raise SettingError(
                f"{folder}: some drivers in it are the identity themselves, undisguised. Where drivers are seen "
                "(denoiser.driver) copying them would pay, and a caller's own features would shine through: draw the "
                "examples anew"
            )


def copied(result: Path, to: Path) -> Path:
    """A result and its card in a second place, whole or not at all. Raises NotWritten."""
    for source, target in ((card_path(result), card_path(to)), (result, to)):
        with written_whole(target) as file, source.open("rb") as given:
            shutil.copyfileobj(given, file)
    return to


def _batches(config: RunConfig, ranks: Ranks, split: Split) -> Batches:
    return Batches(config.data, ranks.rank, ranks.count, config.machine.workers, device=str(ranks.device), split=split)


def _held_out(config: RunConfig, ranks: Ranks) -> Data | None:
    """Examples of people kept apart; None where there are none."""
    data = _batches(config, ranks, "held_out")
    try:
        first_batches(data)
    except SettingError:
        return None
    return data


def _source(name: str, path: Path | None) -> str:
    assert path is not None
    return f"{name}: {path.name} sha256 {_sha256(path)}"


def _sha256(path: Path | None) -> str:
    return "" if path is None else inspect(path).sha256
