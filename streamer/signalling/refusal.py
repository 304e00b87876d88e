"""A request that is refused with a certain HTTP status."""

from __future__ import annotations

from collections.abc import Mapping

from engines import VividError


class Refusal(VividError):
    """Refused, in one sentence, with this status and these headers."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})


def not_live(stream: str, retry_after_s: int) -> Refusal:
    """Nobody sends this stream (now)."""
    return Refusal(409, f'nobody is sending the stream "{stream}"', {"Retry-After": str(retry_after_s)})


def taken(stream: str, retry_after_s: int) -> Refusal:
    """Somebody else sends this stream."""
    return Refusal(409, f'the stream "{stream}" is being sent already', {"Retry-After": str(retry_after_s)})
