"""A session with a real person before the camera, and somebody's face to wear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from engines import (
    Box,
    Identity,
    Rgb,
    Session,
    SwapSettings,
    load,
)
from tests.engines.face.heads import DARK_SKIN, identity
from tests.engines.face.scenes import clip
from tests.engines.raw_face import find_face


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> tuple[Rgb, ...]:
    return tuple(np.ascontiguousarray(frame) for frame in clip(shared_data / "clips" / "single_face.mp4", 12))


@pytest.fixture(scope="module")
def box(frames: Sequence[Rgb]) -> Box:
    return find_face(frames[0])


@pytest.fixture(scope="module")
def worn() -> Identity:
    return identity(DARK_SKIN)


@pytest.fixture(scope="module")
def shared(worn: Identity) -> Iterator[Session]:
    """Holds no memory of a call, so that many tests may step it, each with its own state."""
    session = load(SwapSettings(engine="proxy"), worn)
    yield session
    session.close()


@pytest.fixture
def session(shared: Session, worn: Identity) -> Iterator[Session]:
    kept = shared.settings
    yield shared
    shared.settings = kept
    shared.set_identity(worn)
