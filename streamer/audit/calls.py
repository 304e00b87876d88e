"""What the audit log is told of a server's calls: which identity by whose consent, how long. No pictures, no addresses.

A call has the server's own number: its address is a secret that whoever reads the log could use.
"""

from __future__ import annotations

import asyncio

from engines import Identity, SwapSettings
from streamer.audit.chain import Fact
from streamer.audit.log import record


async def begun(number: int, engine: str, settings: SwapSettings, identity: Identity | None) -> None:
    """Before anything is drawn. Raises AuditFault: what cannot be recorded is not begun."""
    facts: dict[str, Fact] = {"call": number, "engine": engine, "label": settings.label, **_worn(identity)}
    await asyncio.to_thread(record, "session begun", **facts)
    if not settings.label:
        await asyncio.to_thread(record, "label off", call=number, reason=settings.label_off_reason)


async def worn(number: int, identity: Identity) -> None:
    """Another identity in the middle of a call, before it is seen. Raises AuditFault."""
    await asyncio.to_thread(record, "identity worn", call=number, **_worn(identity))


async def ended(number: int, why: str, seconds: float, drawn: int) -> None:
    """Raises AuditFault."""
    await asyncio.to_thread(
        record, "session ended", call=number, why=why[:200], seconds=round(seconds, 1), frames_drawn=drawn
    )


def _worn(identity: Identity | None) -> dict[str, Fact]:
    if identity is None:
        return {"identity": None}
    return {"identity": identity.name, "consent_sha256": identity.manifest.consent_sha256}
