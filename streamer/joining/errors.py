"""Why a room was not entered, or not entered again."""

from __future__ import annotations

from engines import VividError


class CannotJoin(VividError):
    """The room says no: no such room, full, a wrong pin or token. One sentence with a remedy."""


class Unreachable(CannotJoin):
    """Nobody answers, or not as expected. Who has been inside tries again."""
