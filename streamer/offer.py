"""Moved to streamer.guards.sdp; goes when nothing imports it from here."""

from __future__ import annotations

from streamer.guards.sdp import MOST_BYTES as MOST_OFFER_CHARS
from streamer.guards.sdp import MOST_CANDIDATES, check_offer

__all__ = ["MOST_CANDIDATES", "MOST_OFFER_CHARS", "check_offer"]
