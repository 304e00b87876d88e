"""Builds an engine: weights to graphs, graphs to what a runtime opens, and the proof that it draws what they say.

Everything happens in a folder aside; only an engine that passed its golden check gets its name in the store.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import torch

from engines import golden, store
from engines.build import calibration, estimate, folders, manifest, quantise
from engines.build.compiled_package import build_package
from engines.build.export_onnx import OPSET, ExportError, export_onnx, exported_program
from engines.build.inputs import first_inputs
from engines.build.lock import locked
from engines.build.progress import Progress, duration
from engines.build.settings import BuildSettings, config_of
from engines.build.tensorrt_plan import build_plan, named_program, require_builder
from engines.engine_manifest import (
    GOLDEN,
    EngineManifest,
    FileFact,
    GoldenFact,
    GraphFact,
    KeyFacts,
    Precision,
    QuantisedFact,
    WeightsFact,
    key_of,
    read_manifest,
)
from engines.errors import EngineFault, EngineRefused, NotBuilt
from engines.golden import Golden
from engines.graph import GraphSpec
from engines.machine import Machine, gigabytes, this_machine, versions_of
from engines.models.config import SwapperConfig
from engines.models.describe import describe
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from engines.runtimes.base import Array, Runtime
from engines.runtimes.torch_graph import open_device, resolve_precision, spec_of
from engines.store import IDENTITY, STEP, WEIGHTS, Entry
from engines.weights import ModelCard, load_into, write

if TYPE_CHECKING:
    from torch import nn

FULL = "full.onnx"  # the graph in float32 that one in 8 bits is made of; not kept
IDENTITY_FRAMES = 2  # it remembers nothing
MAY_DIFFER = ("schedule.times", "size_px")  # a person may choose them for the same weights
EIGHT_BIT: Final = "int8"
WITH_FILES = ("ort", "tensorrt")  # runtimes that open a file of their own, and need no weights beside it

Say = Callable[[str], None]


@dataclass(slots=True)
class Job:
    """One build, and what is known of its engine so far."""

    config: SwapperConfig
    settings: BuildSettings
    aside: Path
    progress: Progress
    precision: Precision
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    weights: WeightsFact = field(default_factory=lambda: WeightsFact(source=""))
    weights_sha256: str = ""
    quantised: quantise.Quantised | None = None
    held_out: Mapping[str, Array] = field(default_factory=dict)  # inputs of a frame that no range was found on

    @property
    def device(self) -> str:
        return self.settings.device

    @property
    def opens_files(self) -> bool:
        return self.settings.runtime in WITH_FILES or self.is_package

    @property
    def is_package(self) -> bool:
        """Whether code is compiled for this CPU and stored."""
        return self.settings.runtime == "compiled" and self.device == "cpu"


def build(settings: BuildSettings, say: Say) -> Entry:
    """Builds one engine and returns where it lies. An engine that is there already is not built again.

    say: takes a line of progress at a time. Raises NotBuilt, NoRoom, StoreBusy, EngineUnavailable, WeightsError or
    SettingError; then the store is as it was before.
    """
    config = config_of(settings)
    precision = _precision(settings)
    folder = store.default_store() if settings.store is None else settings.store
    with locked(folder, f"building {config.name} for {settings.runtime}", say, settings.wait) as dead:
        if dead is not None:
            say(f"an earlier build broke off: {dead}")
        for line in folders.recover(folder):
            say(line)
        needed = _check_room(config, settings, folder, say)
        with folders.building(folder) as aside:
            job = Job(config, settings, aside, Progress(needed.stage_s, say), precision)
            return _build(job, folder, needed, say)


def _precision(settings: BuildSettings) -> Precision:
    """What `auto` is here. Raises EngineUnavailable where the device cannot compute in what was asked for."""
    if settings.portable and (settings.runtime != "ort" or settings.device != "cpu"):
        raise NotBuilt(
            f"what {settings.runtime} needs on {settings.device} is made for one machine: "
            "--portable is for --runtime ort on a CPU"
        )
    if settings.runtime == "tensorrt":
        require_builder()
    if settings.precision == EIGHT_BIT:
        if settings.runtime != "ort" or settings.device != "cpu":
            raise NotBuilt(
                f"int8 is for ONNX Runtime on a CPU, not for {settings.runtime} on {settings.device}: "
                "--runtime ort --device cpu, or another --precision"
            )
        quantise.require_eight_bit()
        return EIGHT_BIT
    device = open_device(settings.device)
    if settings.runtime == "ort" and device.type == "cpu":
        if settings.precision in ("auto", "float32"):
            return "float32"
        raise NotBuilt(f"ONNX Runtime computes in float32 on a CPU, not in {settings.precision}")
    dtype, _ = resolve_precision(settings.precision, device)
    names: dict[torch.dtype, Precision] = {
        torch.float32: "float32",
        torch.float16: "float16",
        torch.bfloat16: "bfloat16",
    }
    return names[dtype]


def specs_of(config: SwapperConfig, batch: int) -> tuple[GraphSpec, ...]:
    """The graphs' descriptions, without a single weight in memory."""
    with torch.device("meta"):
        swapper = Swapper(config)
        return SwapStep(swapper, batch).spec, IdentityGraph(swapper, 1).spec


def _check_room(config: SwapperConfig, settings: BuildSettings, folder: Path, say: Say) -> estimate.Needs:
    """What the build will need, said and held against what is there."""
    cost, specs = describe(config), specs_of(config, settings.batch)
    earlier = [entry.manifest for entry in store.entries(folder)[0]]
    needed = estimate.needs(config, cost, specs, settings.runtime, settings.device, settings.rollout, earlier)
    say(
        f"building {config.name} for {settings.runtime}: {cost.parameters / 1e6:.1f} million weights, about "
        f"{duration(sum(needed.stage_s.values()))} ({needed.why_s}), {gigabytes(needed.memory_bytes)} of memory, "
        f"{gigabytes(needed.disk_bytes)} of disk"
    )
    if not settings.force:
        estimate.check_memory(needed, settings.runtime, config.name)
    folders.check_disk(folder, needed.disk_bytes)
    return needed


def _build(job: Job, folder: Path, needed: estimate.Needs, say: Say) -> Entry:
    with job.progress.stage("construct"):
        _construct(job)
    with job.progress.stage("export"):
        try:
            graphs = _export(job)
        except ExportError as error:
            raise NotBuilt(f"{job.config.name} cannot be built for {job.settings.runtime}: {error}") from error
    facts = _key_facts(job, graphs)
    key = key_of(facts)
    there = None if job.settings.rebuild else _there_already(folder / key, say)
    if there is not None:
        return there
    with job.progress.stage("compile"):
        runtimes = _open(job, graphs)
    try:
        with job.progress.stage("reference"):
            goldens = _reference(job)
        with job.progress.stage("rollout"):
            proof = _prove(job, runtimes, goldens)
    finally:
        for runtime in runtimes.values():
            runtime.close()
    with job.progress.stage("seal"):
        golden.write_golden(job.aside / GOLDEN, goldens)
        files = manifest.files_in(job.aside)
    written = _write_manifest(job, facts, files, proof, needed)
    return Entry(folders.publish(job.aside, folder, key), written)


def _there_already(folder: Path, say: Say) -> Entry | None:
    """The engine of that key if it was built before and is whole."""
    if not folder.exists():
        return None
    try:
        entry = Entry(folder, read_manifest(folder))
        store.check_files(entry)
    except EngineRefused as error:
        say(f"this engine is there, but damaged, and is built again: {error}")
        return None
    say("this engine is there already; --rebuild builds it again")
    return entry


def _construct(job: Job) -> None:
    """The network with its weights, and its graphs. Keeps the weights in the folder where the engine needs them."""
    settings, swapper = job.settings, Swapper(job.config)
    weights = settings.weights_file
    if weights is not None:
        contents = load_into(swapper, weights, job.config, MAY_DIFFER)
        card = contents.card.model_copy(update={"config": job.config})
        job.weights_sha256 = contents.sha256
        job.weights = WeightsFact(
            source=store.OF_THE_PACKAGE if weights.parent == store.SHIPPED else weights.name,
            file_sha256=contents.sha256,
            licence=card.licence,
            untrained=card.untrained,
            loss_networks=card.loss_networks,
        )
    else:
        assert settings.random_weights is not None
        swapper.initialise(settings.random_weights)
        card = ModelCard(
            config=job.config, licence="none: random numbers", data="none", recipe="random", revision="unknown"
        )
        job.weights = WeightsFact(source="random", random_seed=settings.random_weights)
    if weights is None or not job.opens_files:
        written = write(job.aside / WEIGHTS, swapper.state_dict(), card)
        job.weights_sha256 = job.weights_sha256 or written.sha256
    if job.opens_files:
        for path in job.aside.iterdir():
            path.unlink()
    job.modules = {STEP: SwapStep(swapper, settings.batch), IDENTITY: IdentityGraph(swapper, 1)}


def _export(job: Job) -> dict[str, GraphFact]:
    """Each graph's text, and the file that it is stored in where the runtime opens one."""
    made = {}
    for name, module in job.modules.items():
        graph = (
            module
            if job.precision in ("float32", EIGHT_BIT)
            else copy.deepcopy(module).to(getattr(torch, job.precision))
        )
        if job.settings.runtime == "ort":
            file = f"{name}.onnx"
            exported = job.aside / (FULL if _is_quantised(job, name) else file)
            text = manifest.onnx_text_sha256(export_onnx(graph, exported))
        elif job.settings.runtime == "tensorrt":
            file, text = f"{name}.plan", manifest.program_text_sha256(named_program(graph))
        elif job.is_package:
            file, text = f"{name}.pt2", manifest.program_text_sha256(exported_program(graph))
        else:
            file, text = "", manifest.program_text_sha256(exported_program(graph))
        made[name] = GraphFact(spec=spec_of(graph), text_sha256=text, file=file)
    return made


def _key_facts(job: Job, graphs: dict[str, GraphFact]) -> KeyFacts:
    settings, config = job.settings, job.config
    return KeyFacts(
        name=config.name,
        config=config,
        graphs=graphs,
        weights_sha256=job.weights_sha256,
        window=config.window.frames,
        steps=config.steps,
        size_px=config.size_px,
        batch=settings.batch,
        runtime=settings.runtime,
        precision=job.precision,
        device="cpu" if settings.device == "cpu" else "cuda",
        versions={} if settings.portable else versions_of(settings.runtime),
        machine=Machine() if settings.portable else manifest.bound_to(settings.runtime, settings.device, job.precision),
        options=_options(job),
    )


def _options(job: Job) -> dict[str, str | int | float | bool]:
    options: dict[str, str | int | float | bool] = {"opset": OPSET} if job.settings.runtime == "ort" else {}
    return options | ({"calibration": calibration.NAME} if job.precision == EIGHT_BIT else {})


def _is_quantised(job: Job, graph: str) -> bool:
    """A person's graph runs once per person: it stays float32."""
    return job.precision == EIGHT_BIT and graph == STEP


def _quantise(job: Job, graphs: Mapping[str, GraphFact]) -> None:
    """Makes the graph of a frame one of 8 bits, and keeps a frame apart to hold it against."""
    from engines.runtimes.ort import OrtRuntime

    full, step = job.aside / FULL, graphs[STEP].spec
    say, frames = job.progress.step, 0
    identity = OrtRuntime(job.aside / graphs[IDENTITY].file, graphs[IDENTITY].spec, threads=job.settings.threads)
    runtime = OrtRuntime(full, step, threads=job.settings.threads)
    try:
        *streams, kept_apart = calibration.record(job.config, step, identity)
        frames = sum(len(stream) for stream in streams)
        feeds = calibration.with_memories(runtime, streams, job.config.window.sinks, say)
        job.quantised = quantise.quantise(full, job.aside / graphs[STEP].file, step, feeds)
    finally:
        identity.close()
        runtime.close()
        full.unlink()
    assert job.quantised.frames == frames
    job.held_out = {name: value for name, value in kept_apart[-1].items() if name not in golden.FROM_WINDOW}


def _timing_cache(job: Job) -> Path:
    """What TensorRT measured of its kernels: one for each GPU and version, beside the engines."""
    machine, versions = this_machine(job.device), versions_of("tensorrt")
    words = f"{machine.gpu} {machine.sm} {versions.get('tensorrt', '')}".split()
    return job.aside.parent / f"timing-{'-'.join(words)}.cache"


def _open(job: Job, graphs: Mapping[str, GraphFact]) -> dict[str, Runtime]:
    if job.precision == EIGHT_BIT:
        _quantise(job, graphs)
    opened = {}
    for name, fact in graphs.items():
        if job.settings.runtime == "tensorrt" or job.is_package:
            module = copy.deepcopy(job.modules[name]).to(getattr(torch, job.precision))
            if job.is_package:
                build_package(module, job.aside / fact.file)
            else:
                build_plan(module, job.aside / fact.file, job.device, _timing_cache(job))
        graph = job.aside / fact.file if fact.file else job.modules[name]
        opened[name] = store.open_graph(
            job.settings.runtime, graph, fact.spec, job.device, job.precision, job.settings.threads
        )
    return opened


def _reference(job: Job) -> dict[str, Golden]:
    """What eager torch draws in float32 on the same device."""
    goldens: dict[str, Golden] = {}
    tokens: dict[str, Array] = {}
    for name, frames in ((IDENTITY, IDENTITY_FRAMES), (STEP, job.settings.rollout)):
        module = job.modules[name]
        runtime = store.open_graph("torch", module, spec_of(module), job.device, "float32", job.settings.threads)
        try:
            inputs = first_inputs(runtime.spec, tokens | (dict(job.held_out) if name == STEP else {}))
            goldens[name] = golden.record(runtime, inputs, job.config.window.sinks, frames, job.progress.step)
        except EngineFault as error:
            raise NotBuilt(f"the network itself gives no numbers, whatever executes it: {error}") from error
        finally:
            runtime.close()
        tokens |= {"identity_tokens": goldens[name].outputs[0]["identity_tokens"]} if name == IDENTITY else {}
    return goldens


def _prove(
    job: Job, runtimes: Mapping[str, Runtime], goldens: Mapping[str, Golden]
) -> tuple[GoldenFact, QuantisedFact | None]:
    """Holds the engine against the reference. Raises NotBuilt where it draws anything else."""
    tolerance = golden.TOLERANCES[job.precision]
    results, faces, frame_ms = [], [], 0.0
    for name, expected in goldens.items():
        try:
            rollout = golden.replay(runtimes[name], expected, tell=job.progress.step)
        except EngineFault as error:
            raise NotBuilt(f"the engine fails its golden check, and was not kept: {error}") from error
        results += rollout.results
        faces += rollout.faces
        frame_ms = median(rollout.frame_ms) if name == STEP else frame_ms
    limits = golden.FACE_LIMITS if job.quantised else None
    fault = golden.fault_of(results, tolerance, faces, limits)
    if fault:
        remedy = "; it draws as it should in float32: --precision float32" if job.quantised else ""
        raise NotBuilt(f"the engine fails its golden check, and was not kept: {fault}{remedy}")
    quantised = None
    if job.quantised is not None:
        made = job.quantised
        quantised = QuantisedFact(
            calibration=calibration.NAME,
            frames=made.frames,
            products=made.products,
            in_8_bits=made.in_8_bits,
            kept=made.kept,
            limits=golden.FACE_LIMITS,
            results=tuple(faces),
        )
    proof = GoldenFact(
        reference=f"torch {torch.__version__} eager float32 on {job.device}",
        frames=job.settings.rollout,
        tolerance=tolerance,
        results=tuple(results),
        ms_per_frame=round(frame_ms, 3),
    )
    return proof, quantised


def _write_manifest(
    job: Job,
    facts: KeyFacts,
    files: dict[str, FileFact],
    proof: tuple[GoldenFact, QuantisedFact | None],
    needed: estimate.Needs,
) -> EngineManifest:
    return manifest.write_manifest(
        job.aside,
        EngineManifest(
            key=facts,
            files=files,
            weights=job.weights,
            golden=proof[0],
            quantised=proof[1],
            timings_s=job.progress.taken_s,
            memory_estimated_bytes=needed.memory_bytes,
            memory_peak_bytes=manifest.peak_memory_bytes(),
            created=manifest.now_utc(),
            vividstream=manifest.product_version(),
            git_revision=manifest.git_revision(),
            built_on=this_machine(job.device),
        ),
    )
