"""Built engines as a live session sees them: the right one or one clear sentence, never another one."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from engines import golden, machine, store
from engines.engine_manifest import (
    GOLDEN,
    MANIFEST,
    EngineManifest,
    FileFact,
    _seal,
    _sha256_of_values,
    key_of,
    read_manifest,
    sealed,
    sha256_of,
)
from engines.errors import EngineRefused, EngineUnavailable
from engines.machine import Gpu, Machine
from engines.store import Entry, Wanted
from tests.engines.small_engine import ROOT

SMALL_ORT, SMALL_TORCH = Wanted("small", "ort"), Wanted("small", "torch")


def rewritten(entry: Entry, change: Callable[[EngineManifest], EngineManifest]) -> Entry:
    """The engine under the key that fits its changed manifest, as an honest builder elsewhere would have left it."""
    manifest = sealed(change(entry.manifest))
    folder = entry.folder.rename(entry.folder.with_name(key_of(manifest.key)))
    (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
    return Entry(folder, manifest)


def with_key(**changes: Any) -> Callable[[EngineManifest], EngineManifest]:
    return lambda manifest: manifest.model_copy(update={"key": manifest.key.model_copy(update=changes)})


def with_file(entry: Entry, name: str) -> Callable[[EngineManifest], EngineManifest]:
    """The manifest brought up to date with a file that was changed."""
    path = entry.folder / name
    fact = FileFact(sha256=sha256_of(path), size_bytes=path.stat().st_size)
    return lambda manifest: manifest.model_copy(update={"files": {**manifest.files, name: fact}})


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert "vividstream engines " in text, f"does not say which command mends it: {text}"
    return text


@pytest.mark.parametrize("wanted", [SMALL_ORT, SMALL_TORCH], ids=["ort", "torch"])
def test_a_whole_engine_is_found_checked_and_draws(built_store: Path, wanted: Wanted) -> None:
    entry = store.find(wanted, built_store)
    assert entry.manifest.key.runtime == wanted.runtime
    loaded = store.load(entry, threads=1)
    assert set(loaded.graphs) == {"step", "identity"}
    stored = golden.read_golden(entry.folder / GOLDEN, "step")
    drawn = golden.replay(loaded.step, stored)
    assert len(drawn.results) == 2 * len(stored.outputs)
    assert max(result.rms for result in drawn.results) < 1e-5
    loaded.close()


def test_any_runtime_means_the_newest(store_copy: Path) -> None:
    older, newer = store.find(SMALL_ORT, store_copy), store.find(SMALL_TORCH, store_copy)
    rewritten(older, lambda manifest: manifest.model_copy(update={"created": "2020-01-01T00:00:00Z"}))
    assert store.find(Wanted("small"), store_copy).key == newer.key


def test_an_empty_store_says_which_command_builds(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        store.find(Wanted("base", "ort", steps=2), tmp_path / "nothing")
    text = one_sentence(caught.value)
    assert "vividstream engines build base --runtime ort --steps 2 --weights FILE" in text


def test_a_wrong_name_gets_the_nearest_one(built_store: Path) -> None:
    with pytest.raises(EngineUnavailable, match='did you mean "small"'):
        store.find(Wanted("smal"), built_store)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("small", "tensorrt"), "for runtime"),
        (Wanted("small", precision="bfloat16"), "for precision float32, not bfloat16"),
        (Wanted("small", steps=2), "for steps 1, not 2"),
        (Wanted("small", size_px=128), "for size 64, not 128"),
        (Wanted("small", batch=2), "for batch 1, not 2"),
        (Wanted("small", device="cuda"), "for device cpu, not cuda"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_engine_than_the_one_asked_for_is_never_given(built_store: Path, wanted: Wanted, said: str) -> None:
    with pytest.raises(EngineRefused) as caught:
        store.find(wanted, built_store)
    assert said in one_sentence(caught.value)


def test_the_command_that_mends_it_builds_what_was_wanted(built_store: Path) -> None:
    with pytest.raises(EngineRefused) as caught:
        store.find(Wanted("small", "ort", batch=2, steps=2), built_store)
    assert "build small --runtime ort --precision float32 --steps 2 --batch 2 --weights small.safetensors" in str(
        caught.value
    )


def test_random_weights_are_refused_unless_asked_for(store_copy: Path) -> None:
    shutil.rmtree(store.find(SMALL_ORT, store_copy).folder)
    entry = store.find(SMALL_TORCH, store_copy)
    weights = entry.manifest.weights.model_copy(update={"random_seed": 7, "source": "random"})
    rewritten(entry, lambda manifest: manifest.model_copy(update={"weights": weights}))
    with pytest.raises(EngineRefused, match="random weights, which nobody trained") as caught:
        store.find(Wanted("small"), store_copy)
    assert "--weights FILE" in one_sentence(caught.value)
    assert store.find(Wanted("small", random_weights=True), store_copy).manifest.random


@pytest.mark.parametrize("name", ["weights.safetensors", GOLDEN])
def test_a_truncated_file_is_refused(store_copy: Path, name: str) -> None:
    entry = store.find(SMALL_TORCH, store_copy)
    path = entry.folder / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EngineRefused, match="is cut") as caught:
        store.load(entry, threads=1)
    assert "--runtime torch" in one_sentence(caught.value)


@pytest.mark.parametrize("name", ["step.onnx", "identity.onnx", GOLDEN])
def test_a_flipped_bit_is_refused(store_copy: Path, name: str) -> None:
    entry = store.find(SMALL_ORT, store_copy)
    path = entry.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineRefused, match="was altered") as caught:
        store.load(entry, threads=1)
    one_sentence(caught.value)


def test_a_missing_file_is_refused(store_copy: Path) -> None:
    entry = store.find(SMALL_ORT, store_copy)
    (entry.folder / "step.onnx").unlink()
    with pytest.raises(EngineRefused, match=r"step\.onnx is missing"):
        store.load(entry, threads=1)


def test_a_swapped_model_with_its_right_hash_is_caught_by_its_numbers(store_copy: Path) -> None:
    """Somebody replaced the weights and the manifest's sha256: everything fits but what is drawn."""
    import onnx

    entry = store.find(SMALL_ORT, store_copy)
    path = entry.folder / "step.onnx"
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = np.frombuffer(weight.raw_data, np.float32) * np.float32(1.1)
    weight.raw_data = values.tobytes()
    onnx.save(model, path)
    changed = rewritten(entry, with_file(entry, "step.onnx"))
    with pytest.raises(EngineRefused, match=r"wrong numbers here: step: (face|latent) of frame 0") as caught:
        store.load(changed, threads=1)
    one_sentence(caught.value)


def test_an_engine_that_gives_nan_is_refused(store_copy: Path) -> None:
    import onnx

    entry = store.find(SMALL_ORT, store_copy)
    path = entry.folder / "step.onnx"
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = np.full(len(weight.raw_data) // 4, np.nan, np.float32).tobytes()
    onnx.save(model, path)
    changed = rewritten(entry, with_file(entry, "step.onnx"))
    with pytest.raises(EngineRefused, match="wrong numbers") as caught:
        store.load(changed, threads=1)
    one_sentence(caught.value)


def test_nan_in_the_golden_file_is_refused(store_copy: Path) -> None:
    entry = store.find(SMALL_TORCH, store_copy)
    path = entry.folder / GOLDEN
    tensors = load_file(path)
    header = {"format": "1", "step.frames": "12", "step.sinks": "1", "identity.frames": "2", "identity.sinks": "1"}
    tensors["step/out/0/face"] = np.full_like(tensors["step/out/0/face"], np.nan)
    save_file(tensors, path, header)
    changed = rewritten(entry, with_file(entry, GOLDEN))
    with pytest.raises(EngineRefused, match="wrong numbers here: step: face of frame 0 is nan off"):
        store.load(changed, threads=1)


def test_an_engine_of_another_gpu_is_refused(store_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Machine(system=machine.this_machine().system, gpu="NVIDIA H200", sm="9.0", driver_major=580)
    entry = rewritten(store.find(SMALL_TORCH, store_copy), with_key(device="cuda", machine=built))
    wanted = replace(SMALL_TORCH, device="cuda")
    with pytest.raises(EngineRefused, match="for NVIDIA H200, and no NVIDIA GPU with a driver is here") as caught:
        store.find(wanted, store_copy)
    assert "--device cuda" in one_sentence(caught.value)

    here = Gpu("NVIDIA L40S", "8.9", 48 << 30, 580)
    monkeypatch.setattr(machine, "find_gpu", lambda index=0: here)
    for change, said in (
        ({}, "the GPU NVIDIA H200, and this is NVIDIA L40S"),
        ({"name": "NVIDIA H200"}, r"compute capability 9\.0, and this is 8\.9"),
        ({"name": "NVIDIA H200", "sm": "9.0", "driver_major": 610}, "driver 580, and this is 610"),
    ):
        other = replace(here, **change)
        monkeypatch.setattr(machine, "find_gpu", lambda index=0, gpu=other: gpu)
        with pytest.raises(EngineRefused, match=said):
            store.find(wanted, store_copy)
        with pytest.raises(EngineRefused, match=said):
            store.load(entry, "cuda")
    monkeypatch.setattr(machine, "find_gpu", lambda index=0: Gpu("NVIDIA H200", "9.0", 1 << 37, 580))
    assert store.find(wanted, store_copy).key == entry.key


@pytest.mark.parametrize(
    ("versions", "said"),
    [({"torch": "1.0"}, "built with torch 1.0, and 2"), ({"tensorrt": "11.0"}, "tensorrt 11.0, and none is installed")],
)
def test_an_engine_of_another_version_is_refused(store_copy: Path, versions: dict[str, str], said: str) -> None:
    entry = rewritten(store.find(SMALL_TORCH, store_copy), with_key(versions=versions))
    with pytest.raises(EngineRefused) as caught:
        store.find(SMALL_TORCH, store_copy)
    assert said in one_sentence(caught.value)
    with pytest.raises(EngineRefused):
        store.load(entry)


def damage_manifest(entry: Entry, change: Callable[[dict[str, Any]], object]) -> None:
    path = entry.folder / MANIFEST
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values["key"].update(precision="float16"), "was altered"),
        (lambda values: values["golden"]["tolerance"].update(first_rms=9.0), "was altered"),
        (lambda values: values["key"].update(formt=1), "formt: Extra inputs"),
        (lambda values: values["key"].update(format=99), "format 99, and this version reads 1"),
        (lambda values: values.pop("files"), "files: Field required"),
        (lambda values: values["files"].update({"../../x": {"sha256": "0", "size_bytes": 1}}), "was altered"),
    ],
    ids=["key", "tolerance", "unknown", "format", "lacking", "outside"],
)
def test_an_altered_manifest_is_refused(
    store_copy: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    entry = store.find(SMALL_TORCH, store_copy)
    damage_manifest(entry, change)
    with pytest.raises(EngineRefused) as caught:
        read_manifest(entry.folder)
    assert said in str(caught.value)
    whole, broken = store.entries(store_copy)
    assert [one.manifest.key.runtime for one in whole] == ["ort"]
    assert len(broken) == 1
    assert said in one_sentence(broken[0])


def test_a_manifest_from_before_a_setting_was_there_is_whole(store_copy: Path) -> None:
    """Its key and its seal are of what it says, not of what this version would say."""
    entry = store.find(SMALL_ORT, store_copy)
    values = json.loads((entry.folder / MANIFEST).read_text(encoding="utf-8"))
    assert values["key"]["config"]["autoencoder"].pop("encoder_blocks") == 0
    values["manifest_sha256"] = _seal(values)
    folder = entry.folder.rename(store_copy / _sha256_of_values(values["key"]))
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    found = store.find(SMALL_ORT, store_copy)
    assert found.key == folder.name
    store.load(found, threads=1).close()


def test_a_manifest_of_a_later_version_says_so(store_copy: Path) -> None:
    entry = store.find(SMALL_ORT, store_copy)
    damage_manifest(entry, lambda values: values.update(vividstream="9.9", new_thing=1))
    with pytest.raises(EngineRefused, match=r"of vividstream 9\.9, or damaged: new_thing: Extra inputs"):
        read_manifest(entry.folder)


def test_files_outside_of_the_folder_are_refused(store_copy: Path) -> None:
    entry = store.find(SMALL_TORCH, store_copy)
    fact = FileFact(sha256="0" * 64, size_bytes=1)
    manifest = entry.manifest.model_copy(update={"files": {"../../passwd": fact}})
    changed = rewritten(entry, lambda _: manifest)
    with pytest.raises(EngineRefused, match="is no file of this folder"):
        read_manifest(changed.folder)


def test_a_manifest_in_the_wrong_folder_is_refused(store_copy: Path) -> None:
    entry = store.find(SMALL_TORCH, store_copy)
    other = entry.folder.rename(store_copy / hashlib.sha256(b"another").hexdigest())
    with pytest.raises(EngineRefused, match="does not belong to its folder"):
        read_manifest(other)


def test_half_a_manifest_is_refused_and_the_others_still_work(store_copy: Path) -> None:
    entry = store.find(SMALL_TORCH, store_copy)
    path = entry.folder / MANIFEST
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EngineRefused, match="no JSON, or not all of it"):
        read_manifest(entry.folder)
    assert store.find(Wanted("small"), store_copy).manifest.key.runtime == "ort"


def test_finding_an_engine_imports_nothing_heavy(built_store: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engines import store\n"
        f"entry = store.find(store.Wanted('small', 'ort'), Path({str(built_store)!r})); store.check_files(entry)\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'tensorrt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# ---- portable engines, and those that come with the package


def portable(entry: Entry, **more: Any) -> Entry:
    """The engine as `--portable` builds it."""
    return rewritten(entry, with_key(machine=Machine(), versions={}, **more))


def test_a_portable_engine_fits_every_machine_and_version(store_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = portable(store.find(SMALL_ORT, store_copy))
    monkeypatch.setattr(store, "versions_of", lambda runtime: {"onnxruntime": "99.0"})
    monkeypatch.setattr(store, "this_machine", lambda device: Machine(system="Plan9 mips", cpu="none"))
    assert store.find(SMALL_ORT, store_copy).key == entry.key
    store.load(entry, threads=1).close()


def test_a_portable_engine_that_draws_wrongly_here_is_refused(store_copy: Path) -> None:
    """What stands in for the bindings: the numbers that it has to give."""
    entry = store.find(SMALL_ORT, store_copy)
    path = entry.folder / GOLDEN
    tensors = load_file(path)
    tensors["step/out/0/face"] = tensors["step/out/0/face"] + np.float32(0.01)
    with safe_open(path, "np") as file:
        save_file(tensors, path, file.metadata())
    with pytest.raises(EngineRefused, match="wrong numbers here: step: face of frame 0"):
        store.load(portable(rewritten(entry, with_file(entry, GOLDEN))), threads=1)


def test_8_bits_need_a_processor_that_sums_them(store_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = portable(store.find(SMALL_ORT, store_copy), precision="int8")
    monkeypatch.setattr(machine, "cpu_features", lambda: "avx512_vnni")
    assert store.find(replace(SMALL_ORT, precision="int8"), store_copy).key == entry.key
    for module in (machine, store):
        monkeypatch.setattr(module, "cpu_features", lambda: "avx2 avx512f")
    with pytest.raises(EngineRefused, match=r"has no instruction for it \(avx2 avx512f\)") as caught:
        store.find(replace(SMALL_ORT, precision="int8"), store_copy)
    one_sentence(caught.value)


@pytest.fixture
def package(store_copy: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine and its weights come with the package; this person's own store is empty."""
    monkeypatch.delenv(store.STORE_VARIABLE, raising=False)
    monkeypatch.setattr(store, "SHIPPED", store_copy)
    monkeypatch.setattr(store, "default_store", lambda: store_copy.parent / "own")
    shutil.copy(small_weights, store_copy / "small.safetensors")
    for entry in store.entries(store_copy)[0]:
        of = entry.manifest.weights.model_copy(update={"source": store.OF_THE_PACKAGE})
        rewritten(entry, lambda manifest, of=of: manifest.model_copy(update={"weights": of}))  # type: ignore[misc]
    return store_copy


def test_what_came_with_the_package_is_found_after_ones_own(package: Path, built_store: Path) -> None:
    assert store.find(SMALL_ORT).folder.parent == package
    shutil.copytree(built_store, store.default_store())
    assert store.find(SMALL_ORT).folder.parent == store.default_store()
    assert len(store.entries()[0]) == 4


def test_a_store_that_is_named_is_the_only_one(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.STORE_VARIABLE, str(tmp_path / "own"))
    with pytest.raises(EngineUnavailable, match='no engine "small" is built'):
        store.find(SMALL_ORT)
    assert store.entries() == ([], [])


def test_the_command_that_builds_another_form_needs_no_weights_then(package: Path) -> None:
    with pytest.raises(EngineRefused) as caught:
        store.find(Wanted("small", "compiled"))
    assert "build it: `vividstream engines build small --runtime compiled --precision float32" in str(caught.value)
    assert "--weights" not in str(caught.value)


def test_damage_to_what_came_with_the_package_asks_for_a_new_installation(package: Path) -> None:
    entry = store.find(SMALL_ORT)
    path = entry.folder / "step.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineRefused, match="came with vividstream: install that again"):
        store.load(entry)
    (entry.folder / MANIFEST).write_text("{}", encoding="utf-8")
    assert [str(one).rpartition("; ")[2] for one in store.entries()[1]] == ["install vividstream again"]
