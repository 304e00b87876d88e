"""The clip that cameras of browsers show in tests, and how its face is known again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # imported where they are used: most tests here need neither a browser nor the tracker
    from tests.streamer.faces import RawFace


@pytest.fixture(scope="session")
def camera_clip(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Chromium's fake camera takes it."""
    from benchmarks.interop.extended import write_y4m

    y4m = tmp_path_factory.mktemp("camera") / "camera.y4m"
    write_y4m(shared_data / "clips" / "single_face.mp4", y4m)
    return y4m


@pytest.fixture(scope="session")
def raw_face(shared_data: Path) -> RawFace:
    from tests.streamer.faces import RawFace, clip_pictures, face_box

    pictures = clip_pictures(shared_data / "clips" / "single_face.mp4")
    return RawFace.of(pictures, face_box(pictures))
