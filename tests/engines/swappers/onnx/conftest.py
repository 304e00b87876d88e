"""Engines with small real swapper files of every type, and somebody to wear."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engines import (
    EnginePool,
    Identity,
    IdentityStore,
)
from engines.registry import make
from engines.swappers.onnx.engine import Onnx

if TYPE_CHECKING:
    from tests.engines.swappers.onnx.drawing import Make


@pytest.fixture(scope="module")
def worn() -> Identity:
    return IdentityStore().load("lucia")


@pytest.fixture
def gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a swapper draw that gives its target back, which is otherwise a fault."""
    monkeypatch.setattr("engines.swappers.onnx.engine.LEAST_CHANGE", 0.0)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Make]:
    """Makes an engine with a file of a type; closes them all."""
    from tests.engines.swappers import onnx_files as files

    pool = EnginePool()
    engines: list[Onnx] = []

    def opening(kind: str, how: str = "same", size_px: int | None = None, **file: Any) -> Onnx:
        path = tmp_path / f"{kind}.onnx"
        model = files.dfm(path, how=how, **file) if kind == "dfm" else files.swapper(path, kind, how, **file)
        engine = make("onnx", files.settings_of(tmp_path, kind, model, size_px=size_px), pool)
        assert isinstance(engine, Onnx)
        engines.append(engine)
        return engine

    yield opening
    for engine in engines:
        engine.close()
    pool.close()
