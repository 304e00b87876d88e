"""What tests of the extension share."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.streamer.extension.meetings import Meet, meeting
from tests.streamer.faces import RawFace


@pytest.fixture
def meet(chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path) -> Meet:
    """Opens a call: `async with meet("meet") as call`, or another of the pages."""
    return partial(meeting, chromium, camera_clip, raw_face, tmp_path)
