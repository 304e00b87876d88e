"""What is asked of an engine, line by line, held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = ("", "found", "wanted", "holds")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is wanted, and what was found; NaN where nothing was, which never holds."""

    what: str
    found: float
    wanted: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted

    def row(self) -> tuple[object, ...]:
        """In the order of HEAD."""
        sign = "<=" if self.at_most else ">="
        return self.what, self.found, f"{sign} {self.wanted:g}", "yes" if self.holds else "no"
