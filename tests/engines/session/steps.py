"""Stepping a session over pictures, and telling its tracker what to see."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engines import (
    Rgb,
    Session,
    SessionState,
    Status,
    StepResult,
    Tracking,
)

FRAME_S = 1 / 30

NOBODY = Tracking((), (), 0)


def run(session: Session, state: SessionState, frames: Sequence[Rgb], since_s: float = 0.0) -> list[StepResult]:
    return [session.step(state, frame, since_s + number * FRAME_S) for number, frame in enumerate(frames)]


def statuses(results: Sequence[StepResult]) -> list[Status]:
    return [result.status for result in results]


def seen_by_tracker(session: Session, monkeypatch: pytest.MonkeyPatch, tracking: Tracking) -> None:
    """From now on the tracker says this, whatever the camera shows."""
    monkeypatch.setattr(session._tracker, "begin", lambda *_: tracking)
    monkeypatch.setattr(session._tracker, "finish", lambda *_: tracking)
