"""Identity files: what is written comes back, what is not whole is refused in one line, nothing is half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engines.errors import IdentityError
from engines.identity import ATLAS_PX, Identity, Manifest
from engines.identity_list import BUILT_IN, check_name, default_directory, identity_names
from engines.identity_store import IdentityStore, read_identity, write_identity
from engines.trust.key import local_key

VIEWS = Path(__file__).parents[2] / "docs" / "personas"


def made_up(name: str = "ada") -> Identity:
    rng = np.random.default_rng(5)
    return Identity(
        manifest=Manifest(
            format=1,
            name=name,
            created="2026-11-23T10:00:00+00:00",
            consent="Ada herself, today, for tests",
            images_sha256=("ab" * 32, "cd" * 32),
            made_by="vividstream 0.1.0",
            synthetic=True,
        ),
        albedo_AA3=rng.integers(0, 256, (ATLAS_PX, ATLAS_PX, 3), np.uint8),
        confidence_AA=rng.integers(0, 256, (ATLAS_PX, ATLAS_PX), np.uint8),
        shape_S3=rng.normal(size=(468, 3)).astype(np.float32),
        iris_rgb=np.array([90, 70, 60], np.float32),
        portrait_PP3=rng.integers(0, 256, (256, 256, 3), np.uint8),
    )


def arrays_of(identity: Identity) -> dict[str, NDArray[np.generic]]:
    names = ("albedo_AA3", "confidence_AA", "shape_S3", "iris_rgb", "portrait_PP3")
    return {name: getattr(identity, name) for name in names}


def refused(path: Path) -> str:
    with pytest.raises(IdentityError) as caught:
        read_identity(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_an_identity_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "made" / "by save")
    identity = made_up()
    path = store.save(identity)
    back = store.load("ada")
    assert back.manifest == identity.manifest.model_copy(update={"format": 2, "signed_by": local_key().public})
    for name, array in arrays_of(identity).items():
        np.testing.assert_array_equal(getattr(back, name), array)
    assert "ada" in store.names()
    assert identity_names(store.directory) == store.names()
    assert path.stat().st_size < 2_000_000
    assert os.listdir(path.parent) == ["ada.safetensors"]


def test_arrays_that_do_not_lie_in_order_are_not_scrambled(tmp_path: Path) -> None:
    identity = made_up()
    turned = replace(identity, shape_S3=np.asfortranarray(identity.shape_S3), albedo_AA3=identity.albedo_AA3[:, ::-1])
    IdentityStore(tmp_path).save(turned)
    back = IdentityStore(tmp_path).load("ada")
    np.testing.assert_array_equal(back.shape_S3, identity.shape_S3)
    np.testing.assert_array_equal(back.albedo_AA3, identity.albedo_AA3[:, ::-1])


def test_saving_again_replaces_and_deleting_removes(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    store.save(made_up())
    store.save(replace(made_up(), iris_rgb=np.array([1, 2, 3], np.float32)))
    assert store.load("ada").iris_rgb.tolist() == [1, 2, 3]
    store.delete("ada")
    assert "ada" not in store.names()
    with pytest.raises(IdentityError, match='no identity "ada"'):
        store.delete("ada")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    path = IdentityStore(tmp_path).save(made_up())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


def test_rubbish_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ada.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    refused(path)
    path.write_bytes(bytes(20_000_000))
    assert "larger than any identity" in refused(path)
    assert "no such file" in refused(tmp_path / "nowhere.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors")


Damage = Callable[[dict[str, NDArray[np.generic]], dict[str, object]], None]


def drop_shape(arrays: dict[str, NDArray[np.generic]], _: dict[str, object]) -> None:
    del arrays["shape_S3"]


def wide_shape(arrays: dict[str, NDArray[np.generic]], _: dict[str, object]) -> None:
    arrays["shape_S3"] = np.zeros((478, 3), np.float32)


def double_shape(arrays: dict[str, NDArray[np.generic]], _: dict[str, object]) -> None:
    arrays["shape_S3"] = np.zeros((468, 3), np.float64)


def nan_shape(arrays: dict[str, NDArray[np.generic]], _: dict[str, object]) -> None:
    arrays["shape_S3"] = np.full((468, 3), np.nan, np.float32)


def more(arrays: dict[str, NDArray[np.generic]], _: dict[str, object]) -> None:
    arrays["pickle"] = np.zeros(3, np.uint8)


def later_format(_: dict[str, NDArray[np.generic]], manifest: dict[str, object]) -> None:
    manifest["format"] = 3


def no_consent(_: dict[str, NDArray[np.generic]], manifest: dict[str, object]) -> None:
    del manifest["consent"]


def number_as_name(_: dict[str, NDArray[np.generic]], manifest: dict[str, object]) -> None:
    manifest["name"] = 7


def unknown_key(_: dict[str, NDArray[np.generic]], manifest: dict[str, object]) -> None:
    manifest["concent"] = "yes"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop_shape, "shape_S3 is missing"),
        (wide_shape, "shape_S3 is F32 [478, 3], not F32 [468, 3]"),
        (double_shape, "shape_S3 is F64"),
        (nan_shape, "shape_S3 has values that are no numbers"),
        (more, "pickle does not belong"),
        (later_format, "format 3, and this version reads 1 and 2"),
        (no_consent, 'setting "consent"'),
        (number_as_name, 'setting "name"'),
        (unknown_key, 'did you mean "consent"?'),
    ],
)
def test_a_tampered_file_says_what_is_wrong(tmp_path: Path, damage: Damage, says: str) -> None:
    arrays, manifest = arrays_of(made_up()), made_up().manifest.model_dump(mode="json")
    damage(arrays, manifest)
    path = tmp_path / "ada.safetensors"
    save_file(arrays, path, {"manifest": json.dumps(manifest)})
    assert says in refused(path)


@pytest.mark.parametrize("manifest", [None, "{", "[]", "null", "[" * 100_000])
def test_a_file_without_a_manifest_is_refused(tmp_path: Path, manifest: str | None) -> None:
    path = tmp_path / "ada.safetensors"
    save_file(arrays_of(made_up()), path, None if manifest is None else {"manifest": manifest})
    assert "manifest" in refused(path)


def test_an_identity_with_wrong_arrays_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="albedo_AA3"):
        IdentityStore(tmp_path).save(replace(made_up(), albedo_AA3=np.zeros((64, 64, 3), np.uint8)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fills_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = IdentityStore(tmp_path)
    store.save(made_up())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(IdentityError, match="No space left"):
        store.save(replace(made_up(), iris_rgb=np.zeros(3, np.float32)))
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["ada.safetensors"]
    assert store.load("ada").iris_rgb.tolist() == [90, 70, 60]


def test_a_write_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        IdentityStore(tmp_path).save(made_up())
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device_is_one_line() -> None:
    with pytest.raises(IdentityError, match="cannot be written"):
        write_identity(Path("/dev/full/ada.safetensors"), made_up())


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../ada", "a/b", "a\\b", ".ada", "ada.", "ada ", " ada", "a\0b", "a\nb", "-rf", "a:b", "CON",
     "nul.x", "😀", "a" * 65, "ت" * 120, "a\u202eb"],
)  # fmt: skip
def test_names_that_mean_something_to_a_file_system_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(IdentityError) as caught:
        IdentityStore(tmp_path).save(made_up(name))
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.parent.glob("*.safetensors"))


@pytest.mark.parametrize("name", ["ada", "Ada Lovelace", "José", "山田 太郎", "अदिति", "a_b-c.d", "7", "ß" * 64])
def test_names_of_all_scripts_work(tmp_path: Path, name: str) -> None:
    store = IdentityStore(tmp_path)
    store.save(made_up(name))
    assert store.load(name).name == name
    assert name in store.names()


def test_a_name_may_be_typed_in_either_unicode_form(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    store.save(made_up("José"))
    assert store.load("Jose\u0301").name == "José"


@given(st.text(max_size=80))
def test_whatever_passes_stays_inside_the_folder(name: str) -> None:
    try:
        composed = check_name(name)
    except IdentityError:
        return
    folder = Path("/somewhere/identities")
    path = folder / f"{composed}.safetensors"
    assert path.parent == folder
    assert path.stem == composed
    assert len(os.fsencode(path.name)) <= 255
    assert check_name(composed) == composed


def test_an_unknown_name_is_told_the_nearest(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    store.save(made_up("adalberta"))
    with pytest.raises(IdentityError, match='did you mean "adalberta"'):
        store.load("adalbert")
    for wild in ("../adalberta", "/etc/passwd", "a\0b", ""):
        with pytest.raises(IdentityError, match="no identity"):
            store.load(wild)


def test_a_renamed_file_is_not_taken_for_somebody_else(tmp_path: Path) -> None:
    path = IdentityStore(tmp_path).save(made_up("ada"))
    path.rename(tmp_path / "bob.safetensors")
    with pytest.raises(IdentityError, match='holds identity "ada"'):
        IdentityStore(tmp_path).load("bob")


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".hidden.safetensors").write_bytes(b"")
    (tmp_path / "a folder.safetensors").mkdir()
    store = IdentityStore(tmp_path)
    assert store.names() == store.built_in()


def test_a_folder_that_is_not_there_is_empty_and_not_made(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "later")
    assert store.names() == store.built_in()
    assert not (tmp_path / "later").exists()


def test_the_default_folder_is_the_user_s() -> None:
    assert IdentityStore(None).directory == default_directory()
    assert default_directory().is_absolute()


def test_built_in_personas_are_whole_synthetic_and_read_only(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    assert store.built_in() == ("amara", "henrik", "lucia", "rohan")
    for name in store.built_in():
        persona = store.load(name)
        assert persona.name == name
        assert persona.manifest.synthetic
        views = [VIEWS / name / f"{view}.jpg" for view in ("front", "left", "right", "up")]
        assert persona.manifest.images_sha256 == tuple(hashlib.sha256(view.read_bytes()).hexdigest() for view in views)
        assert (BUILT_IN / f"{name}.safetensors").stat().st_size < 1_500_000
        with pytest.raises(IdentityError, match="built in"):
            store.save(made_up(name))
        with pytest.raises(IdentityError, match="built in"):
            store.delete(name)
    assert not any(tmp_path.iterdir())
