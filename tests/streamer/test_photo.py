"""Photo files: upright, and one line for everything that is no photo."""

from __future__ import annotations

import hashlib
import struct
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


def p3() -> bytes:
    """A profile as phones write: sRGB's curve, wider primaries. Made by hand, as ICC.1:2022 has it."""

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))

    curve = b"para\0\0\0\0\0\3\0\0" + struct.pack(
        ">5i", *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    )
    words = "Display P3".encode("utf-16-be")
    said = b"mluc\0\0\0\0" + struct.pack(">2I2s2s2I", 1, 12, b"en", b"US", len(words), 28) + words
    tags = {
        b"desc": said, b"cprt": said, b"wtpt": xyz(0.9642, 1.0, 0.8249), b"rXYZ": xyz(0.5151, 0.2412, -0.0011),
        b"gXYZ": xyz(0.2920, 0.6922, 0.0419), b"bXYZ": xyz(0.1571, 0.0666, 0.7841),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">2I", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", 132 + 12 * len(tags) - 4 + len(body), b"", 0x04300000, b"mntr", b"RGB ",
                       b"XYZ ", bytes(12), b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)  # fmt: skip
    head = struct.pack(">I", len(head.ljust(128, b"\0")) + len(table) + len(body)) + head[4:].ljust(124, b"\0")
    return head + table + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_phone_s_wide_colours_become_srgb(tmp_path: Path, mode: str) -> None:
    """A skin of (200, 150, 120) in Display P3 is stronger in sRGB; a grey is the same in both."""
    path = tmp_path / "a.png"
    pixels = np.array([[[200, 150, 120], [128, 128, 128]]], np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, icc_profile=p3())
    skin, grey = read_photo(path).rgb_HW3[0].astype(int)
    assert np.abs(skin - [209, 147, 115]).max() <= 1
    assert np.abs(grey - 128).max() <= 1


def test_a_profile_that_is_none_is_said_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(TOP_LEFT_RED).save(path, icc_profile=b"no profile")
    assert np.array_equal(read_photo(path).rgb_HW3, TOP_LEFT_RED)
    assert f"{path}: its colour profile cannot be used" in caplog.text


def test_what_an_iphone_writes_is_called_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(UnsuitablePhoto, match="HEIC cannot be read here"):
        read_photo(path)


def test_a_photo_without_colours_is_known(tmp_path: Path) -> None:
    face = Path(__file__).parents[2] / "docs" / "personas" / "amara" / "front.jpg"
    assert not read_photo(face).is_grey
    with Image.open(face) as image:
        image.convert("L").save(tmp_path / "grey.jpg")
    assert read_photo(tmp_path / "grey.jpg").is_grey
