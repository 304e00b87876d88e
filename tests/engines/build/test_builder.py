"""Builds that go wrong in every way a machine can make them go wrong; the store is never left half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines import golden, store, weights
from engines.build import builder, estimate, folders, manifest
from engines.build.builder import build
from engines.build.lock import LOCK, holder, locked
from engines.build.progress import Progress
from engines.build.prune import prune
from engines.build.settings import config_of
from engines.build.tables import manifest_text
from engines.build.verify import verify
from engines.engine_manifest import key_of, read_manifest
from engines.errors import EngineRefused, NoRoom, NotBuilt, SettingError, StoreBusy, UnknownEngine, WeightsError
from engines.machine import Machine
from engines.models.config import SwapperConfig
from engines.models.swapper import Swapper
from engines.store import Entry, Wanted
from tests.engines.small_engine import SMALL, read_until, settings, started_build, write_weights

TMPFS_MB = 40


def only_the_lock(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {LOCK}


def built_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def test_a_build_says_what_it_does_and_what_it_needs(tmp_path: Path, small_weights: Path) -> None:
    lines: list[str] = []
    entry = build(settings(tmp_path, small_weights), lines.append)
    assert "million weights" in lines[0]
    assert "a guess: none like it was built here before" in lines[0]
    stages = dict.fromkeys(line.split()[1].rstrip(",") for line in lines if line.startswith("["))
    assert tuple(stages) == estimate.STAGES
    assert all(line.endswith(" left") for line in lines if line.startswith("["))

    again: list[str] = []
    assert build(settings(tmp_path, small_weights), again.append).key == entry.key
    assert f"as on {entry.manifest.created[:10]}" in again[0]
    assert again[-1] == "this engine is there already; --rebuild builds it again"
    assert built_names(tmp_path) == [entry.key]


def test_a_portable_engine_is_bound_to_nothing(tmp_path: Path, small_weights: Path) -> None:
    key = build(settings(tmp_path, small_weights, runtime="ort", portable=True), lambda line: None).manifest.key
    assert (key.machine, key.versions) == (Machine(), {})
    for runtime in ("torch", "compiled"):
        with pytest.raises(NotBuilt, match="--portable is for --runtime ort"):
            build(settings(tmp_path, small_weights, runtime=runtime, portable=True), lambda line: None)


def test_weights_that_came_with_the_package_need_not_be_named(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match='no trained weights of "small" come with vividstream'):
        settings(tmp_path, None)
    monkeypatch.setattr(store, "SHIPPED", small_weights.parent)
    entry = build(settings(tmp_path, None), lambda line: None)
    assert entry.manifest.weights.source == "shipped"
    assert "--weights" not in store.rebuild_command(entry.manifest)


def test_the_manifest_has_everything(built_store: Path) -> None:
    entry = store.find(Wanted("small", "ort"), built_store)
    written, key = entry.manifest, entry.manifest.key
    assert key.config == SMALL
    assert (key.window, key.steps, key.size_px, key.batch, key.precision) == (4, 1, 64, 1, "float32")
    assert set(key.graphs) == {"step", "identity"}
    assert any(memory.clock == "window" for memory in key.graphs["step"].spec.memories)
    assert set(key.versions) == {"onnxruntime"}
    assert key.machine.system == written.built_on.system
    assert written.built_on.cpu
    assert set(written.files) == {"step.onnx", "identity.onnx", "golden.safetensors"}
    assert set(written.timings_s) == set(estimate.STAGES)
    assert written.weights.source == "small.safetensors"
    assert written.weights.licence == "CC0-1.0"
    assert {(result.graph, result.output) for result in written.golden.results} == {
        ("identity", "identity_tokens"),
        ("step", "face"),
        ("step", "latent"),
    }
    assert max(result.frame for result in written.golden.results) == written.golden.frames - 1
    assert written.memory_peak_bytes > 0
    assert read_manifest(entry.folder) == written


def test_the_key_follows_weights_runtime_steps_size_and_batch(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything but the exported text, which is stood in for: exporting takes seconds."""
    monkeypatch.setattr(builder, "exported_program", lambda module: module)
    monkeypatch.setattr(manifest, "program_text_sha256", lambda module: "")
    monkeypatch.setattr(builder, "export_onnx", lambda module, path: path.write_bytes(b"graph"))
    monkeypatch.setattr(manifest, "onnx_text_sha256", lambda size: "")
    other = write_weights(tmp_path / "other.safetensors", seed=4)
    plain = settings(tmp_path, small_weights)
    keys = [key(plain, tmp_path)]
    assert keys[0] == key(plain, tmp_path)
    for changes in ({"runtime": "ort"}, {"steps": 2}, {"size": 128}, {"batch": 2}, {"precision": "bfloat16"}):
        keys.append(key(settings(tmp_path, small_weights, **changes), tmp_path))
    keys.append(key(settings(tmp_path, other), tmp_path))
    versions = {"torch": "2.99"}
    monkeypatch.setattr(builder, "versions_of", lambda runtime: versions)
    keys.append(key(plain, tmp_path))
    assert len(set(keys)) == len(keys)


def key(chosen: Any, tmp_path: Path) -> str:
    with folders.building(tmp_path) as aside:
        config = config_of(chosen)
        progress = Progress(dict.fromkeys(estimate.STAGES, 0.0), lambda line: None)
        job = builder.Job(config, chosen, aside, progress, builder._precision(chosen))
        builder._construct(job)
        return key_of(builder._key_facts(job, builder._export(job)))


@pytest.mark.usefixtures("without_export")
def test_random_weights_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "config_of", lambda chosen: SMALL)
    entry = build(settings(tmp_path, None, random_weights=5, name="tiny"), lambda line: None)
    assert entry.manifest.weights.random_seed == 5
    assert entry.manifest.random
    with pytest.raises(EngineRefused, match="random weights"):
        store.find(Wanted("small"), tmp_path)


@pytest.mark.usefixtures("without_export")
def test_weights_that_are_random_in_part_are_marked_too(tmp_path: Path, small_weights: Path) -> None:
    """An import may leave parts random; what such an engine draws is no face."""
    from safetensors.numpy import load_file

    card = weights.inspect(small_weights).card.model_copy(update={"untrained": ("face_encoder.backbone (9 tensors)",)})
    weights.write(tmp_path / "part.safetensors", load_file(small_weights), card)
    entry = build(settings(tmp_path / "store", tmp_path / "part.safetensors"), lambda line: None)
    assert entry.manifest.random
    assert "RANDOM IN PART: face_encoder.backbone" in manifest_text(entry)
    with pytest.raises(EngineRefused, match="random weights"):
        store.find(Wanted("small"), tmp_path / "store")
    assert store.find(Wanted("small", random_weights=True), tmp_path / "store") == entry


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes a build's most time, where the key does not matter."""
    monkeypatch.setattr(builder, "exported_program", lambda module: module)
    monkeypatch.setattr(manifest, "program_text_sha256", lambda module: "")


class Silent(Swapper):
    """A network whose training went wrong: one weight is no number."""

    def initialise(self, seed: int = 0) -> Swapper:
        super().initialise(seed)
        torch.nn.init.constant_(next(self.autoencoder.parameters()), 1e38)
        return self


@pytest.mark.usefixtures("without_export")
def test_a_network_that_gives_no_numbers_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "config_of", lambda chosen: SMALL)
    monkeypatch.setattr(builder, "Swapper", Silent)
    with pytest.raises(NotBuilt, match="the network itself gives no numbers"):
        build(settings(tmp_path, None, random_weights=5, name="tiny"), lambda line: None)
    assert only_the_lock(tmp_path)


@pytest.mark.usefixtures("without_export")
def test_an_engine_that_draws_something_else_is_not_kept(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime forgets to write the ring: the first frame is right, the second is not."""
    real = golden.frame_slots
    proving = False

    def prove(*given: Any) -> Any:
        nonlocal proving
        proving = True
        return real_prove(*given)

    def forgetful(*given: Any) -> Any:
        slots = real(*given)
        return {clock: np.full_like(values, -1) for clock, values in slots.items()} if proving else slots

    real_prove = builder._prove
    monkeypatch.setattr(builder, "_prove", prove)
    monkeypatch.setattr(golden, "frame_slots", forgetful)
    with pytest.raises(NotBuilt, match=r"fails its golden check, and was not kept: step: \w+ of frame 1 is"):
        build(settings(tmp_path, small_weights, precision="bfloat16"), lambda line: None)
    assert only_the_lock(tmp_path)


def test_a_damaged_engine_is_built_again(store_copy: Path, small_weights: Path) -> None:
    entry = store.find(Wanted("small", "torch"), store_copy)
    (entry.folder / "weights.safetensors").write_bytes(b"cut")
    assert "is cut" in verify(entry, threads=1).fault
    lines: list[str] = []
    again = build(settings(store_copy, small_weights), lines.append)
    assert again.key == entry.key
    assert any("damaged, and is built again" in line for line in lines)
    assert verify(again, threads=1).fault == ""
    assert len(built_names(store_copy)) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_weights_are_refused(tmp_path: Path, small_weights: Path, damage: str) -> None:
    path = tmp_path / "small.safetensors"
    data = bytearray(small_weights.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data[:-50] if damage == "cut" else data)
    with pytest.raises(WeightsError, match=r"truncated|altered"):
        build(settings(tmp_path / "store", path), lambda line: None)
    assert not (tmp_path / "store").exists() or only_the_lock(tmp_path / "store")


def test_wrong_wishes_are_refused_before_anything_is_written(tmp_path: Path, small_weights: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(SettingError, match='holds weights of "small", not of "smal"'):
        build(settings(folder, small_weights, name="smal"), lambda line: None)
    with pytest.raises(UnknownEngine, match='did you mean "tiny"'):
        build(settings(folder, None, random_weights=1, name="tinny"), lambda line: None)
    with pytest.raises(SettingError, match="either --weights FILE or --random-weights SEED"):
        settings(folder, small_weights, random_weights=1)
    with pytest.raises(NotBuilt, match="float32 on a CPU"):
        build(settings(folder, small_weights, runtime="ort", precision="bfloat16"), lambda line: None)
    assert not folder.exists()


def test_too_little_memory_is_said_with_figures(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "free_memory_bytes", lambda: 100_000_000)
    with pytest.raises(NoRoom, match=r"needs about \d+ MB of memory .* and 100 MB are free; --force"):
        build(settings(tmp_path, small_weights), lambda line: None)
    assert only_the_lock(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, real and tiny."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "vividstream-test", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True, capture_output=True)


def fill(disk: Path) -> None:
    """Leaves 4 kB free."""
    with (disk / "filler").open("wb") as file:
        file.write(b"x" * (shutil.disk_usage(disk).free - 4096))


@pytest.mark.parametrize(("runtime", "stage"), [("torch", "construct"), ("torch", "seal"), ("ort", "export")])
def test_a_disk_that_fills_up_leaves_nothing_behind(
    small_disk: Path, small_weights: Path, runtime: str, stage: str, request: pytest.FixtureRequest
) -> None:
    if runtime == "torch":
        request.getfixturevalue("without_export")
    folder = small_disk / "store"

    def say(line: str) -> None:
        if line.startswith("[") and line.split()[1].rstrip(",") == stage and not (small_disk / "filler").exists():
            fill(small_disk)

    with pytest.raises(NoRoom, match="the disk ran full during the build, and nothing of it was kept"):
        build(settings(folder, small_weights, runtime=runtime), say)
    assert only_the_lock(folder)
    (small_disk / "filler").unlink()
    if stage == "construct":
        assert build(settings(folder, small_weights, runtime=runtime), lambda line: None).folder.is_dir()


def test_a_disk_too_small_is_refused_before_the_build(small_disk: Path, small_weights: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * (TMPFS_MB - 10) * 1_000_000)
    lines: list[str] = []
    with pytest.raises(NoRoom, match=r"needs \d+ MB of disk, and \d+ MB are free; .*prune"):
        build(settings(small_disk / "store", small_weights), lines.append)
    assert not any(line.startswith("[") for line in lines)


@pytest.mark.timeout(400)
def test_killed_builds_and_builds_at_the_same_time(tmp_path: Path, small_weights: Path) -> None:
    """The first is killed in its middle while the second waits for it; the second clears up, and builds."""
    folder = tmp_path / "store"
    with started_build(folder, small_weights) as first, ExitStack() as later:
        read_until(first, "[2/6] export")
        assert len(folders.leftovers(folder)) == 1
        assert built_names(folder) == [folders.leftovers(folder)[0].name]

        with pytest.raises(StoreBusy, match=f"held by process {first.pid} .*building small for torch since"):
            build(settings(folder, small_weights, wait=False), lambda line: None)
        with pytest.raises(StoreBusy):
            prune(folder, None, False, False, False, False, lambda line: None)
        second = later.enter_context(started_build(folder, small_weights))
        said = read_until(second, "waiting")
        assert f"held by process {first.pid} on " in said[-1]

        first.send_signal(signal.SIGKILL)
        first.wait()
        rest = second.communicate()[0].splitlines()
        assert second.returncode == 0, rest
    assert any(line.startswith(f"an earlier build broke off: process {first.pid}") for line in rest)
    assert any("that a build left which died" in line for line in rest)
    names = built_names(folder)
    assert len(names) == 1
    written = read_manifest(folder / names[0])
    assert verify(Entry(folder / names[0], written), threads=1).fault == ""
    assert written.memory_peak_bytes < written.memory_estimated_bytes < 3 * written.memory_peak_bytes
    assert holder(folder) is None


@pytest.mark.timeout(400)
def test_two_builds_of_the_same_engine_make_one(tmp_path: Path, small_weights: Path) -> None:
    folder = tmp_path / "store"
    with started_build(folder, small_weights) as first:
        read_until(first, "[1/6]")
        with started_build(folder, small_weights) as second:
            outputs = [process.communicate()[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert "waiting: the store is held by process" in outputs[1]
    assert "this engine is there already" in outputs[1]
    assert len(built_names(folder)) == 1


@pytest.mark.timeout(400)
def test_prune_clears_what_a_killed_build_left(tmp_path: Path, small_weights: Path) -> None:
    folder = tmp_path / "store"
    with started_build(folder, small_weights) as process:
        read_until(process, "[2/6] export")
        process.kill()
    assert len(folders.leftovers(folder)) == 1
    would = prune(folder, None, False, False, True, False, lambda line: None)
    assert [one.why for one in would] == ["left by a build that died"]
    assert len(folders.leftovers(folder)) == 1
    assert prune(folder, None, False, False, False, False, lambda line: None) == would
    assert only_the_lock(folder)


def test_ctrl_c_leaves_nothing(tmp_path: Path, small_weights: Path) -> None:
    with started_build(tmp_path, small_weights) as process:
        read_until(process, "[2/6] export")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert only_the_lock(tmp_path)


def test_a_replacement_that_was_never_finished_is_undone(store_copy: Path) -> None:
    """Killed between the two renames: the old engine was set aside, the new one had not its name yet."""
    entry = store.find(Wanted("small", "torch"), store_copy)
    entry.folder.rename(store_copy / f"{folders.REPLACED}{entry.key}")
    (store_copy / f"{folders.BUILDING}1-00").mkdir()
    said = folders.recover(store_copy)
    assert any(line.startswith(f"brought back {entry.key[:12]}") for line in said)
    assert store.find(Wanted("small", "torch"), store_copy).key == entry.key
    assert folders.leftovers(store_copy) == []


def test_a_failed_replacement_keeps_the_old_engine(store_copy: Path, tmp_path: Path) -> None:
    entry = store.find(Wanted("small", "torch"), store_copy)
    with pytest.raises(FileNotFoundError):
        folders.publish(tmp_path / "nothing", store_copy, entry.key)
    assert store.find(Wanted("small", "torch"), store_copy).key == entry.key


def test_the_lock_of_a_dead_process_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(
        '{"pid":1,"host":"elsewhere","what":"building tiny for ort","since":"10:00:00 UTC"}', encoding="utf-8"
    )
    since_s = time.monotonic()
    with locked(tmp_path, "testing", lambda line: None) as dead:
        assert dead is not None
        assert (dead.pid, dead.host) == (1, "elsewhere")
        found = holder(tmp_path)
        assert found is not None
        assert found.pid == os.getpid()
    assert time.monotonic() - since_s < 5
    with locked(tmp_path, "testing", lambda line: None) as dead:
        assert dead is None


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, small_weights: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(NotBuilt, match="cannot be written"):
        build(settings(tmp_path / "file" / "store", small_weights), lambda line: None)


def test_prune_removes_what_cannot_be_used(store_copy: Path, small_weights: Path) -> None:
    torch_one, ort_one = (store.find(Wanted("small", name), store_copy) for name in ("torch", "ort"))
    (torch_one.folder / "weights.safetensors").write_bytes(b"cut")
    (ort_one.folder / "manifest.json").write_text("{", encoding="utf-8")
    removed = prune(store_copy, None, False, False, False, True, lambda line: None)
    assert sorted(one.folder.name for one in removed) == sorted([torch_one.key, ort_one.key])
    assert {one.why for one in removed} >= {"its manifest is damaged"}
    assert built_names(store_copy) == []


def test_an_engine_that_is_being_removed_is_out_of_the_store_at_once(
    store_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = store.find(Wanted("small", "torch"), store_copy)
    seen: list[bool] = []
    real = shutil.rmtree

    def watched(path: Path) -> None:
        seen.append(entry.folder.exists())
        real(path)

    monkeypatch.setattr(shutil, "rmtree", watched)
    folders.remove(entry.folder)
    assert seen == [False]
    assert folders.leftovers(store_copy) == []


def test_prune_keeps_whole_engines_unless_told(store_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = prune(store_copy, None, True, True, False, True, lambda line: None)
    assert nothing == []
    monkeypatch.setattr(store, "versions_of", lambda runtime: {"torch": "1.0", "onnxruntime": "1.0"})
    assert prune(store_copy, None, False, False, False, True, lambda line: None) == []
    removed = prune(store_copy, None, True, False, False, True, lambda line: None)
    assert len(removed) == 2
    assert "1.0 is installed" in removed[0].why


def test_a_size_that_the_network_cannot_have_is_said(tmp_path: Path) -> None:
    deep = SMALL.model_copy(update={"name": "deep"})
    weights = write_weights(tmp_path / "deep.safetensors", config=SwapperConfig.model_validate(deep.model_dump()))
    with pytest.raises(SettingError, match="multiple of 64"):
        build(settings(tmp_path / "store", weights, name="deep", size=100), lambda line: None)
