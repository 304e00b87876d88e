"""Everything that can be checked of a built engine: its machine, its files, its numbers over the whole rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from engines import golden, store
from engines.engine_manifest import GOLDEN, GoldenResult
from engines.errors import EngineFault, EngineUnavailable, WeightsError
from engines.store import Entry


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one engine. fault: empty if it may draw."""

    entry: Entry
    fault: str
    results: tuple[GoldenResult, ...] = ()
    ms_per_frame: float = 0.0

    @property
    def worst(self) -> float:
        """The largest error (rms) of all outputs and frames; 0 where nothing was drawn."""
        return max((result.rms for result in self.results), default=0.0)


def verify(
    entry: Entry,
    device: str | None = None,
    threads: int | None = None,
    quick: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Checks one engine. quick: machine, versions and files only, nothing is opened. tell: as for golden.replay."""
    where = device or entry.manifest.key.device
    fault = store.misfit_of(entry.manifest, where)
    if fault:
        return Verdict(entry, fault)
    try:
        store.check_files(entry)
        return Verdict(entry, "") if quick else _rollout(entry, where, threads, tell)
    except (EngineUnavailable, EngineFault, WeightsError) as error:
        return Verdict(entry, str(error))


def _rollout(entry: Entry, device: str, threads: int | None, tell: Callable[[int, int], None] | None) -> Verdict:
    loaded = store.open_engine(entry, device, threads)
    results, faces, frame_ms = [], [], 0.0
    quantised = entry.manifest.quantised
    try:
        for name, runtime in loaded.graphs.items():
            rollout = golden.replay(runtime, golden.read_golden(entry.folder / GOLDEN, name), tell=tell)
            results += rollout.results
            faces += rollout.faces
            frame_ms = median(rollout.frame_ms) if name == store.STEP else frame_ms
    finally:
        loaded.close()
    limits = quantised.limits if quantised else None
    fault = golden.fault_of(results, entry.manifest.golden.tolerance, faces, limits)
    return Verdict(entry, fault and f"it gives wrong numbers here: {fault}", tuple(results), frame_ms)
