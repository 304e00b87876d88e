"""Videos to measure on: a file, or a folder of pictures. Read once, from front to back, a frame at a time."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from distill.errors import BadClip
from distill.evaluate.by_file import sha256_of
from engines import EngineUnavailable, Rgb

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".gif", ".m4v"})
FOLDER_FPS = 25.0  # of pictures, which carry no time


@dataclass(frozen=True, slots=True)
class Picture:
    """uint8 [H, W, 3], and when it was taken: seconds from the first."""

    rgb_HW3: Rgb
    at_s: float


class Footage(Protocol):
    """name, and sha256 over all that is in it."""

    name: str
    sha256: str

    def __iter__(self) -> Iterator[Picture]: ...


class VideoFile:
    """A video. Raises BadClip where it cannot be read, also later while it is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        self.sha256 = _hash(path)

    def __iter__(self) -> Iterator[Picture]:
        from distill.prepare.video import VideoReader

        reader = VideoReader(self.path)
        for picture in reader:
            yield Picture(picture.rgb_HW3, picture.at_s)
        if reader.left_out is not None:
            raise BadClip(f"{self.path}: {reader.left_out}")


class PictureFolder:
    """Pictures in the order of the last number in their names (2 before 10). All of one size."""

    def __init__(self, folder: Path, fps: float = FOLDER_FPS) -> None:
        self.folder, self.name, self.fps = folder, folder.name, fps
        self.files = in_order([path for path in folder.iterdir() if path.suffix.lower() in PICTURES])
        if not self.files:
            raise BadClip(f"{folder}: no pictures in it")
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(_hash(path).encode())
        self.sha256 = digest.hexdigest()

    @property
    def numbers(self) -> list[int | None]:
        return [number_of(path) for path in self.files]

    def __iter__(self) -> Iterator[Picture]:
        for i, path in enumerate(self.files):
            yield Picture(read_picture(path), i / self.fps)


class Beginning:
    """The first frames of a video."""

    def __init__(self, whole: Footage, frames: int) -> None:
        self.name, self.sha256 = whole.name, f"{whole.sha256} to frame {frames}"
        self._whole, self._frames = whole, frames

    def __iter__(self) -> Iterator[Picture]:
        return itertools.islice(iter(self._whole), self._frames)


def in_order(files: list[Path]) -> list[Path]:
    """By the last number in the name, then by name. Raises BadClip where only some names have one, or two the same."""
    numbers = [number_of(path) for path in files]
    if all(number is None for number in numbers):
        return sorted(files)
    for path, number in zip(files, numbers):
        if number is None:
            raise BadClip(f"{path}: has no number in its name, others in its folder have")
    seen: dict[int | None, Path] = {}
    for path, number in zip(files, numbers):
        if number in seen:
            raise BadClip(f"{path}: has the same number in its name as {seen[number].name}")
        seen[number] = path
    return [seen[number] for number in sorted(seen, key=lambda one: -1 if one is None else one)]


def number_of(path: Path) -> int | None:
    """The last number in a file's name: frame_0012.png is 12."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def read_picture(path: Path) -> Rgb:
    """uint8 [H, W, 3], turned the way it was held. Raises BadClip where it is no picture, or damaged."""
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadClip(f"{path}: cannot be read as a picture: {error}") from error


def footage_at(path: Path) -> Footage:
    """A folder of pictures, or a video. Raises BadClip."""
    return PictureFolder(path) if path.is_dir() else VideoFile(path)


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except EngineUnavailable as error:
        raise BadClip(str(error)) from error


def videos_in(paths: tuple[Path, ...]) -> list[Path]:
    """Files as they are, folders replaced by the videos in them, in order of their names."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(one for one in path.rglob("*") if one.suffix.lower() in VIDEOS and one.is_file())
        else:
            found.append(path)
    return found
