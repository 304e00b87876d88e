"""Twins of prepared clips, drawn by small real swapper files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from distill.prepare.command import prepare_command
from distill.prepare.decouple import Decoupler, identities_of
from distill.prepare.process import hashed
from distill.prepare.run import prepare
from distill.prepare.settings import PrepareSettings
from distill.shards import open_shards
from distill.sources.base import Wanted
from distill.sources.shards import PreparedShards
from engines import EngineUnavailable, IdentityError, IdentityStore, SettingError
from tests.engines.face.heads import identity

pytest.importorskip("onnx")

from tests.engines.swappers import onnx_files as files

FRAMES = 8


@pytest.fixture
def smile(shared_data: Path) -> Path:
    return shared_data / "clips" / "single_face.mp4"


def settings_for(output: Path, **more: object) -> PrepareSettings:
    given = {"output": output, "consent": "test only", "licence": "MIT", "frames": FRAMES, **more}
    return PrepareSettings.read(given)


def ghost(folder: Path, how: str = "shift") -> dict[str, object]:
    """Settings of a decoupler, with its files."""
    return {
        "decoupler": files.swapper(folder / "ghost.onnx", "ghost", how),
        "decoupler_embedder": files.embedder(folder / "embedder.onnx"),
        "decoupler_converter": files.converter(folder / "converter.onnx"),
    }


def decoded(content: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


def test_a_twin_is_the_clip_with_another_face_and_says_whose_work_it_is(smile: Path, tmp_path: Path) -> None:
    chosen = ghost(tmp_path)
    outcome = prepare([smile], settings_for(tmp_path / "shards", **chosen))
    assert (outcome.clips, outcome.twins) == (9, 9)
    (shard,), _ = open_shards(tmp_path / "shards")
    for clip in (0, 8):
        members = shard[clip]
        facts = json.loads(members["json"])
        landmarks = np.load(io.BytesIO(members["landmarks.npy"]), allow_pickle=False)
        for number in range(FRAMES):
            frame, twin = decoded(members[f"{number:03}.jpg"]), decoded(members[f"{number:03}.twin.jpg"])
            x, y = landmarks[number, 4, :2].round().astype(int)
            nose = (twin - frame)[y - 8 : y + 8, x - 8 : x + 8].mean(axis=(0, 1))
            np.testing.assert_allclose(nose, [12.75, -6.4, 25.5], atol=4)  # .1, -.05, .2 of -1..1, through JPEG
            assert np.abs(twin - frame)[:20].mean() < 1
        used = facts["settings"]["decoupler"]
        for name in ("decoupler", "decoupler_embedder", "decoupler_converter"):
            path = chosen[name]
            assert isinstance(path, Path)
            assert used[name] == hashed(path)
        assert facts["twin"]["identity"] in IdentityStore().built_in()
        assert str(tmp_path) not in members["json"].decode()


def test_training_gets_the_twin_of_the_very_frames(smile: Path, tmp_path: Path) -> None:
    prepare([smile], settings_for(tmp_path / "with", **ghost(tmp_path)))
    prepare([smile], settings_for(tmp_path / "without"))
    for folder, apart in (("with", True), ("without", False)):
        source = PreparedShards(tmp_path / folder).open()
        for ordinal in range(4):
            sample = source.make(Wanted(seed=3, ordinal=ordinal, frames=4, sources=1, size_px=128))
            difference = (sample.twin_THW3.int() - sample.truth_THW3.int()).abs()
            assert (sample.target_THW3 == sample.truth_THW3).all()
            assert bool((difference.amax(dim=(1, 2, 3)) > 20).all()) == apart
            assert difference[:, :8].float().mean() < 1, "the frame around the face is that of the same moment"
        source.close()


def test_the_same_person_has_the_same_twin_and_a_folder_says_whose(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "people")
    settings = settings_for(tmp_path / "shards", **ghost(tmp_path), decoupler_identities=store.directory)
    with pytest.raises(IdentityError, match="people: no identity in it"):
        Decoupler(settings)
    for name in ("ann", "bob"):
        store.save(identity(name=name))
    assert [one.name for one in identities_of(settings)] == ["ann", "bob"]
    decoupler = Decoupler(settings)
    worn = [decoupler.worn_by(f"person-{number}").name for number in range(20)]
    assert worn == [decoupler.worn_by(f"person-{number}").name for number in range(20)]
    assert set(worn) == {"ann", "bob"}
    decoupler.close()


def test_a_swapper_that_fails_leaves_the_clip_without_a_twin_and_is_counted(smile: Path, tmp_path: Path) -> None:
    outcome = prepare([smile], settings_for(tmp_path / "shards", **ghost(tmp_path, "nan")))
    assert (outcome.clips, outcome.twins) == (9, 0)
    assert outcome.done[0].without_twin == {'graph "ghost" gave values that are no numbers': 9}
    (shard,), _ = open_shards(tmp_path / "shards")
    assert not [name for name in shard[0] if name.endswith(".twin.jpg")]
    assert "no numbers" in json.loads(shard[0]["json"])["twin"]["left_out"]
    sample = PreparedShards(tmp_path / "shards").open().make(Wanted(1, 0, 4, 1, 128))
    assert (sample.twin_THW3 == sample.truth_THW3).all()


def test_another_decoupler_does_not_go_into_the_same_folder(smile: Path, tmp_path: Path) -> None:
    chosen = ghost(tmp_path)
    prepare([smile], settings_for(tmp_path / "shards", **chosen))
    assert prepare([smile], settings_for(tmp_path / "shards", **chosen)).already == 1
    for others in ({}, ghost(tmp_path, "source")):
        with pytest.raises(SettingError, match="made with another decoupler"):
            prepare([smile], settings_for(tmp_path / "shards", **others))


def wrong_kind(folder: Path) -> dict[str, object]:
    return {"decoupler": files.converter(folder / "c.onnx")}


def no_embedder(folder: Path) -> dict[str, object]:
    return {"decoupler": files.swapper(folder / "g.onnx", "ghost")}


def ambiguous(folder: Path) -> dict[str, object]:
    return {"decoupler": files.swapper(folder / "h.onnx", "hyperswap")}


def nowhere(folder: Path) -> dict[str, object]:
    return {"decoupler": folder / "nowhere.onnx"}


@pytest.mark.parametrize(
    ("chosen", "error", "words"),
    [
        (wrong_kind, EngineUnavailable, "is no swapper that is known here"),
        (no_embedder, EngineUnavailable, "--decoupler-embedder FILE.*--decoupler-converter FILE"),
        (ambiguous, EngineUnavailable, "say which with --decoupler-type"),
        (nowhere, EngineUnavailable, r"nowhere\.onnx: no such file"),
    ],
)
def test_a_decoupler_that_cannot_draw_is_said_before_a_video_is_read(
    smile: Path, tmp_path: Path, chosen: Callable[[Path], dict[str, object]], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        prepare([smile], settings_for(tmp_path / "shards", **chosen(tmp_path)))
    assert not list((tmp_path / "shards").glob("*.tar"))


def test_the_command_counts_twins(smile: Path, tmp_path: Path) -> None:
    words = [str(smile), "-o", str(tmp_path / "shards"), "--consent", "me", "--licence", "MIT", "--frames", "24"]
    for name, path in ghost(tmp_path).items():
        words += [f"--{name.replace('_', '-')}", str(path)]
    done = CliRunner().invoke(prepare_command, words)
    assert done.exit_code == 0, done.output
    assert "; twins of 3 clips; see" in done.output
    assert "3 twins" in (tmp_path / "shards" / "report.html").read_text(encoding="utf-8")
