"""Engines that several tests look at: built once, copied for those who damage them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of the small swapper."""
    from tests.engines.small_engine import write_weights

    return write_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="session")
def built_store(tmp_path_factory: pytest.TempPathFactory, small_weights: Path) -> Path:
    """A store with one engine for torch and one for ONNX Runtime. Not to be changed."""
    from engines.build.builder import build
    from tests.engines.small_engine import one_thread, settings

    one_thread()
    folder = tmp_path_factory.mktemp("store")
    for runtime in ("torch", "ort"):
        build(settings(folder, small_weights, runtime=runtime), lambda line: None)
    return folder


@pytest.fixture
def store_copy(built_store: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(built_store, tmp_path / "store"))
