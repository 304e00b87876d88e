"""What a page may say to the server over the data channel: short, rarely, and in these forms only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationError

from engines import StrictModel
from streamer.guards.limits import Bucket

MOST_BYTES = 1_000
MESSAGES_PER_S, MESSAGES_AT_ONCE = 10.0, 20.0


class Ping(StrictModel):
    """The page asks for this machine's clock."""

    ping_ms: float = Field(ge=0, le=1e15, allow_inf_nan=False, description="the page's clock, sent back as it is")


MESSAGES: tuple[type[StrictModel], ...] = (Ping,)


class MessageGate:
    """One channel's messages, checked. Each form is known by the name of its first field."""

    def __init__(self, now_s: float, forms: Sequence[type[StrictModel]] = MESSAGES) -> None:
        self.refused: dict[str, int] = {"rate": 0, "size": 0, "form": 0}
        self._forms = {next(iter(form.model_fields)): form for form in forms}
        self._bucket = Bucket.full(MESSAGES_PER_S, MESSAGES_AT_ONCE, now_s)

    def take(self, message: object, now_s: float) -> StrictModel | None:
        """The message in its form, or None (and a count) where it is too much, too long or in no form."""
        if self._bucket.take(now_s) > 0:
            self.refused["rate"] += 1
            return None
        if not isinstance(message, str) or len(message) > MOST_BYTES:
            self.refused["size" if isinstance(message, str | bytes) and len(message) > MOST_BYTES else "form"] += 1
            return None
        found = self._read(message)
        if found is None:
            self.refused["form"] += 1
        return found

    def _read(self, message: str) -> StrictModel | None:
        try:
            said = json.loads(message)
            form = self._forms[next(key for key in said if key in self._forms)] if isinstance(said, dict) else None
            return None if form is None else form.model_validate(said)
        except (ValueError, RecursionError, StopIteration, ValidationError, OverflowError):
            return None


def json_schema(forms: Sequence[type[StrictModel]] = MESSAGES) -> dict[str, Any]:
    """JSON Schema (2020-12) of what a page may send: docs/messages.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Messages of the page on the data channel `numbers`",
        "oneOf": [form.model_json_schema() for form in forms],
    }
