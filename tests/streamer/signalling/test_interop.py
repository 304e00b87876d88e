"""Real clients in the nightly run; what each of them has to do is in benchmarks/interop."""

from __future__ import annotations

import pytest

from benchmarks.interop.__main__ import CLIENTS, tried
from benchmarks.interop.common import Missing


@pytest.mark.long
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_real_client(name: str) -> None:
    try:
        results = await tried(name)
    except Missing as missing:
        pytest.skip(f"{missing} is not installed")
    assert results
    assert [result for result in results if not result.works] == []
