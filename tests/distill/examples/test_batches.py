"""Batches of kept examples: what they hold, their order over ranks, resumes and threads, and what ends them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.data import ResumeState
from distill.errors import BadShard, DataMissing
from distill.examples.batches import Batches, filled, shown
from distill.examples.settings import BatchSettings
from distill.examples.types import CONDITIONING, TENSORS, Shown
from engines import SettingError
from engines.face.region import fill_colour, masked_planes, planes
from tests.distill.examples.folders import FRAMES, numbered, write_folder

SMALL = {"frames": 3, "images_a_batch": 4, "videos_a_batch": 2, "memory_mb": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("examples") / "kept"
    write_folder(made)
    return made


def settings(folder: Path, **changes: object) -> BatchSettings:
    return BatchSettings.read({"folder": folder, **SMALL, **changes})


def of(batches: Batches, count: int, state: ResumeState | None = None) -> list[tuple[Shown, ResumeState]]:
    stream: Iterator[tuple[Shown, ResumeState]] = batches.batches(state)
    return list(islice(stream, count))


def whose(batch: Shown) -> list[tuple[int, list[int]]]:
    """The number in each row's pixels, and its frames."""
    pixels = torch.round((batch.masked_BT3SS[:, :, :, 0, 0] + 1) * 127.5).int()
    return [(int(row[0, 0]) * 256 + int(row[0, 1]), row[:, 2].tolist()) for row in pixels]


def assert_equal(one: list[tuple[Shown, ResumeState]], other: list[tuple[Shown, ResumeState]]) -> None:
    assert [state for _, state in one] == [state for _, state in other]
    for (here, _), (there, _) in zip(one, other, strict=True):
        assert (here.kind, here.numbers) == (there.kind, there.numbers)
        assert all(torch.equal(getattr(here, name), getattr(there, name)) for name in TENSORS)


def test_a_batch_is_what_the_live_engine_would_be_given() -> None:
    """The engine's own kernels on the same bytes; an identity that hides everything leaves the middle grey."""
    examples = [numbered(n, 2) for n in range(3)]
    examples[1].mask_TSS[:] = 255
    examples[2].mask_TSS[:] = 0
    batch = shown("video", examples, (5, 6, 7))
    for row, one in enumerate(examples):
        for t in range(2):
            mask = one.mask_TSS[t].astype(np.float32) / np.float32(255)
            live = masked_planes(one.target_TSS3[t], mask, fill_colour(one.target_TSS3[t], mask, "mean"))
            torch.testing.assert_close(batch.masked_BT3SS[row, t], torch.from_numpy(live[0]), atol=2e-6, rtol=0)
            proxy = torch.from_numpy(planes(one.proxy_TSS3[t])[0])
            torch.testing.assert_close(batch.proxy_BT3SS[row, t], proxy, atol=1e-6, rtol=0)
            np.testing.assert_array_equal(batch.mask_BT1SS[row, t, 0], mask)
    assert batch.masked_BT3SS.dtype == torch.float32
    assert batch.numbers == (5, 6, 7)


def test_nothing_of_the_face_is_left_where_the_mask_is_whole() -> None:
    """The driver's pixels there may be anything, but for the mean that they leave."""
    generator = torch.Generator().manual_seed(0)
    crop = torch.randint(0, 256, (1, 1, 3, 8, 8), generator=generator).float()
    mask = torch.zeros(1, 1, 1, 8, 8)
    mask[..., 2:6, 2:6] = 1
    other = crop.clone()
    other[..., 2:6, 2:6] = crop[..., 2:6, 2:6].flip(-1)
    torch.testing.assert_close(filled(crop, mask), filled(other, mask), atol=1e-4, rtol=0)


def test_kinds_alternate_and_clips_are_consecutive_frames(folder: Path) -> None:
    starts = Counter[int]()
    for step, (batch, state) in enumerate(of(Batches(settings(folder), workers=0), 40)):
        assert batch.kind == ("image", "video")[step % 2]
        assert state.step == step + 1
        for _, frames in whose(batch):
            assert frames == list(range(frames[0], frames[0] + (3 if batch.kind == "video" else 1)))
            starts[frames[0]] += batch.kind == "video"
    assert set(starts) == set(range(FRAMES - 3 + 1)), "clips begin anywhere, the last possible place included"


def test_every_example_comes_once_before_any_comes_again(folder: Path) -> None:
    seen = [
        number
        for batch, _ in of(Batches(settings(folder, rhythm=["image"]), workers=0), 15)
        for number, _ in whose(batch)
    ]
    assert sorted(seen[:30]) == sorted(seen[30:]) == list(range(30))
    assert seen[:30] != seen[30:] != list(range(30))


@pytest.mark.parametrize("memory_mb", [0, 100])
@pytest.mark.parametrize("rhythm", [["image", "video"], ["image", "video", "video"]])
def test_a_resumed_run_is_the_run(folder: Path, memory_mb: int, rhythm: list[str]) -> None:
    batches = Batches(settings(folder, memory_mb=memory_mb, rhythm=rhythm), workers=0)
    whole = of(batches, 9)
    for at in (1, 4, 5):
        state = ResumeState.from_json(whole[at - 1][1].to_json())
        assert_equal(of(batches, 9 - at, state), whole[at:])


def test_threads_and_memory_change_nothing(folder: Path) -> None:
    plain = of(Batches(settings(folder), workers=0), 8)
    for workers, ahead, memory_mb in ((1, 1, 0), (3, 4, 0), (2, 2, 100)):
        assert_equal(of(Batches(settings(folder, memory_mb=memory_mb), workers=workers, ahead=ahead), 8), plain)


def test_ranks_share_the_samples_of_a_step(folder: Path) -> None:
    """Two ranks with two samples each see what one with four sees."""
    half = {"images_a_batch": 2, "videos_a_batch": 1}
    alone = of(Batches(settings(folder), workers=0), 6)
    pair = [of(Batches(settings(folder, **half), rank, 2, workers=0), 6) for rank in (0, 1)]
    for step, (batch, state) in enumerate(alone):
        parts = [ranks[step][0] for ranks in pair]
        assert [row for part in parts for row in whose(part)] == whose(batch)
        assert sum((part.numbers for part in parts), ()) == batch.numbers
        assert pair[0][step][1].images == state.images


def test_a_resume_with_more_ranks_goes_on_with_the_next_samples(folder: Path) -> None:
    half = settings(folder, images_a_batch=2, videos_a_batch=1)
    alone = of(Batches(half, workers=0), 9)
    state = alone[4][1]
    assert state.images == 6, "three batches of two"
    pair = [of(Batches(half, rank, 2, workers=0), 4, state) for rank in (0, 1)]
    rows = [row for step in (1, 3) for rank in pair for row in whose(rank[step][0])]
    assert rows[:4] == [row for step in (6, 8) for row in whose(alone[step][0])]
    numbers = [number for ranks in (alone[:5], *pair) for batch, _ in ranks for number in batch.numbers]
    assert len(set(numbers)) == len(numbers)


def test_no_number_comes_twice(folder: Path) -> None:
    numbers = [number for batch, _ in of(Batches(settings(folder), workers=0), 40) for number in batch.numbers]
    assert len(set(numbers)) == len(numbers)


def test_held_out_examples_are_others(folder: Path) -> None:
    apart = of(Batches(settings(folder), workers=0, split="held_out"), 6)
    assert {number for batch, _ in apart for number, _ in whose(batch)} == {1000, 1001, 1002}


def test_folders_are_drawn_by_weight(folder: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "more", stills=300, clips=3)
    mixed = settings(folder, more_folders=[tmp_path / "more"], weights=[3.0, 1.0], rhythm=["image"])
    rows = [number for batch, _ in of(Batches(mixed, workers=0), 60) for number, _ in whose(batch)]
    assert rows.count(0) in (6, 7), "of 180 draws from the first folder's 30"
    assert len([one for one in rows if one >= 30]) > 40
    with pytest.raises(SettingError, match="1 weights for 2 folders"):
        of(Batches(settings(folder, more_folders=[tmp_path / "more"], weights=[1.0])), 1)


def test_another_folder_with_the_same_examples_goes_on(folder: Path, tmp_path: Path) -> None:
    """A folder may be moved; other examples, or other settings, are another run."""
    start = of(Batches(settings(folder), workers=0), 3)[-1][1]
    shutil.copytree(folder, tmp_path / "moved")
    of(Batches(settings(tmp_path / "moved", memory_mb=5), workers=0), 1, start)
    write_folder(tmp_path / "grown", stills=31)
    for other in (settings(tmp_path / "grown"), settings(folder, seed=1), settings(folder, frames=2)):
        with pytest.raises(SettingError, match="belongs to other examples or settings"):
            of(Batches(other, workers=0), 1, start)


def test_a_damaged_or_missing_file_ends_it_by_name(folder: Path, tmp_path: Path) -> None:
    """Also in mid-run, also out of a thread."""
    for workers in (0, 2):
        gone = tmp_path / f"gone{workers}"
        shutil.copytree(folder, gone)
        stream = Batches(settings(gone, rhythm=["video"]), workers=workers).batches()
        next(stream)
        (gone / "train-video-000001.tar").unlink()
        with pytest.raises(BadShard, match=r"train-video-000001\.tar: cannot be read"):
            list(islice(stream, 12))
    content = bytearray((folder / "train-image-000000.tar").read_bytes())
    content[3000] ^= 1
    shutil.copytree(folder, tmp_path / "bad")
    (tmp_path / "bad" / "train-image-000000.tar").write_bytes(content)
    with pytest.raises(BadShard, match=r"train-image-000000\.tar: example train-image-0000000\d cannot be read"):
        of(Batches(settings(tmp_path / "bad"), workers=0), 12)
    (tmp_path / "bad" / "train-image-000000.tar").write_bytes(content[:5000])
    with pytest.raises(BadShard, match=r"train-image-000000\.tar"):
        of(Batches(settings(tmp_path / "bad"), workers=0), 1)


def test_what_cannot_be_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no examples in it"):
        of(Batches(settings(tmp_path / "nothing")), 1)
    with pytest.raises(SettingError, match="clips of 6 frames; 7 are asked for"):
        of(Batches(settings(folder, frames=7)), 1)
    of(Batches(settings(folder, frames=7, rhythm=["image"]), workers=0), 1)
    write_folder(tmp_path / "stills", clips=0)
    with pytest.raises(SettingError, match="no train video examples"):
        of(Batches(settings(tmp_path / "stills")), 1)
    write_folder(tmp_path / "large", side=24)
    with pytest.raises(SettingError, match="differ in size_px"):
        of(Batches(settings(folder, more_folders=[tmp_path / "large"])), 1)


def test_examples_of_another_conditioning_are_refused(tmp_path: Path) -> None:
    record = write_folder(tmp_path / "old", stills=2, clips=2)
    record.settings["conditioning"] = CONDITIONING - 1
    record.write()
    with pytest.raises(SettingError, match="draw them anew"):
        of(Batches(settings(tmp_path / "old")), 1)


def test_a_folder_describes_itself(folder: Path) -> None:
    assert Batches(settings(folder)).describe() == (
        "30 stills and 9 clips of 6 frames (rendered people, who do not exist)"
    )
