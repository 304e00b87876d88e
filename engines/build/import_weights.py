"""Published checkpoints to weights of ours: recognised, translated key by key, merged, and nothing passed over.

Every key of every source fits exactly one rule; whatever a source's rules can give to the configuration must be in it;
no tensor is given twice; every shape fits. Else a WeightsError names the keys. What no source gives stays random, and
that must be asked for (`partial`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engines.build import import_text
from engines.build.import_kinds import FOREIGN, KINDS, Kind
from engines.build.import_rules import Rule, Shape, first_inputs
from engines.build.import_sources import Source
from engines.errors import WeightsError
from engines.models.config import SwapperConfig
from engines.models.swapper import Swapper
from engines.models.temporal import folded
from engines.weights import some

TEXT = "denoiser.text_1LD"
TEXT_KIND = "CLIP text encoder"
SKIPS_A_LAYER = "VividFace denoising_unet"


@dataclass
class Taken:
    """What came from one source."""

    source: Source
    kind: str
    given: dict[str, Tensor] = field(default_factory=dict)
    not_taken: dict[str, list[str]] = field(default_factory=dict)  # why -> their keys
    no_place: list[str] = field(default_factory=list)  # their keys that the configuration has no place for
    notes: list[str] = field(default_factory=list)


@dataclass
class Imported:
    """Weights for the whole of a configuration, and where they came from."""

    config: SwapperConfig
    tensors: dict[str, Tensor]
    taken: list[Taken]
    random: list[str]
    notes: list[str]


def import_weights(
    sources: Iterable[Source],
    config: SwapperConfig,
    *,
    partial: bool = False,
    causal: bool = False,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Imported:
    """Merges the sources into weights for `config`, whose fields that shapes do not show follow the sources.

    partial: what no source gives may stay random (drawn from `seed`), and what the configuration has no place for may
    be left out.
    causal: the autoencoder's temporal convolutions, which saw the next frame where they come from, become a start for
    streams, which do not (engines.models.temporal.folded).
    Raises WeightsError otherwise, and for keys that are unknown, missing, misshapen or given twice.
    """
    known = [(source, kind_of(source)) for source in sources]
    config, notes = _settled(config, known)
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in Swapper(config).state_dict().items()}
    taken: list[Taken] = []
    for source, kind in known:
        say(f"reading {source.title} ({kind.name if kind else TEXT_KIND})")
        one = _translate(source, kind, wanted) if kind else _text(source, known, wanted)
        _once(one, taken)
        taken.append(one)
        if causal:
            _fold(one)
    left_out = [f"{one.source.title}: {key}" for one in taken for key in one.no_place]
    if left_out and not partial:
        raise WeightsError(f"the configuration has no place for {some(left_out)}; --partial leaves them out")
    given = {name: tensor for one in taken for name, tensor in one.given.items()}
    random = [name for name in wanted if name not in given]
    if random and not partial:
        raise WeightsError(
            f"no source gives {len(random)} of {len(wanted)} tensors: {some(random)}; --partial leaves them random"
        )
    if random:
        drawn = Swapper(config).initialise(seed).state_dict()
        given |= {name: drawn[name] for name in random}
    return Imported(config, {name: given[name] for name in wanted}, taken, random, notes)


def kind_of(source: Source) -> Kind | None:
    """The layout of the source; None for SD1.5's text encoder. Raises WeightsError for any other."""
    keys = list(source.tensors)
    if import_text.SIGNATURE in keys:
        return None
    found = [kind for kind in KINDS if kind.recognises(keys)]
    if len(found) == 1:
        return found[0]
    for sign, words in FOREIGN.items():
        if any(sign in key for key in keys):
            raise WeightsError(f"{source.path}: {words}")
    if any(key.startswith(("denoiser.", "autoencoder.", "face_encoder.")) for key in keys):
        raise WeightsError(f"{source.path}: these are vividstream's own weights already")
    names = ", ".join([*(kind.name for kind in KINDS), TEXT_KIND])
    raise WeightsError(f"{source.path}: not a kind that can be imported ({some(keys, most=2)}); those are: {names}")


# ---- the configuration


def _settled(config: SwapperConfig, known: Iterable[tuple[Source, Kind | None]]) -> tuple[SwapperConfig, list[str]]:
    """The configuration with what the sources decide and shapes do not show, and a line for each change."""
    values, notes = config.model_dump(), []
    decided: dict[str, tuple[Any, str]] = {}
    for source, kind in known:
        if kind is None:
            continue
        read = {ours: source.config[theirs] for theirs, ours in kind.copies.items() if theirs in source.config}
        counted = {ours: sum(Rule(theirs).fits(key) for key in source.tensors) for ours, theirs in kind.counts.items()}
        for path, value in {**kind.sets, **read, **counted}.items():
            before = decided.setdefault(path, (value, source.title))
            if before[0] != value:
                raise WeightsError(
                    f"{source.title} and {before[1]} do not go together: "
                    f"one wants {path} to be {value!r}, the other {before[0]!r}"
                )
    for path, (value, title) in decided.items():
        section, name = path.split(".")
        if values[section][name] != value:
            notes.append(f"{path} is {value!r}, as {title} needs it, not {values[section][name]!r}")
            values[section][name] = value
    settled = SwapperConfig.read(values)
    for source, kind in known:
        if kind is not None:
            _check_config(source, kind, settled)
    return settled, notes


def _check_config(source: Source, kind: Kind, config: SwapperConfig) -> None:
    """What a config.json says must be what ours says: heads, norms and the like do not show in shapes."""
    wrong = []
    for name, expected in kind.reads.items():
        theirs, ours = source.config.get(name), expected(config)
        spread = set(theirs) == {ours} if isinstance(theirs, list) and not isinstance(ours, list) else theirs == ours
        if theirs is not None and not spread:
            wrong.append(f"{name} is {theirs}, not {ours}")
    if wrong:
        raise WeightsError(f"{source.title}: by its config.json a network of another kind: {some(wrong, '; ')}")


# ---- the tensors


def _translate(source: Source, kind: Kind, wanted: Mapping[str, Shape]) -> Taken:
    taken = Taken(source, kind.name)
    rule_of = _rules_for(source, kind)
    parts: dict[str, dict[int, Tensor]] = {}
    misshapen: list[str] = []
    for key, rule in rule_of.items():
        if not rule.ours:
            fault = rule.check(source.tensors[key])
            if fault:
                raise WeightsError(f"{source.title}: {key} {fault}")
            taken.not_taken.setdefault(rule.why, []).append(key)
            continue
        name = rule.target(key)
        if name not in wanted:
            taken.no_place.append(key)
            continue
        theirs = source.tensors[key]
        changed = rule.change(theirs, wanted[name])
        if tuple(changed.shape) != _part_of(wanted[name], rule):
            misshapen.append(f"{key} is {list(theirs.shape)}, and {name} {list(wanted[name])}")
            continue
        if rule.change is first_inputs and theirs.ndim == 4 and theirs.shape[1] < wanted[name][1]:
            had, has = theirs.shape[1], wanted[name][1]
            taken.notes.append(f"conv_in: its {had} input channels are the first of {has}, the others start at zero")
        _put(source, key, rule, name, changed, parts)
    if misshapen:
        raise WeightsError(f"{source.title}: misshapen: {some(misshapen, '; ')}")
    _complete(source, kind, wanted, parts, rule_of)
    for name, stack in parts.items():
        taken.given[name] = stack[0] if len(stack) == 1 else torch.cat([stack[i] for i in sorted(stack)])
    for name, make in kind.constants.items():
        if name in wanted:
            taken.given[name] = make(wanted[name])
    return taken


def _rules_for(source: Source, kind: Kind) -> dict[str, Rule]:
    """The rule of each key, of which there is exactly one."""
    fitting = {key: [rule for rule in kind.rules if rule.fits(key)] for key in source.tensors}
    unknown = sorted(key for key, rules in fitting.items() if not rules)
    if unknown:
        raise WeightsError(f"{source.title}: keys that no {kind.name} has: {some(unknown)}")
    assert all(len(rules) == 1 for rules in fitting.values()), "two rules for one key"
    return {key: rules[0] for key, rules in fitting.items()}


def _part_of(shape: Shape, rule: Rule) -> Shape:
    return (shape[0] // rule.part[1], *shape[1:]) if shape else shape


def _put(source: Source, key: str, rule: Rule, name: str, tensor: Tensor, parts: dict[str, dict[int, Tensor]]) -> None:
    stack = parts.setdefault(name, {})
    before = stack.get(rule.part[0])
    if before is not None and not (rule.again and torch.equal(before, tensor)):
        raise WeightsError(f"{source.title}: {key} gives {name}, which another of its keys gave")
    stack[rule.part[0]] = tensor


def _complete(
    source: Source,
    kind: Kind,
    wanted: Mapping[str, Shape],
    parts: Mapping[str, Mapping[int, Tensor]],
    rule_of: Mapping[str, Rule],
) -> None:
    """The other direction: whatever the rules can give must have been given, all its parts."""
    missing = []
    for name in wanted:
        rules = [rule for rule in kind.rules if rule.can_give(name)]
        if rules and len(parts.get(name, ())) < rules[0].part[1]:
            missing.append(name)
    if missing:
        raise WeightsError(f"{source.title}: missing: nothing in it becomes {some(missing)}")


def _text(source: Source, known: Iterable[tuple[Source, Kind | None]], wanted: Mapping[str, Shape]) -> Taken:
    taken = Taken(source, TEXT_KIND)
    if TEXT not in wanted:
        taken.no_place.append(import_text.SIGNATURE)
        return taken
    skipped = 1 if any(kind is not None and kind.name == SKIPS_A_LAYER for _, kind in known) else 0
    try:
        tokens = import_text.empty_prompt(source.tensors, skipped)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{source.title}: not SD1.5's text encoder: {error}") from error
    if tuple(tokens.shape) != wanted[TEXT]:
        has, wants = list(tokens.shape), list(wanted[TEXT])
        raise WeightsError(f"{source.title}: misshapen: its tokens are {has}, and {TEXT} {wants}")
    left_out = ", its last layer left out as VividFace does" if skipped else ""
    taken.notes.append(f"its answer to the empty prompt, {tokens.shape[1]} tokens, is all that is taken{left_out}")
    taken.given[TEXT] = tokens
    return taken


def _fold(taken: Taken) -> None:
    """Only the autoencoder has convolutions over time, and only they have five dimensions."""
    over_time = [name for name, tensor in taken.given.items() if name.startswith("autoencoder.") and tensor.ndim == 5]
    for name in over_time:
        taken.given[name] = folded(taken.given[name])
    if over_time:
        taken.notes.append(f"{len(over_time)} temporal convolutions are folded for streams: they see no next frame")


def _once(one: Taken, before: Iterable[Taken]) -> None:
    for other in before:
        twice = sorted(set(one.given) & set(other.given))
        if twice:
            raise WeightsError(f"{one.source.title} and {other.source.title} both give {some(twice)}; leave one out")
