"""Moved to streamer.guards.access; goes when nothing imports it from here."""

from __future__ import annotations

from streamer.guards.access import COOKIE, Claim, refusal

__all__ = ["COOKIE", "Claim", "refusal"]
