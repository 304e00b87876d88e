"""Each change of streamer.transport.hardening that can be seen from outside fails where it is left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.stock import ATTACKS

ROOT = Path(__file__).parents[2]


def outcome(kind: str, attack: str) -> str:
    command = [sys.executable, "-m", "tests.attacks.stock", kind, attack]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout.strip() or f"ended with {ended.returncode}"


@pytest.mark.long
@pytest.mark.parametrize("attack", list(ATTACKS))
def test_stock_dies_and_hardened_lives(attack: str) -> None:
    assert outcome("hardened", attack) == "lives"
    assert outcome("stock", attack) != "lives"
