"""Built engines on disk, as a live session sees them: find one that fits this machine, check it, open it.

They lie in this person's store, and a few come with the package (`SHIPPED`): portable ones, which are bound to no
version of a library and are held to numbers of their own wherever they are opened.

Nothing is built here, and nothing heavy is imported until an engine is opened. Whatever is wrong with an engine is one
sentence that ends with the command which mends it; a session never gets another engine than the one it asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from engines.engine_manifest import (
    GOLDEN,
    EngineManifest,
    Precision,
    RuntimeName,
    read_manifest,
    sha256_of,
)
from engines.errors import EngineFault, EngineRefused, EngineUnavailable, nearest
from engines.graph import GraphSpec
from engines.machine import Machine, cpu_features, multiplies_8_bits, this_machine, versions_of

if TYPE_CHECKING:
    from torch import nn

    from engines.models.config import SwapperConfig
    from engines.runtimes.base import Runtime

SUFFIX = ".safetensors"
WEIGHTS = f"weights{SUFFIX}"
STORE_VARIABLE = "VIVIDSTREAM_ENGINES_STORE"
SHIPPED = Path(__file__).with_name("shipped")  # NAME.safetensors with its card, and engines made of it
OF_THE_PACKAGE = "shipped"  # a manifest's source of weights that lie there
STEP, IDENTITY = "step", "identity"
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One engine of the store. Its manifest was read and is whole; its other files were not looked at yet."""

    folder: Path
    manifest: EngineManifest

    @property
    def key(self) -> str:
        return self.folder.name


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which engine is looked for. None: any. Engines of random weights are found only where they are asked for."""

    name: str
    runtime: RuntimeName | None = None
    device: str = "cpu"
    precision: Precision | None = None
    size_px: int | None = None
    steps: int | None = None
    batch: int = 1
    random_weights: bool = False


@dataclass(slots=True)
class Loaded:
    """An engine that was checked and may draw. graphs: "step" and "identity"."""

    manifest: EngineManifest
    graphs: Mapping[str, Runtime]

    @property
    def why(self) -> str:
        """What draws, in a few words."""
        key = self.manifest.key
        random = ", RANDOM WEIGHTS" if self.manifest.random else ""
        return f"built {self.manifest.created[:10]}, {key.precision}, golden check passed{random}"

    @property
    def step(self) -> Runtime:
        """The graph of a frame."""
        return self.graphs[STEP]

    @property
    def identity(self) -> Runtime:
        """The graph of a person, of batch 1."""
        return self.graphs[IDENTITY]

    def close(self) -> None:
        for graph in self.graphs.values():
            graph.close()


def default_store() -> Path:
    """Where engines lie unless told otherwise: what VIVIDSTREAM_ENGINES_STORE says, or this person's data folder."""
    chosen = os.environ.get(STORE_VARIABLE)
    return Path(chosen) if chosen else user_data_path("vividstream", appauthor=False) / "engines"


def stores() -> tuple[Path, ...]:
    """Where sessions look for engines: the store that VIVIDSTREAM_ENGINES_STORE names, or else this person's and then
    what came with the package."""
    return (default_store(),) if os.environ.get(STORE_VARIABLE) else (default_store(), SHIPPED)


def shipped_weights(name: str) -> Path | None:
    """The file of trained weights that came with the package under that name."""
    path = SHIPPED / f"{name}{SUFFIX}"
    return path if path.is_file() else None


def keys_in(store: Path) -> list[str]:
    """Names of all folders that can be engines. Raises EngineUnavailable where the store cannot be read."""
    try:
        return sorted(path.name for path in store.iterdir() if _KEY.fullmatch(path.name) and path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EngineUnavailable(f"{store}: the engines cannot be read: {error.strerror or error}") from error


def entries(store: Path | None = None) -> tuple[list[Entry], list[EngineRefused]]:
    """Every engine, store by store, newest first, and what is wrong with those whose manifest cannot be read."""
    whole: list[Entry] = []
    broken: list[EngineRefused] = []
    for folder in stores() if store is None else (store,):
        here = []
        for key in keys_in(folder):
            try:
                here.append(Entry(folder / key, read_manifest(folder / key)))
            except EngineRefused as error:
                remedy = "install vividstream again" if folder == SHIPPED else "`vividstream engines prune` removes it"
                broken.append(EngineRefused(f"{error}; {remedy}"))
        whole += sorted(here, key=lambda entry: (entry.manifest.created, entry.key), reverse=True)
    return whole, broken


def find(wanted: Wanted, store: Path | None = None) -> Entry:
    """The newest engine that is wanted and fits this machine.

    Raises EngineUnavailable where there is none, EngineRefused where the only ones there do not fit.
    """
    folder = default_store() if store is None else store
    whole, broken = entries(store)
    named = [entry for entry in whole if entry.manifest.key.name == wanted.name]
    if not named:
        also = f" ({broken[0]})" if broken else ""
        there = sorted({entry.manifest.key.name for entry in whole})
        hint = f", {nearest(wanted.name, there)}" if there else ""
        weights = "--random-weights 0" if wanted.random_weights else _weights_word(wanted.name)
        raise EngineUnavailable(
            f'no engine "{wanted.name}" is built in {folder}{hint}{also}; build it: `{_command(wanted, weights)}`'
        )
    asked = [entry for entry in named if not _unwanted(entry.manifest, wanted)]
    for entry in asked:
        if not misfit_of(entry.manifest, wanted.device):
            return entry
    closest = (asked or named)[0].manifest
    reason = misfit_of(closest, wanted.device) if asked else _unwanted(closest, wanted)
    more = f" (the newest of {len(named)})" if len(named) > 1 else ""
    again = rebuild_command(closest, wanted)
    raise EngineRefused(f'engine "{wanted.name}"{more}: {reason}; build it: `{again}`')


def _weights_word(name: str) -> str:
    """What the command that builds an engine says of its weights: nothing where they came with the package."""
    return "" if shipped_weights(name) else "--weights FILE"


def _unwanted(manifest: EngineManifest, wanted: Wanted) -> str:
    """Why this is not the engine that was asked for; empty if it is."""
    key = manifest.key
    device = wanted.device.partition(":")[0]
    asked: Iterable[tuple[str, object, object]] = (
        ("runtime", key.runtime, wanted.runtime),
        ("device", key.device, device),
        ("precision", key.precision, wanted.precision),
        ("size", key.size_px, wanted.size_px),
        ("steps", key.steps, wanted.steps),
        ("batch", key.batch, wanted.batch),
    )
    for what, has, wants in asked:
        if wants is not None and has != wants:
            return f"it is built for {what} {has}, not {wants}"
    if manifest.random and not wanted.random_weights:
        return "it has random weights, which nobody trained: good for measuring, not for a face"
    return ""


def misfit_of(manifest: EngineManifest, device: str = "cpu") -> str:
    """Why an engine cannot run on this machine; empty if it can."""
    key = manifest.key
    here = this_machine(device if device.startswith(key.device) else key.device)
    if key.device == "cuda" and not here.gpu:
        return f"it is built for {key.machine.gpu or 'a GPU'}, and no NVIDIA GPU with a driver is here"
    for what, has, is_here in _bindings(key.machine, here):
        if has and has != is_here:
            return f"it is built for {what} {has}, and this is {is_here or 'none'}"
    if key.precision == "int8" and key.device == "cpu" and not multiplies_8_bits():
        return f"it computes in 8 bits, and this processor has no instruction for it ({cpu_features()})"
    installed = versions_of(key.runtime)
    for package, wants in key.versions.items():
        if installed.get(package) != wants:
            found = f"{installed[package]} is" if package in installed else "none is"
            return f"it is built with {package} {wants}, and {found} installed"
    return ""


def _bindings(built: Machine, here: Machine) -> Iterator[tuple[str, str, str]]:
    yield "the system", built.system, here.system
    yield "the processor", built.cpu, here.cpu
    yield "the GPU", built.gpu, here.gpu
    yield "compute capability", built.sm, here.sm
    yield "driver", str(built.driver_major or ""), str(here.driver_major or "")


def _command(wanted: Wanted, weights: str) -> str:
    """The command that builds what is wanted; what is not said is left to the builder."""
    words = {
        "runtime": wanted.runtime,
        "precision": wanted.precision,
        "steps": wanted.steps,
        "size": wanted.size_px,
        "batch": wanted.batch if wanted.batch != 1 else None,
        "device": wanted.device if wanted.device != "cpu" else None,
    }
    parts = [f"--{name} {value}" for name, value in words.items() if value is not None]
    return " ".join([f"vividstream engines build {wanted.name}", *parts, weights]).rstrip()


def rebuild_command(manifest: EngineManifest, wanted: Wanted | None = None) -> str:
    """The command that builds the same engine again for this machine, changed to what is `wanted`."""
    key, seed = manifest.key, manifest.weights.random_seed
    source = manifest.weights.source
    of_file = "" if source == OF_THE_PACKAGE else f"--weights {source}"
    weights = of_file if seed is None else f"--random-weights {seed}"
    if wanted is None:
        same = Wanted(key.name, key.runtime, key.device, key.precision, key.size_px, key.steps, key.batch)
        return _command(same, weights)
    if seed is not None and not wanted.random_weights:
        weights = _weights_word(key.name)
    changed = replace(
        wanted,
        runtime=wanted.runtime or key.runtime,
        precision=wanted.precision or key.precision,
        steps=wanted.steps or key.steps,
    )
    return _command(changed, weights)


def check_files(entry: Entry, hashes: bool = True) -> None:
    """Raises EngineRefused where a file is missing, cut or altered. hashes: read every byte, not only the sizes."""
    for name, fact in entry.manifest.files.items():
        path = entry.folder / name
        try:
            size = path.stat().st_size
            if size != fact.size_bytes:
                cut = "cut" if size < fact.size_bytes else "longer than it was"
                raise _refused(entry, f"{path} is {cut}: {size} bytes of {fact.size_bytes}")
            if hashes and sha256_of(path) != fact.sha256:
                raise _refused(entry, f"{path} was altered: its sha256 is not the manifest's")
        except FileNotFoundError as error:
            raise _refused(entry, f"{path} is missing") from error
        except OSError as error:
            raise _refused(entry, f"{path} cannot be read: {error.strerror or error}") from error


def _refused(entry: Entry, what: str) -> EngineRefused:
    if entry.folder.parent == SHIPPED:
        return EngineRefused(
            f'engine "{entry.manifest.key.name}": {what}; it came with vividstream: install that again'
        )
    again = rebuild_command(entry.manifest)
    return EngineRefused(f'engine "{entry.manifest.key.name}": {what}; build it again: `{again}`')


def load(entry: Entry, device: str = "cpu", threads: int | None = None) -> Loaded:
    """Checks an engine whole, opens it, and lets it draw a few stored frames before it may draw a face.

    Raises EngineRefused where a file, the machine or a number is not what the manifest says, EngineUnavailable where
    the runtime is not installed.
    """
    misfit = misfit_of(entry.manifest, device)
    if misfit:
        raise _refused(entry, misfit)
    check_files(entry)
    loaded = open_engine(entry, device, threads)
    try:
        fault = quick_check(loaded, entry.folder)
    except EngineFault as error:
        fault = str(error)
    if fault:
        loaded.close()
        raise _refused(entry, f"it gives wrong numbers here: {fault}")
    return loaded


def open_engine(entry: Entry, device: str = "cpu", threads: int | None = None) -> Loaded:
    """Opens an engine's graphs without checking anything."""
    key = entry.manifest.key
    graphs: Mapping[str, nn.Module | Path]
    if all(fact.file for fact in key.graphs.values()):
        graphs = {name: entry.folder / fact.file for name, fact in key.graphs.items()}
    else:
        graphs = modules(key.config, key.batch, entry.folder / WEIGHTS)
    opened = {
        name: open_graph(key.runtime, graphs[name], fact.spec, device, key.precision, threads)
        for name, fact in key.graphs.items()
    }
    return Loaded(entry.manifest, opened)


def open_graph(
    runtime: RuntimeName,
    graph: nn.Module | Path,
    spec: GraphSpec,
    device: str,
    precision: Precision,
    threads: int | None,
) -> Runtime:
    """Opens one graph: a module, or the file that a runtime stored. Raises EngineUnavailable."""
    from engines.runtimes.choose import open_runtime

    described = spec if isinstance(graph, Path) else None
    return open_runtime(runtime, graph, device, precision, threads, described).runtime


def modules(config: SwapperConfig, batch: int, weights: Path) -> dict[str, nn.Module]:
    """An engine's graphs as torch modules with the weights of a file. Raises WeightsError."""
    from engines.models.step import IdentityGraph, SwapStep
    from engines.models.swapper import Swapper
    from engines.weights import load_into

    swapper = Swapper(config)
    load_into(swapper, weights, config)
    return {STEP: SwapStep(swapper, batch), IDENTITY: IdentityGraph(swapper, 1)}


def quick_check(loaded: Loaded, folder: Path) -> str:
    """Draws until the window has rolled over once; the first number out of tolerance in words, or empty."""
    from engines import golden

    proof, quantised = loaded.manifest.golden, loaded.manifest.quantised
    results, faces = [], []
    for name, runtime in loaded.graphs.items():
        stored = golden.read_golden(folder / GOLDEN, name)
        rollout = golden.replay(runtime, stored, 2 * loaded.manifest.key.window + 1)
        results += rollout.results
        faces += rollout.faces
    return golden.fault_of(results, proof.tolerance, faces, quantised.limits if quantised else None)
