"""Graphs in 8 bits: what stays float32, what a build refuses, and that the numbers stay near."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import golden, store
from engines.build import builder, quantise
from engines.build.builder import build
from engines.build.tables import manifest_text
from engines.build.verify import verify
from engines.errors import EngineRefused, EngineUnavailable, NotBuilt
from engines.machine import cpu_features, multiplies_8_bits
from engines.runtimes.choose import open_runtime
from engines.settings import SwapSettings
from engines.store import Wanted
from engines.swappers.latent_graphs import open_graphs, random_from_code
from tests.engines.small_engine import settings

EIGHT_BIT = multiplies_8_bits()
NEEDS_VNNI = pytest.mark.skipif(not EIGHT_BIT, reason="this processor has no instructions for 8 bits")
LOOSE = golden.FACE_LIMITS.model_copy(update={"rms": 60.0, "most": 200.0, "colour": 90.0, "tone": 60.0, "growth": 9.0})


def test_patches_that_do_not_overlap_are_a_convolution_and_a_shuffle() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (6, 4, 2, 2)).astype(np.float32)
    bias = rng.normal(0, 1, 4).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], "up", strides=[2, 2], kernel_shape=[2, 2])],
        "up",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 5, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 10, 14])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    x = rng.normal(0, 1, (1, 6, 5, 7)).astype(np.float32)
    expected = _run(before, x)
    after = quantise.plain_upsampling(before)
    assert [node.op_type for node in after.graph.node] == ["Conv", "DepthToSpace"]
    np.testing.assert_allclose(_run(after, x), expected, atol=1e-5)


def _run(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray[Any, Any] = session.run(None, {"x": x})[0]
    return result


@NEEDS_VNNI
def test_a_build_in_8_bits_passes_its_gate_or_is_not_kept(
    tmp_path: Path, small_weights: Path, built_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exporting takes seconds: the graphs are those of the engine in float32."""
    full = store.find(Wanted("small", "ort"), built_store)

    def exported(module: Any, path: Path) -> onnx.ModelProto:
        shutil.copyfile(full.folder / f"{module.spec.name}.onnx", path)
        return onnx.load(str(path))

    monkeypatch.setattr(builder, "export_onnx", exported)
    wanted = settings(tmp_path, small_weights, runtime="ort", precision="int8")
    with monkeypatch.context() as strict:
        strict.setattr(golden, "FACE_LIMITS", LOOSE.model_copy(update={"rms": 1e-6}))
        with pytest.raises(NotBuilt, match=r"not kept: the error \(rms.*and 1e-06 is allowed.*--precision float32"):
            build(wanted, lambda line: None)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]

    monkeypatch.setattr(golden, "FACE_LIMITS", LOOSE)
    entry = build(wanted, lambda line: None)
    key, made = entry.manifest.key, entry.manifest.quantised
    assert (key.precision, key.machine.cpu) == ("int8", cpu_features())
    assert made is not None
    assert made.frames == 30
    assert made.products == made.in_8_bits + len(made.kept)
    assert made.in_8_bits > 20
    assert "swapper.autoencoder.to_mean.weight" in made.kept
    assert {path.name for path in entry.folder.iterdir()} == {*entry.manifest.files, "manifest.json"}
    assert "full.onnx" not in entry.manifest.files
    assert entry.manifest.files["step.onnx"].size_bytes < full.manifest.files["step.onnx"].size_bytes
    assert "8 bits" in manifest_text(entry)
    assert not verify(entry).fault
    store.load(entry, threads=1).close()

    tight = made.model_copy(update={"limits": LOOSE.model_copy(update={"tone": 1e-9})})
    held = store.Entry(entry.folder, entry.manifest.model_copy(update={"quantised": tight}))
    with pytest.raises(EngineRefused, match="wrong numbers here: the mean colour's error"):
        store.load(held, threads=1)
    monkeypatch.setattr("engines.machine.cpu_features", lambda: "avx2")
    with pytest.raises(EngineRefused, match="built for the processor"):
        store.find(Wanted("small", "ort", precision="int8"), tmp_path)


def test_a_processor_without_the_instructions_is_told(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("engines.machine", "engines.build.quantise"):
        monkeypatch.setattr(f"{module}.cpu_features", lambda: "avx2 avx512f")
    with pytest.raises(NotBuilt, match="avx512_vnni, avx_vnni, asimddp, and this one has avx2 avx512f"):
        build(settings(tmp_path, small_weights, runtime="ort", precision="int8"), lambda line: None)


@pytest.mark.parametrize("runtime", ["torch", "compiled"])
def test_other_runtimes_say_who_computes_in_8_bits(tmp_path: Path, small_weights: Path, runtime: str) -> None:
    with pytest.raises(NotBuilt, match="int8 is for ONNX Runtime on a CPU"):
        build(settings(tmp_path, small_weights, runtime=runtime, precision="int8"), lambda line: None)
    with pytest.raises(EngineUnavailable, match="int8 is for ONNX Runtime on a CPU"):
        open_graphs("tiny", SwapSettings.read({"runtime": runtime, "precision": "int8"}))


def test_a_session_never_takes_float32_for_8_bits(built_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.STORE_VARIABLE, str(built_store))
    with pytest.raises(EngineUnavailable, match=r"precision float32, not int8.*--precision int8"):
        open_graphs("small", SwapSettings.read({"precision": "int8"}))
    assert not random_from_code(SwapSettings.read({"precision": "int8", "weights": "random"}))
    with pytest.raises(EngineUnavailable, match="does not compute in int8"):
        open_runtime("torch", lambda dtype: pytest.fail("made"), precision="int8")
