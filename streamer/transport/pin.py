"""Which versions this layer was written for, and the one call that makes all its changes.

aiortc and aioice offer no hook for most of what is changed here, so private names are used and replaced. Every name is
looked for first: where one is gone, or the version is another, nothing starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import CodeType
from typing import Any

import aioice.ice
import aiortc.rtcpeerconnection
from aioice.ice import Connection, StunProtocol
from aiortc.rtcrtpreceiver import RTCRtpReceiver

from engines import VividError
from streamer.transport import receiver, source_filter

VERSIONS = {"aiortc": "1.16.0", "aioice": "0.13.0"}

# (class, attribute that its methods use): what is read or set here although it is private there.
ATTRIBUTES: tuple[tuple[type, str], ...] = (
    *((RTCRtpReceiver, f"_RTCRtpReceiver__{name}") for name in receiver.PRIVATE),
    (RTCRtpReceiver, "_track"),
    (RTCRtpReceiver, "_enabled"),
    (Connection, "_check_list"),
    (Connection, "_nominated"),
    (Connection, "_protocols"),
    (Connection, "_early_checks"),
    (StunProtocol, "receiver"),
)
# (class, method): what is overridden or called although it is private.
METHODS: tuple[tuple[type, str], ...] = (
    (RTCRtpReceiver, "_handle_rtp_packet"),
    (RTCRtpReceiver, "_handle_rtcp_packet"),
    (RTCRtpReceiver, "_handle_disconnect"),
    (RTCRtpReceiver, "_run_rtcp"),
    (StunProtocol, "datagram_received"),
    (StunProtocol, "request"),
)


class WrongVersion(VividError):
    """aiortc or aioice is not the one that this layer was written for."""


class Changes:
    """What was replaced, so that it can be put back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, object]] = []

    def replace(self, owner: object, name: str, value: object) -> None:
        """Sets a name of a module or a class. Raises WrongVersion where there is no such name."""
        if not hasattr(owner, name):
            where = getattr(owner, "__name__", repr(owner))
            raise WrongVersion(f"{where} has no {name} any more; streamer/transport must change with it")
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Puts everything back, the latest first."""
        while self._before:
            owner, name, value = self._before.pop()
            setattr(owner, name, value)


def check() -> None:
    """Raises WrongVersion, in one line, for versions or names that this layer does not know."""
    for package, wanted in VERSIONS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise WrongVersion(f"{package} {wanted} is needed, not {found}: pip install {package}=={wanted}")
    for owner, name in METHODS:
        if not callable(getattr(owner, name, None)):
            raise WrongVersion(f"{owner.__name__} has no {name} any more; streamer/transport must change with it")
    for owner, name in ATTRIBUTES:
        if name not in _names_used(owner):
            raise WrongVersion(f"{owner.__name__} uses no {name} any more; streamer/transport must change with it")


def install(changes: Changes | None = None) -> Changes:
    """Checks, then makes every change to aiortc and aioice, for this process. Twice does no harm.

    Returns what was changed, for tests that put it back.
    """
    check()
    changes = changes or Changes()
    if aioice.ice.StunProtocol is not source_filter.FilteredStunProtocol:
        changes.replace(aioice.ice, "StunProtocol", source_filter.FilteredStunProtocol)
    changes.replace(aiortc.rtcpeerconnection, "RTCRtpReceiver", receiver.make_receiver)
    return changes


@contextmanager
def installed() -> Iterator[Changes]:
    """All changes, within a `with`."""
    changes = install()
    try:
        yield changes
    finally:
        changes.undo()


def _names_used(owner: type) -> set[str]:
    """Every attribute name in the code of a class's own methods."""
    names: set[str] = set()
    for value in vars(owner).values():
        for function in (value, getattr(value, "fget", None), getattr(value, "__func__", None)):
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType):
                names |= _names_in(code)
    return names


def _names_in(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*(_names_in(part) for part in inner))
