"""Which versions this layer was written for, and the one call that makes all its changes.

aiortc and aioice offer no hook for most of what is changed here, so private names are used and replaced. Every name is
looked for first: where one is gone, or the version is another, nothing starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import CodeType

import aioice.ice
import aiortc.rtcpeerconnection
from aioice.ice import Connection, StunProtocol
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender

from streamer.encoding.settings import EncodingSettings
from streamer.guards.addresses import AddressPolicy
from streamer.transport import ciphers, extensions, feedback, hardening, ice_restart, incoming, ports, sender, sound
from streamer.transport.changes import Changes, WrongVersion
from streamer.transport.receiver import make_receiver
from streamer.transport.source_filter import FilteredStunProtocol

VERSIONS = {"aiortc": "1.16.0", "aioice": "0.13.0"}
LOOPBACK = "127.0.0.1"

# (class, attribute that its methods use): what is read or set here although it is private there.
ATTRIBUTES: tuple[tuple[type, str], ...] = (
    *((RTCRtpReceiver, f"_RTCRtpReceiver__{name}") for name in incoming.PRIVATE),
    *((RTCRtpSender, f"_RTCRtpSender__{name}") for name in sender.PRIVATE),
    (RTCRtpReceiver, "_track"),
    (RTCRtpReceiver, "_enabled"),
    (Connection, "_check_list"),
    (Connection, "_nominated"),
    (Connection, "_protocols"),
    (Connection, "_early_checks"),
    (StunProtocol, "receiver"),
    (RTCIceTransport, ice_restart.MONITOR),
    (RTCIceTransport, "_connection"),
    (RTCIceTransport, "_recv"),
    (RTCIceTransport, "_send"),
    (RTCIceGatherer, "_remote_candidates_end"),
    (Connection, "_queue"),
)
# (class, method): what is overridden or called although it is private.
METHODS: tuple[tuple[type, str], ...] = (
    (RTCRtpReceiver, "_handle_rtp_packet"),
    (RTCRtpReceiver, "_handle_rtcp_packet"),
    (RTCRtpReceiver, "_handle_disconnect"),
    (RTCRtpReceiver, "_run_rtcp"),
    (RTCRtpSender, "_run_rtp"),
    (RTCRtpSender, "_run_rtcp"),
    (RTCRtpSender, "_handle_rtcp_packet"),
    (RTCRtpSender, "_send_rtcp"),
    (StunProtocol, "datagram_received"),
    (StunProtocol, "request"),
    *hardening.PATCHED,
)
_made: list[Changes] = []  # of the last `install`: what it changes belongs to the process as well


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


def install(
    policy: AddressPolicy | None = None,
    encoding: EncodingSettings | None = None,
    loopback: bool = False,
    udp_ports: tuple[int, int] | None = None,
) -> None:
    """Checks, then makes every change to aiortc and aioice, for this process. What was made before is replaced.

    policy    which addresses calls may come from (see streamer/guards/addresses.py)
    encoding  how outgoing pictures are coded
    loopback  the server is reached from this machine, so calls may come over 127.0.0.1
    udp_ports first and last port that calls may use; None: any
    """
    uninstall()
    check()
    changes = Changes()
    _made.append(changes)
    try:
        changes.replace(aioice.ice, "StunProtocol", FilteredStunProtocol)
        changes.replace(aiortc.rtcpeerconnection, "RTCRtpReceiver", make_receiver)
        for piece in (feedback, extensions, sound, ciphers):
            piece.install(changes)
        sender.install(changes, encoding)
        hardening.install(changes, policy)
        ports.install(changes, udp_ports)
        if loopback:
            changes.replace(aioice.ice, "get_host_addresses", with_loopback(aioice.ice.get_host_addresses))
    except WrongVersion:
        uninstall()
        raise


def uninstall() -> None:
    """Puts everything back. Connections that are there keep what they were made of."""
    while _made:
        _made.pop().undo()


@contextmanager
def installed(loopback: bool = False, udp_ports: tuple[int, int] | None = None) -> Iterator[None]:
    """All changes, within a `with`; afterwards those that were made before."""
    before, _made[:] = _made[:], []
    for changes in reversed(before):
        changes.undo()
    install(loopback=loopback, udp_ports=udp_ports)
    try:
        yield
    finally:
        uninstall()
        _restore(before)


@contextmanager
def stock() -> Iterator[None]:
    """aiortc as it is, within a `with`: to compare."""
    before, _made[:] = _made[:], []
    for changes in reversed(before):
        changes.undo()
    try:
        yield
    finally:
        uninstall()
        _restore(before)


def with_loopback(addresses: Callable[[bool, bool], list[str]]) -> Callable[[bool, bool], list[str]]:
    """aioice leaves 127.0.0.1 out: on a laptop without any network a call could not even reach its own machine."""

    def get_host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        found = addresses(use_ipv4, use_ipv6)
        return [LOOPBACK, *found] if use_ipv4 and LOOPBACK not in found else found

    return get_host_addresses


def _restore(before: list[Changes]) -> None:
    for changes in before:
        changes.redo()
    _made[:] = before


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
