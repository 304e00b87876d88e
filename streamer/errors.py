"""Errors of the server that a person may see, below `engines.VividError`."""

from __future__ import annotations

from engines import VividError


class CannotListen(VividError):
    """The address or port cannot be used."""


class EncoderUnavailable(VividError):
    """The encoder that was asked for by name does not work here."""


class ServerBusy(VividError):
    """As many calls as the server may hold are going on."""


class WorkerBusy(VividError):
    """Too much is waiting for the worker: an engine is stuck, or the server is overrun or ending."""


class AuditFault(VividError):
    """The audit log cannot be written, or is not as it was written; what would have to be logged is not done."""


class SinkError(VividError):
    """A virtual camera that cannot be opened or written to; the message says what mends it."""
