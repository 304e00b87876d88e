"""What the loop trains on: batches without end, and how the first of them look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, get_args

from distill.data import ResumeState
from distill.examples.types import Kind, Shown

SOON = 4
KINDS = get_args(Kind)


class Data(Protocol):
    """Batches without end, each with the state that continues after it (distill.examples.batches)."""

    def batches(self, state: ResumeState | None = None) -> Iterator[tuple[Shown, ResumeState]]: ...


def first_batches(data: Data) -> list[Shown]:
    """The data's first batch of each kind that comes soon: kinds mostly alternate."""
    found: dict[str, Shown] = {}
    iterator = data.batches()
    try:
        for _ in range(SOON):
            shown, _ = next(iterator)
            found.setdefault(shown.kind, shown)
            if len(found) == len(KINDS):
                break
    finally:
        if hasattr(iterator, "close"):
            iterator.close()
    return list(found.values())
