"""Videos and folders of pictures, and swaps that another program left on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.errors import BadClip
from distill.evaluate.footage import (
    Beginning,
    Picture,
    PictureFolder,
    VideoFile,
    footage_at,
    in_order,
    number_of,
    videos_in,
)
from distill.evaluate.swaps import forth_and_back, on_disk, side_by_side


def pictures(folder: Path, names: list[str], side_px: int = 32, level: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((side_px, side_px, 3), level + i, np.uint8)).save(folder / name)
    return folder


def test_ten_comes_after_two(tmp_path: Path) -> None:
    names = ["f10.png", "f2.png", "f1.png"]
    folder = PictureFolder(pictures(tmp_path / "a", names))
    assert [path.name for path in folder.files] == ["f1.png", "f2.png", "f10.png"]
    assert [int(one.rgb_HW3[0, 0, 0]) for one in folder] == [2, 1, 0]
    assert [one.at_s for one in folder] == [0, 0.04, 0.08]
    assert number_of(Path("take_3_frame_0012.png")) == 12


def test_names_that_say_no_order_are_refused() -> None:
    with pytest.raises(BadClip, match="has no number"):
        in_order([Path("a1.png"), Path("b.png")])
    with pytest.raises(BadClip, match="same number"):
        in_order([Path("a1.png"), Path("b1.png")])
    assert in_order([Path("b.png"), Path("a.png")]) == [Path("a.png"), Path("b.png")]


def test_a_changed_picture_is_another_clip(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", ["1.png", "2.png"])
    before = PictureFolder(folder).sha256
    assert PictureFolder(folder).sha256 == before
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(folder / "2.png")
    assert PictureFolder(folder).sha256 != before


def test_a_damaged_picture_names_itself(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", ["1.png"])
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    with pytest.raises(BadClip, match=r"2\.png: cannot be read"):
        list(PictureFolder(folder))
    with pytest.raises(BadClip, match="no pictures"):
        PictureFolder(tmp_path)


def test_a_video_and_its_beginning(shared_data: Path) -> None:
    clip = VideoFile(shared_data / "clips" / "single_face.mp4")
    begun = Beginning(clip, 3)
    assert len(list(begun)) == 3
    assert begun.sha256 != clip.sha256
    assert videos_in((shared_data / "clips" / "asl",))[0].name == "asl_again.mkv"
    with pytest.raises(BadClip, match=r"none\.mp4"):
        footage_at(shared_data / "none.mp4")


def test_a_clip_goes_forth_and_back_without_a_cut(tmp_path: Path) -> None:
    folder = PictureFolder(pictures(tmp_path / "a", ["1.png", "2.png", "3.png"]))
    rolled = list(forth_and_back(folder, 0.24))
    assert [int(one.rgb_HW3[0, 0, 0]) for one in rolled] == [0, 1, 2, 1, 0, 1, 2]
    assert [one.at_s for one in rolled] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24])


@pytest.fixture
def swap_on_disk(tmp_path: Path) -> Path:
    place = tmp_path / "results" / "0001"
    pictures(place / "driver", ["1.png", "2.png"], level=10)
    pictures(place / "result", ["r_1.png", "r_2.png"], level=50)
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(place / "source.jpg")
    return place


def silent(line: str) -> None:
    assert line


def test_a_swap_on_disk_is_read_side_by_side(swap_on_disk: Path) -> None:
    (swap_on_disk / "identity.txt").write_text("Ada\n", encoding="utf-8")
    swaps, refused = on_disk(swap_on_disk.parent, silent)
    assert not refused
    assert [(one.name, one.identity) for one in swaps] == [("0001", "Ada")]
    frames = list(swaps[0].frames())
    assert [int(one.driver_HW3[0, 0, 0]) for one in frames] == [10, 11]
    assert [int(one.result_HW3[0, 0, 0]) for one in frames if one.result_HW3 is not None] == [50, 51]
    assert len(swaps[0].photos()) == 1
    assert swaps[0].rollout is None


def remove_source(place: Path) -> None:
    (place / "source.jpg").unlink()


def other_numbers(place: Path) -> None:
    (place / "result" / "r_2.png").rename(place / "result" / "r_7.png")


def no_result(place: Path) -> None:
    (place / "result").rename(place / "other")


def two_results(place: Path) -> None:
    (place / "result").rename(place / "other")
    (place / "result.mp4").write_bytes(b"")
    (place / "result.mkv").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (remove_source, "no source.jpg"),
        (other_numbers, "other frames: 2, 7"),
        (no_result, "no result/"),
        (two_results, "more than one result/"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_goes_on(
    swap_on_disk: Path, spoil: Callable[[Path], None], says: str
) -> None:
    good = swap_on_disk.parent / "0002"
    pictures(good / "driver", ["1.png"])
    pictures(good / "result", ["1.png"])
    pictures(good / "source", ["a.png"])
    spoil(swap_on_disk)
    said: list[str] = []
    swaps, refused = on_disk(swap_on_disk.parent, said.append)
    assert [one.name for one in swaps] == ["0002"]
    assert len(refused) == len(said) == 1
    assert says in refused[0]


def test_other_sizes_and_lengths_are_named(tmp_path: Path) -> None:
    two = PictureFolder(pictures(tmp_path / "two", ["1.png", "2.png"]))
    one = PictureFolder(pictures(tmp_path / "one", ["1.png"]))
    large = PictureFolder(pictures(tmp_path / "large", ["1.png", "2.png"], side_px=48))
    with pytest.raises(BadClip, match="driver has more frames than result, which has 1"):
        list(side_by_side("x", two, one, None))
    with pytest.raises(BadClip, match="result has more frames"):
        list(side_by_side("x", one, two, None))
    with pytest.raises(BadClip, match="result is 48x48, driver 32x32"):
        list(side_by_side("x", two, large, None))
    with pytest.raises(BadClip, match="than truth"):
        list(side_by_side("x", two, two, one))
    assert isinstance(next(iter(two)), Picture)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadClip, match="no such folder"):
        on_disk(tmp_path / "none", silent)
    with pytest.raises(BadClip, match="each is one swap"):
        on_disk(tmp_path, silent)
