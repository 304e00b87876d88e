"""Tests of the layer over aiortc begin with aiortc as it is, whatever a server changed in this process before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamer.transport import pin


@pytest.fixture(autouse=True)
def nothing_changed_before() -> Iterator[None]:
    """What a test puts in place of a name would else be undone together with an earlier server's changes."""
    pin.uninstall()
    yield
    pin.uninstall()
