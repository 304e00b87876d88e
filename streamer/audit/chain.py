"""Lines of the audit log as arithmetic: the next one, and whether all of them are as they were written.

A line is JSON in its one canonical form and holds the sha256 of the line before it, so that nothing can be changed,
moved, put in or taken out before the last line; it is signed, so that the rest cannot be written anew without the
key; and the head, signed beside the log, says how many there are, so that the last ones cannot be cut off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from engines import LocalKey, canonical, is_signed

Event = Literal[
    "log begun",
    "server started",
    "server ended",
    "session begun",
    "session ended",
    "identity enrolled",
    "identity renewed",
    "identity withdrawn",
    "identity worn",
    "identity taken off",
    "label off",
    "export",
]
Fact = str | int | float | bool | None
FACT_TYPES = (str, int, float, bool, type(None))
FIRST = "0" * 64  # what stands before the first line
PARTS = {"number", "at", "event", "facts", "previous", "signature"}
LINE_PURPOSE, HEAD_PURPOSE = "audit line", "audit head"
MOST_CHARACTERS = 500  # of one fact: words and numbers, never anything the size of a picture


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: lines, bytes, and the sha256 of the last line."""

    lines: int = 0
    size_bytes: int = 0
    sha256: str = FIRST

    def after(self, line: bytes) -> Head:
        """`line` with its line end."""
        return Head(self.lines + 1, self.size_bytes + len(line), hashlib.sha256(line).hexdigest())

    def signed(self, key: LocalKey) -> bytes:
        body = {"lines": self.lines, "size_bytes": self.size_bytes, "sha256": self.sha256}
        return canonical({**body, "signature": key.sign(HEAD_PURPOSE, canonical(body))})

    @classmethod
    def read(cls, data: bytes, public: str) -> Head:
        """Raises ValueError for one that this key did not sign."""
        values = json.loads(data)
        if not isinstance(values, dict) or set(values) != {"lines", "size_bytes", "sha256", "signature"}:
            raise ValueError("is no head of a log")
        signature = values.pop("signature")
        if not isinstance(signature, str) or not is_signed(public, HEAD_PURPOSE, canonical(values), signature):
            raise ValueError("was changed, or signed with another key")
        if data != canonical({**values, "signature": signature}):
            raise ValueError("was changed")
        return cls(**values)


class LineFault(ValueError):
    """A line that is not as it was written. `number` counts from 1."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number} {why}")
        self.number = number


def next_line(key: LocalKey, head: Head, at: str, event: Event, facts: Mapping[str, Fact]) -> bytes:
    """The line that follows the head, with its line end. Raises ValueError for facts that are no words or numbers."""
    for name, fact in facts.items():
        if type(fact) not in FACT_TYPES or len(str(fact)) > MOST_CHARACTERS:
            raise ValueError(f'fact "{name}": a number or at most {MOST_CHARACTERS} characters are needed')
    body = {"number": head.lines + 1, "at": at, "event": event, "facts": dict(facts), "previous": head.sha256}
    return canonical({**body, "signature": key.sign(LINE_PURPOSE, canonical(body))}) + b"\n"


def read_line(line: bytes, head: Head, public: str) -> dict[str, object]:
    """What the line that follows the head says. `line` with its line end. Raises LineFault."""
    number = head.lines + 1
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineFault(number, "cannot be read") from error
    if not isinstance(values, dict) or set(values) != PARTS or line != canonical(values) + b"\n":
        raise LineFault(number, "is not as it was written")
    if values["number"] != number or values["previous"] != head.sha256:
        raise LineFault(number, "does not follow the line before it")
    signature = values.pop("signature")
    if not isinstance(signature, str) or not is_signed(public, LINE_PURPOSE, canonical(values), signature):
        raise LineFault(number, "was not signed by this installation")
    return values


def read_all(lines: Iterable[bytes], public: str, head: Head) -> tuple[list[dict[str, object]], Head]:
    """All lines, each with its own sha256, and where they end.

    Raises LineFault at the first that is wrong, or where some were cut off.

    Lines after the head are those of a process that ended before it could move the head; they must be right as well.
    """
    said: list[dict[str, object]] = []
    here = Head()
    met = here == head
    for line in lines:
        values = read_line(line, here, public)
        here = here.after(line)
        said.append({**values, "sha256": here.sha256})
        met = met or here == head
    if not met:
        why = "is missing: the log was cut off" if here.lines < head.lines else "is not where the head says"
        raise LineFault(min(here.lines + 1, head.lines), why)
    return said, here
