"""A folder of examples: whole or not at all, gone on with after any end, the same whoever draws it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from distill.errors import BadShard, NotWritten, RunBusy
from distill.examples.batches import Batches
from distill.examples.cache import A_SHARD, LOCK, RECORD_NAME, Record, make_examples
from distill.examples.command import progress_text, summary
from distill.examples.settings import BatchSettings, ExampleSettings
from engines import SettingError
from engines.build.lock import locked
from tests.distill.examples.drawn import MEANS, asked
from tests.distill.examples.folders import SIDE

ROOT = Path(__file__).parents[3]
SHARDS = 3 + 4 + 1 + 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made in one go."""
    folder = tmp_path_factory.mktemp("whole") / "kept"
    make_examples(asked(folder), means=MEANS)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def test_the_folder_holds_what_was_not_refused_and_counts_the_rest(whole: Path) -> None:
    record = Record.read(whole)
    assert record.count("train", "image") == 48
    assert record.count("train", "video") == 11, "of 14, numbers 3, 8 and 13 are refused"
    assert record.count("held_out", "image") == 8
    assert record.refused() == {"every fifth": 12 + 3 + 2}
    assert summary(record).splitlines() == [
        f"48 stills and 11 clips, and 8 and 3 of people kept apart, in {whole}",
        "left out 17: every fifth (17)",
    ]
    for split in ("train", "held_out"):
        drawn = Batches(BatchSettings(folder=whole, frames=2), workers=0, split=split).batches()
        assert [batch.truth_BT3SS.shape[-1] for batch, _ in islice(drawn, 2)] == [SIDE, SIDE]


def test_processes_change_nothing(whole: Path, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    settings = asked(tmp_path / "kept", workers=2)
    make_examples(settings, lambda done, total, _: progress.append((done, total)), MEANS)
    assert contents(tmp_path / "kept") == contents(whole)
    assert progress[-1] == (87, 87)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert len(progress) == SHARDS


KILLED = """
import os, signal, sys
from pathlib import Path
from distill.examples import cache
from tests.distill.examples.drawn import MEANS, asked

def die(done, total, record):
    if len(record.shards) == 4:
        real = cache.written_whole
        def dies(path):  # in the middle of the fifth shard
            (path.with_name("." + path.name + ".part")).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        import distill.shards
        distill.shards.written_whole = dies

cache.make_examples(asked(Path(sys.argv[1])), die, MEANS)
"""


def test_a_killed_run_goes_on(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(contents(folder)) == 4
    ready = {path: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    make_examples(asked(folder), means=MEANS)
    assert contents(folder) == contents(whole)
    assert all(path.stat().st_mtime_ns == then for path, then in ready.items()), "what was done is not done again"


def test_a_full_disk_is_named_and_leaves_what_is_whole(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full at every place there is: in a shard, and in the record after it."""
    sync, left = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    for calls in (1, 8, 9):
        folder, left = tmp_path / f"kept{calls}", calls
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(NotWritten, match=f"{folder}.*No space left on device"):
                make_examples(asked(folder), means=MEANS)
        assert {path.name for path in folder.iterdir()} <= {RECORD_NAME, LOCK, *contents(whole)}, "nothing half written"
        assert all(content == contents(whole)[name] for name, content in contents(folder).items())
        make_examples(asked(folder), means=MEANS)
        assert contents(folder) == contents(whole)


def test_more_may_be_asked_for_and_what_is_lost_is_made_again(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    make_examples(asked(folder, stills=50, clips=0, held_out_stills=0, held_out_clips=0), means=MEANS)
    assert Record.read(folder).count("train", "image") == 40
    make_examples(asked(folder), means=MEANS)
    assert contents(folder) == contents(whole)
    (folder / "train-image-000001.tar").unlink()
    (folder / "train-video-000000.tar").write_bytes(b"cut")
    done: list[int] = []
    make_examples(asked(folder), lambda samples, *_: done.append(samples), MEANS)
    assert contents(folder) == contents(whole)
    assert done[-1] == A_SHARD["image"] + A_SHARD["video"]


def test_other_settings_in_the_same_folder_are_refused_by_name(whole: Path) -> None:
    before = contents(whole)
    for change, named in (({"frames": 4}, "frames"), ({"seed": 2}, "seed"), ({"size_px": 128}, "size_px")):
        with pytest.raises(SettingError, match=f"holds examples made with another {named} "):
            make_examples(asked(whole, **change), means=MEANS)
    assert contents(whole) == before


def test_two_runs_do_not_fill_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with (
        locked(folder, "drawing examples", lambda _: None, name=LOCK),
        pytest.raises(RunBusy, match="in use by"),
    ):
        make_examples(asked(folder), means=MEANS)


def test_a_file_in_the_folders_place_and_a_foreign_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritten, match="examples need a folder"):
        make_examples(asked(tmp_path / "file"), means=MEANS)
    folder = tmp_path / "folder"
    folder.mkdir()
    for content in ("nothing", "{}", json.dumps({"format": "vividstream-examples-9"})):
        (folder / RECORD_NAME).write_text(content)
        with pytest.raises(BadShard, match=RECORD_NAME):
            make_examples(asked(folder), means=MEANS)


def test_nothing_to_draw_from_is_said(tmp_path: Path) -> None:
    settings = ExampleSettings(folder=tmp_path / "kept", rendered=0, moved=0)
    with pytest.raises(SettingError, match="no source of train examples"):
        make_examples(settings)


def test_progress_tells_what_is_left() -> None:
    assert progress_text(96, 1100, 7, 60.0) == (
        "[##......................] 96/1100 samples, 7 of all left out, about 10 min left"
    )
    assert progress_text(0, 0, 0, 0.0).endswith("about 0 s left")
