"""What a check says: ok, warn or fail, one sentence, and the command that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # works, but not as well as it could, or not for everybody
    FAIL = "fail"  # something that people come for does not work


@dataclass(frozen=True, slots=True)
class Found:
    """One line of the report. Whatever is not ok carries a command."""

    verdict: Verdict
    says: str
    mend: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)  # for --json

    def __post_init__(self) -> None:
        if self.verdict is not Verdict.OK and not self.mend:
            raise ValueError(f"no command mends: {self.says}")

    def as_json(self) -> dict[str, Any]:
        """Values that JSON has."""
        return asdict(self)


def ok(says: str, **facts: object) -> Found:
    return Found(Verdict.OK, _one_line(says), "", facts)


def warn(says: str, mend: str, **facts: object) -> Found:
    return Found(Verdict.WARN, _one_line(says), mend, facts)


def fail(says: str, mend: str, **facts: object) -> Found:
    return Found(Verdict.FAIL, _one_line(says), mend, facts)


def from_json(values: Mapping[str, Any]) -> Found:
    """Raises ValueError, KeyError or TypeError for what no check has said."""
    return Found(Verdict(values["verdict"]), str(values["says"]), str(values["mend"]), dict(values["facts"]))


def quoted(*words: object) -> str:
    """A command of these words, for a shell."""
    return shlex.join(map(str, words))


def _one_line(text: str) -> str:
    return " ".join(text.split())
