"""What a detector of marks may say."""

from __future__ import annotations

from datetime import date

from engines import Finding, Payload

FOUND = Finding(
    marked=True,
    confidence=1.0,
    false_positive_log10=-40.0,
    payload=Payload.of(0x0A1B2C, date(2026, 11, 23)),
    frames=48,
    bit_errors=0.02,
    scale=1.0,
    mirrored=False,
    why="found",
)
NOTHING = Finding(
    marked=False,
    confidence=0.1,
    false_positive_log10=-0.1,
    payload=None,
    frames=48,
    bit_errors=None,
    scale=1.0,
    mirrored=False,
    why="no mark was found",
)
