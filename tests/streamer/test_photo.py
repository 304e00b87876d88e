"""Photo files: upright, and one line for everything that is no photo."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines import UnsuitablePhoto
from streamer.photo import read_photo

TOP_LEFT_RED = np.zeros((4, 6, 3), np.uint8)
TOP_LEFT_RED[0, 0] = (255, 0, 0)


def test_a_photo_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(TOP_LEFT_RED).save(path)
    photo = read_photo(path)
    assert np.array_equal(photo.rgb_HW3, TOP_LEFT_RED)
    assert photo.rgb_HW3.flags.writeable
    assert photo.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn: the top left corner belongs to the top right
    path = tmp_path / "a.png"
    Image.fromarray(TOP_LEFT_RED).save(path, exif=exif)
    upright = read_photo(path).rgb_HW3
    assert upright.shape == (6, 4, 3)
    assert tuple(upright[0, -1]) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(TOP_LEFT_RED).convert(mode).save(path)
    assert read_photo(path).rgb_HW3.shape == (4, 6, 3)


def test_sixteen_bits_keep_their_greys(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(path)
    assert read_photo(path).rgb_HW3[0, :, 0].tolist() == [0, 100, 255]


def test_what_is_transparent_stays_hidden(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[[255, 0, 0, 0], [255, 0, 0, 255]]], np.uint8)).save(path)
    assert read_photo(path).rgb_HW3.tolist() == [[[127, 127, 127], [255, 0, 0]]]


def test_a_real_photo_is_read(shared_data: Path) -> None:
    photo = read_photo(shared_data / "photos" / "single_face.jpg").rgb_HW3
    assert photo.ndim == 3
    assert photo.std() > 20


def broken_files(tmp_path: Path) -> dict[str, Path]:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    data = whole.read_bytes()
    contents = {
        "empty": b"",
        "text": b"this is no picture",
        "cut off": data[: len(data) // 2],
        "damaged": data[:60] + bytes(40) + data[100:],
    }
    paths = {name: tmp_path / f"{name}.png" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return {**paths, "missing": tmp_path / "nowhere.png", "a folder": tmp_path}


@pytest.mark.parametrize("name", ["empty", "text", "cut off", "damaged", "missing", "a folder"])
def test_what_is_no_photo_is_one_line(tmp_path: Path, name: str) -> None:
    path = broken_files(tmp_path)[name]
    with pytest.raises(UnsuitablePhoto) as caught:
        read_photo(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_picture_with_too_many_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(path)
    with pytest.raises(UnsuitablePhoto, match="more pixels"):
        read_photo(path)
