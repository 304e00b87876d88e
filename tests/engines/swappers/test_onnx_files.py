"""Reading and recognising swapper files, with small real files of every signature."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import EngineRefused, EngineUnavailable, VividError
from engines.settings import SwapSettings
from engines.swappers.onnx.contracts import CONTRACTS
from engines.swappers.onnx.graph_file import read_graph
from engines.swappers.onnx.recognise import converter_spec, emap_of, embedder_spec, recognise

onnx = pytest.importorskip("onnx")

from tests.engines.swappers import onnx_files as files  # noqa: E402  needs onnx


def of(path: Path, wanted: str = "auto") -> Any:
    return recognise(read_graph(path), wanted)


@pytest.mark.parametrize("open_sides", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in files.SIGNATURES if kind not in files.ALIKE])
def test_a_file_is_known_by_what_it_takes_and_gives(tmp_path: Path, kind: str, open_sides: bool) -> None:
    for side in files.SIGNATURES[kind][0]:
        found = of(files.swapper(tmp_path / "any name.bin", kind, side=side, open_sides=open_sides))
        assert (found.kind, found.side_px) == (kind, side)
        assert found.spec.inputs[0].shape == found.spec.outputs[0].shape == (1, 3, side, side)
        assert found.spec.inputs[1].shape == files.SIGNATURES[kind][2]
        assert (found.emap is not None) == (kind == "inswapper")


@pytest.mark.parametrize("side", [224, 320])
@pytest.mark.parametrize("morphs", [False, True])
def test_a_dfm_is_known_and_says_its_size(tmp_path: Path, side: int, morphs: bool) -> None:
    found = of(files.dfm(tmp_path / "me.dfm", side, morphs=morphs))
    assert (found.kind, found.side_px, len(found.spec.inputs)) == ("dfm", side, 1 + morphs)
    assert [one.shape for one in found.spec.outputs] == [(1, side, side, 1), (1, side, side, 3), (1, side, side, 1)]


@pytest.mark.parametrize("kind", files.ALIKE)
def test_files_that_look_the_same_need_a_word(tmp_path: Path, kind: str) -> None:
    path = files.swapper(tmp_path / "model.onnx", kind)
    with pytest.raises(EngineUnavailable, match=r"hyperswap, simswap_256, ghost, hififace.*--model-type"):
        of(path)
    assert of(path, kind).kind == kind
    with pytest.raises(
        EngineRefused, match=r"is no blendswap, which would be .*3x112x112.*it has inputs target float32"
    ):
        of(path, "blendswap")


def test_a_ghost_whose_output_was_renamed_is_one_when_it_is_said(tmp_path: Path) -> None:
    path = files.swapper(tmp_path / "model.onnx", "ghost", output="swapped")
    with pytest.raises(EngineUnavailable, match="may be one of"):
        of(path)
    assert of(path, "ghost").kind == "ghost"


def test_unknown_graphs_are_refused_with_what_was_seen_and_what_is_known(tmp_path: Path) -> None:
    inputs = [files.tensor("image", (1, 3, 64, 64)), files.tensor("id", (1, 256))]
    node = onnx.helper.make_node("Identity", ["image"], ["out"])
    path = files.save(tmp_path / "model.onnx", [node], inputs, [files.tensor("out", (1, 3, 64, 64))], [])
    with pytest.raises(EngineRefused) as refused:
        of(path)
    text = str(refused.value)
    assert "\n" not in text
    assert "image float32 [1, 3, 64, 64], id float32 [1, 256]; outputs out float32 [1, 3, 64, 64]" in text
    assert all(kind in text for kind in CONTRACTS)


@pytest.mark.parametrize(
    ("name", "first"), [("emap", False), ("buff2fs", False), ("emap", True), ("onnx::MatMul_77", True), ("x", False)]
)
def test_the_emap_is_found_wherever_a_tool_left_it(tmp_path: Path, name: str, first: bool) -> None:
    found = of(files.swapper(tmp_path / "model.onnx", "inswapper", emap=name, emap_first=first))
    assert found.emap is not None
    np.testing.assert_array_equal(found.emap.array(), files.EMAP)


def test_an_inswapper_without_its_emap_is_refused_with_the_likely_cause(tmp_path: Path) -> None:
    path = files.swapper(tmp_path / "model.onnx", "inswapper", emap=None)
    with pytest.raises(EngineRefused, match=r"emap, 512x512, is not in it: tools that simplify"):
        of_without_square(path)


def of_without_square(path: Path) -> None:
    """The file with its other square matrix taken out as well."""
    model = onnx.load(path)
    kept = [one for one in model.graph.initializer if one.name != "style.weight"]
    nodes = [one for one in model.graph.node if "style.weight" not in one.input]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    of(path)


def test_a_matrix_that_the_graph_reads_is_no_emap(tmp_path: Path) -> None:
    graph = read_graph(files.swapper(tmp_path / "model.onnx", "hyperswap"))
    assert [one.name for one in graph.initializers if one.shape == (512, 512)] == ["style.weight"]
    assert emap_of(graph) is None


@pytest.mark.parametrize("how", ["raw", "floats", "float16 raw", "float16 integers", "bfloat16", "float64"])
def test_a_matrix_is_read_however_it_was_written(tmp_path: Path, how: str) -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    flat = files.EMAP.reshape(-1)
    half = flat.astype(np.float16)
    wanted = half.astype(np.float32) if how.startswith("float16") else flat
    shape = (512, 512)
    if how == "raw":
        emap = onnx.numpy_helper.from_array(files.EMAP, "emap")
    elif how == "floats":
        emap = helper.make_tensor("emap", kinds.FLOAT, shape, flat.tolist())
    elif how == "float16 raw":
        emap = onnx.numpy_helper.from_array(half.reshape(shape), "emap")
    elif how == "float16 integers":
        emap = onnx.TensorProto(name="emap", data_type=kinds.FLOAT16, dims=shape)
        emap.int32_data.extend(half.view(np.uint16).astype(int).tolist())
    elif how == "float64":
        emap = onnx.numpy_helper.from_array(files.EMAP.astype(np.float64), "emap")
    else:
        bits = (flat.view(np.uint32) >> 16).astype(np.uint16)
        wanted = (bits.astype(np.uint32) << 16).view(np.float32)
        emap = helper.make_tensor("emap", kinds.BFLOAT16, shape, bits.tobytes(), raw=True)
    path = files.swapper(tmp_path / "model.onnx", "inswapper", emap=None)
    model = onnx.load(path)
    model.graph.initializer.append(emap)
    path.write_bytes(model.SerializeToString())
    found = of(path)
    assert found.emap is not None
    np.testing.assert_array_equal(found.emap.array().reshape(-1), wanted)


def test_values_in_another_file_are_refused_and_nothing_is_opened(tmp_path: Path) -> None:
    path = files.swapper(tmp_path / "model.onnx", "inswapper")
    model = onnx.load(path)
    for one in model.graph.initializer:
        if one.name == "emap":
            onnx.external_data_helper.set_external_data(one, location="../../etc/passwd")
            one.ClearField("raw_data")
            one.data_location = onnx.TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    found = of(path)
    assert found.emap is not None
    with pytest.raises(EngineRefused, match="save the model as one file"):
        found.emap.array()


def test_recognisers_and_converters_are_checked_as_well(tmp_path: Path) -> None:
    recogniser, converter = files.embedder(tmp_path / "r.onnx"), files.converter(tmp_path / "c.onnx")
    assert embedder_spec(read_graph(recogniser)).outputs[0].shape == (1, 512)
    assert converter_spec(read_graph(converter)).inputs[0].shape == (1, 512)
    with pytest.raises(
        EngineRefused, match=r"c.onnx: is not a face recogniser .*it has inputs input float32 \[1, 512\]"
    ):
        embedder_spec(read_graph(converter))
    with pytest.raises(EngineRefused, match=r"r\.onnx: is not a converter of embeddings"):
        converter_spec(read_graph(recogniser))


def test_older_files_that_list_constants_among_the_inputs_are_read(tmp_path: Path) -> None:
    path = files.swapper(tmp_path / "model.onnx", "inswapper")
    model = onnx.load(path)
    model.graph.input.extend(files.tensor(one.name, one.dims) for one in model.graph.initializer if one.data_type == 1)
    path.write_bytes(model.SerializeToString())
    assert of(path).kind == "inswapper"


def test_missing_empty_and_other_files_are_refused_by_name(tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"nowhere\.onnx: no such file"):
        read_graph(tmp_path / "nowhere.onnx")
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    with pytest.raises(EngineRefused, match=r"empty\.onnx: is empty"):
        read_graph(empty)
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        read_graph(tmp_path)
    with pytest.raises(EngineRefused, match="is no ONNX file, or a damaged or cut one"):
        read_graph(shared_data / "photos" / "astronaut.png")
    with pytest.raises(EngineRefused, match="is no ONNX file"):
        read_graph(Path(sys.executable).resolve())
    detector = shared_data / "models" / "yunet_s_640_640.onnx"
    with pytest.raises(
        EngineRefused, match=r"is no swapper that is known here. It has inputs input float32 \[1, 3, 640"
    ):
        of(detector)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = files.swapper(tmp_path / "model.onnx", "hyperswap").read_bytes()
    cut = tmp_path / "cut.onnx"
    ends = {*range(1, 200, 7), *np.linspace(200, len(whole) - 1, 60).astype(int).tolist()}
    for end in sorted(ends):
        cut.write_bytes(whole[:end])
        with pytest.raises(EngineRefused, match=r"cut.onnx: is no ONNX file, or a damaged or cut one"):
            read_graph(cut)


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_raise_anything_but_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    path.write_bytes(content)
    with pytest.raises(VividError):
        recognise(read_graph(path))


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_but_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.onnx"
    content = bytearray(files.embedder(path).read_bytes())
    content[-(place % 400) - 1 if place % 2 else place % 200] = byte
    path.write_bytes(content)
    with suppress(VividError):
        embedder_spec(read_graph(path))


def test_the_setting_names_every_type_that_is_known() -> None:
    kinds = get_args(SwapSettings.model_fields["model_type"].annotation)
    assert set(kinds) == {"auto", *CONTRACTS}
