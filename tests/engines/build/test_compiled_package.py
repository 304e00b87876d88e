"""An engine whose code was compiled when it was built: opened in a moment, bound to its CPU, no weights beside it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch

from engines import store
from engines.build import manifest
from engines.build.builder import build
from engines.machine import this_machine
from engines.runtimes.compiled import PackageRuntime
from tests.engines.small_engine import settings


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_compiled_engine_is_built_and_opened_without_a_compiler(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("g++"):
        pytest.skip("compiling needs g++")
    torch.set_num_threads(1)
    entry = build(settings(tmp_path, small_weights, runtime="compiled"), lambda line: None)
    assert {"step.pt2", "identity.pt2"} <= {path.name for path in entry.folder.iterdir()}
    assert not (entry.folder / "weights.safetensors").exists()
    monkeypatch.setenv("PATH", "/nowhere")
    began_s = time.monotonic()
    loaded = store.load(entry, threads=1)  # with the golden check
    assert time.monotonic() - began_s < 30
    assert all(isinstance(runtime, PackageRuntime) for runtime in loaded.graphs.values())


def test_compiled_code_is_bound_to_its_cpu_and_weights_are_not() -> None:
    assert manifest.bound_to("compiled", "cpu").cpu == this_machine().cpu != ""
    assert manifest.bound_to("torch", "cpu").cpu == ""
    assert manifest.bound_to("ort", "cpu").cpu == ""
