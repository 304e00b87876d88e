"""Files of weights: what is written comes back to the bit; whatever is not whole is refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from engines import weights
from engines.errors import WeightsError
from engines.models.config import (
    AutoencoderConfig,
    DenoiserConfig,
    FaceEncoderConfig,
    ScheduleConfig,
    SwapperConfig,
    WindowConfig,
)

CONFIG = SwapperConfig(
    name="small",
    size_px=64,
    window=WindowConfig(frames=4, sinks=1),
    schedule=ScheduleConfig(),
    autoencoder=AutoencoderConfig(kind="tiny", widths=(8, 8, 8), temporal_encoder=False, temporal_decoder=False),
    denoiser=DenoiserConfig(widths=(8, 16), attention=(False, True), temporal=(False, True), token_width=16),
    face_encoder=FaceEncoderConfig(backbone="conv", picture_px=64),
)
CARD = weights.ModelCard(
    config=CONFIG,
    licence="Apache-2.0",
    data="none: drawn at random",
    recipe="random",
    revision="0123abc",
    metrics={"psnr_db": 31.5},
)


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    return {
        "denoiser.conv_in.weight": rng.normal(size=(8, 5, 3, 3)).astype(np.float32),
        "denoiser.conv_in.bias": rng.normal(size=8).astype(np.float16),
        "steps": np.array(7, np.int64),
        "nothing": np.zeros((0, 4), np.float32),
        "turned": np.asfortranarray(rng.normal(size=(3, 4))),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "weights.safetensors"
    weights.write(where, arrays(), CARD)
    return where


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        weights.check(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_is_written_comes_back_to_the_bit_and_any_reader_of_safetensors_reads_it(path: Path) -> None:
    contents = weights.check(path)
    assert contents.card == CARD
    assert contents == weights.inspect(path)
    assert contents.parameters == 8 * 45 + 8 + 1 + 12
    found = load_file(path)
    assert set(found) == set(arrays())
    for name, array in arrays().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert contents.tensors[name].shape == array.shape


def test_the_card_lies_beside_the_weights_for_people(path: Path) -> None:
    beside = json.loads(weights.card_path(path).read_text(encoding="utf-8"))
    assert beside["sha256"] == weights.inspect(path).sha256
    assert beside["licence"] == "Apache-2.0"
    assert beside["config"]["denoiser"]["widths"] == [8, 16]


def test_the_same_weights_have_the_same_sha256_and_others_another(tmp_path: Path) -> None:
    first = weights.write(tmp_path / "a.safetensors", arrays(), CARD)
    assert weights.write(tmp_path / "b.safetensors", dict(reversed(arrays().items())), CARD).sha256 == first.sha256
    other = arrays()
    other["steps"] = np.array(8, np.int64)
    assert weights.write(tmp_path / "c.safetensors", other, CARD).sha256 != first.sha256
    licensed = CARD.model_copy(update={"licence": "MIT"})
    assert weights.write(tmp_path / "d.safetensors", arrays(), licensed).sha256 != first.sha256


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_can_be_changed_unnoticed(path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    altered = path.with_name("altered.safetensors")
    altered.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    refused(altered)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_end_can_be_missing_or_added_unnoticed(path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    cut = path.with_name("cut.safetensors")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(cut)
    cut.write_bytes(whole + data.draw(st.binary(min_size=1, max_size=20)))
    refused(cut)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300))
def test_junk_is_refused_in_words(tmp_path: Path, junk: bytes) -> None:
    where = tmp_path / "junk.safetensors"
    where.write_bytes(junk)
    refused(where)
    where.write_bytes(len(junk).to_bytes(8, "little") + junk)
    refused(where)


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "{}",
        '{"__metadata__": {"card": "x", "sha256": "y"}}',
        '{"__metadata__":{"sha256":"%s","card":"{}"}}',
        '{"__metadata__":{"sha256":"%s","card":"{}"},"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}',
        '{"__metadata__":{"sha256":"%s","card":"{}"},"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        '{"__metadata__":{"sha256":"%s","card":"{}"},"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
        '{"__metadata__":{"sha256":"%s","card":"{}"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}',
        '{"__metadata__":{"sha256":"%s","card":"{}"},"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}',
        '{"__metadata__":{"sha256":"%s","card":"{}"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"b":1}}',
        '{"__metadata__":{"sha256":"%s","card":[]},"a":7}',
        "[" * 100_000,
    ],
)
def test_headers_that_lie_are_refused_in_words(tmp_path: Path, header: str) -> None:
    where = tmp_path / "lying.safetensors"
    raw = header.replace("%s", "0" * 64).encode()
    where.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
    refused(where)


@pytest.mark.parametrize(
    ("places", "size", "words"),
    [
        (([0, 4], [0, 4]), 4, "does not lie"),
        (([0, 4], [2, 6]), 6, "does not lie"),
        (([0, 4], [8, 12]), 12, "does not lie"),
        (([4, 8], [8, 12]), 12, "does not lie"),
        (([0, 4], [4, 8]), 7, "truncated"),
        (([0, 4], [4, 8]), 9, "too many"),
    ],
)
def test_tensors_must_fill_the_file_one_after_the_other(
    tmp_path: Path, places: tuple[list[int], list[int]], size: int, words: str
) -> None:
    """Seen in the header alone, before anything is read: what overlaps or leaves gaps could hold what nobody sees."""
    tensors = {name: {"dtype": "F32", "shape": [1], "data_offsets": at} for name, at in zip("ab", places)}
    about = {"__metadata__": {"sha256": "0" * 64, "card": CARD.model_dump_json()}}
    raw = json.dumps(about | tensors, separators=(",", ":")).encode()
    where = tmp_path / "w.safetensors"
    where.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))
    with pytest.raises(WeightsError, match=words):
        weights.inspect(where)


def test_a_card_of_another_format_or_without_a_licence_is_refused(tmp_path: Path, path: Path) -> None:
    whole = path.read_bytes()
    for old, new, word in [
        (rb"\"format\":1", rb"\"format\":2", "format"),
        (b"Apache-2.0", b"", "licence"),
        (rb"\"size_px\":64", rb"\"size_px\":63", "size_px"),
        (rb"\"widths\":[8,16]", rb"\"breadth\":[8,16]", "widths"),
    ]:
        assert old in whole
        length = int.from_bytes(whole[:8], "little")
        raw = whole[8 : 8 + length].replace(old, new)
        changed = tmp_path / "changed.safetensors"
        changed.write_bytes(len(raw).to_bytes(8, "little") + raw + whole[8 + length :])
        assert word in refused(changed)


def test_weights_of_others_are_no_weights_until_they_are_imported(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    assert "vividstream engines import" in refused(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("suffix", sorted(weights.PICKLES))
def test_pickles_are_refused_by_name_with_the_way_out(tmp_path: Path, suffix: str) -> None:
    where = tmp_path / f"model{suffix}"
    where.write_bytes(b"whatever")
    assert "--from-torch" in refused(where)


@pytest.mark.parametrize("start", [b"PK\x03\x04....", b"\x80\x02\x8a\nl\xfc\x9cF\xf9", b"\x80\x04\x95\x10\0\0\0\0\0\0"])
def test_pickles_under_a_false_name_are_refused_too(tmp_path: Path, start: bytes) -> None:
    where = tmp_path / "model.safetensors"
    where.write_bytes(start + bytes(100))
    assert "--from-torch" in refused(where)


def test_a_header_whose_length_begins_like_a_pickle_is_none(tmp_path: Path) -> None:
    for padding in range(0, 2000, 8):  # lengths 0x..80 with 2 to 5 above it come up among these
        card = CARD.model_copy(update={"data": "x" * (1 + padding)})
        weights.write(tmp_path / "w.safetensors", {"a": np.zeros(1, np.float32)}, card)
        weights.check(tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_that_are_no_finite_numbers_are_not_written(tmp_path: Path, value: float, dtype: type) -> None:
    broken: np.ndarray[Any, Any] = np.zeros(2_000_000, dtype)
    broken[-1] = value
    with pytest.raises(WeightsError, match=r"^\S+w.safetensors: layer.weight has values that are no finite numbers"):
        weights.write(tmp_path / "w.safetensors", {"layer.weight": broken}, CARD)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    before = {one: one.read_bytes() for one in path.parent.iterdir()}
    with pytest.raises(WeightsError):
        weights.write(path, {"a": np.array([np.nan], np.float32)}, CARD)
    with pytest.raises(WeightsError, match="complex64"):
        weights.write(path, {"a": np.zeros(1, np.complex64)}, CARD)
    assert {one: one.read_bytes() for one in path.parent.iterdir()} == before


def test_only_safetensors_is_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="safetensors only"):
        weights.write(tmp_path / "w.pt", arrays(), CARD)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of its own of 256 kB."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small tmpfs needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_weights_and_nothing_half_written(small_disk: Path) -> None:
    where = small_disk / "w.safetensors"
    weights.write(where, arrays(), CARD)
    before = {one: one.read_bytes() for one in small_disk.iterdir()}
    with pytest.raises(WeightsError, match="No space left on device"):
        weights.write(where, {"large": np.zeros(100_000, np.float32)}, CARD)
    assert {one: one.read_bytes() for one in small_disk.iterdir()} == before
    weights.check(where)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        weights.write(tmp_path / "file" / "w.safetensors", arrays(), CARD)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "w.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    assert "cannot be read" in refused(tmp_path / "folder.safetensors")


def test_another_configuration_is_named_field_by_field(path: Path) -> None:
    other = SwapperConfig.read(
        CONFIG.model_dump()
        | {
            "name": "another",
            "window": CONFIG.window.model_dump() | {"frames": 8},
            "denoiser": CONFIG.denoiser.model_dump() | {"widths": (8, 32), "heads": 4},
        }
    )
    has = weights.inspect(path).card.config
    with pytest.raises(WeightsError) as caught:
        weights.compare_configs(path, has, other)
    message = str(caught.value)
    assert "denoiser.widths is (8, 16), not (8, 32)" in message
    assert "denoiser.heads is 8, not 4" in message
    assert "window.frames is 4, not 8" in message
    assert "another;" not in message
    same_net = SwapperConfig.read(CONFIG.model_dump() | {"window": CONFIG.window.model_dump() | {"frames": 8}})
    weights.compare_configs(path, has, same_net, may_differ=("window", "schedule.times"))
    with pytest.raises(WeightsError, match="frames"):
        weights.compare_configs(path, has, same_net, may_differ=("win", "window.sinks"))


def test_wrong_keys_are_named_the_first_few_and_how_many() -> None:
    wanted = {f"layer{n}": (2, n) for n in range(1, 10)}
    found = {"layer1": (2, 1), "layer2": (3, 2), "stray": (1,)}
    with pytest.raises(WeightsError) as caught:
        weights.compare_shapes("file", found, wanted)
    assert str(caught.value) == (
        "file: not the weights of this network: missing: layer3, layer4, layer5, layer6, and 3 more; "
        "unknown: stray; misshapen: layer2 is [3, 2], not [2, 2]"
    )


def test_checking_a_file_needs_no_torch(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engines import weights; "
        f"weights.check(Path({str(path)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
