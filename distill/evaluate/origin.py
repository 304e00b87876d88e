"""Where figures come from: the engine with its files and settings, versions, revision. For reports and for keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from distill.evaluate.by_file import sha256_of
from engines import SwapSettings, engine_names, store
from engines.build.manifest import git_revision, now_utc
from engines.registry import LEARNED
from engines.swappers.latent_graphs import random_from_code, wanted_of

PACKAGES = ("vividstream", "numpy", "mediapipe", "onnxruntime", "torch", "dlib-bin")


@dataclass(frozen=True, slots=True)
class Origin:
    """facts: words and hashes by name, for people. known_networks: sha256 -> what the swapper used that network for."""

    facts: dict[str, str]
    known_networks: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells these results from others."""
        return tuple(f"{name}={value}" for name, value in sorted(self.facts.items()) if name != "why")


def of_engine(settings: SwapSettings, why: str) -> Origin:
    """Raises EngineUnavailable where a file of the settings is not there."""
    assert settings.engine in engine_names()
    facts = {"engine": settings.engine, "why": why}
    facts |= {name: str(value) for name, value in settings.model_dump(mode="json", exclude_defaults=True).items()}
    known: dict[str, str] = {}
    if settings.engine == "onnx":
        for name in ("model", "embedder", "converter"):
            path: Path | None = getattr(settings, name)
            if path is not None:
                facts[f"{name}_sha256"] = sha256_of(path)
        if settings.embedder is not None:
            known[facts["embedder_sha256"]] = "the swapper itself: it draws what this network wants to see"
    if settings.engine in LEARNED and not random_from_code(settings):
        manifest = store.find(wanted_of(settings.engine, settings)).manifest
        facts["weights_sha256"] = manifest.key.weights_sha256
        facts["runtime"] = f"{manifest.key.runtime}, {manifest.key.precision}, {manifest.key.steps} steps"
        if manifest.random:
            facts["random"] = "nobody trained these weights, or some of them"
        known |= loss_networks(manifest.weights.loss_networks)
    return Origin(facts, known)


def loss_networks(named: tuple[str, ...]) -> dict[str, str]:
    """Of a model card's `NAME sha256:HEX`: sha256 -> what it was used for."""
    found: dict[str, str] = {}
    for line in named:
        match = re.search(r"sha256:([0-9a-f]{64})", line)
        if match:
            found[match[1]] = f"a loss in training ({line.split(' sha256:')[0].strip()})"
    return found


def machine_facts() -> dict[str, str]:
    """Versions and revision of what measured."""
    return {"revision": git_revision() or "unknown", "measured": now_utc(), **{one: _version(one) for one in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
