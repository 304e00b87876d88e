"""What aiortc 1.16 and aioice 0.13 take from strangers and callers, made harmless. Each change says against what.

Measured on stock: an empty datagram from anybody, or one of over 1,500 bytes that begins like RTP, ends a call that is
going on; one SCTP packet of a caller stops the whole server; 256 stream numbers make a connection that never closes.
Installed once for the process; what is refused is counted by reason.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiortc.rtcsctptransport
import pylibsrtp
from aioice.candidate import Candidate
from aioice.ice import Connection, StunProtocol
from aioice.mdns import MDnsProtocol
from aioice.stun import Message
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcsctptransport import DATA_CHANNEL_ACK, DATA_CHANNEL_OPEN, WEBRTC_DCEP, DataChunk, RTCSctpTransport

from streamer.guards.addresses import AddressPolicy
from streamer.guards.limits import Bucket
from streamer.guards.rtcp import cost, rtcp_fault
from streamer.guards.sctp import sctp_fault
from streamer.transport.changes import Changes
from streamer.transport.source_filter import FilteredStunProtocol

log = logging.getLogger(__name__)

PATCHED: tuple[tuple[type, str], ...] = (
    (StunProtocol, "datagram_received"),
    (MDnsProtocol, "datagram_received"),
    (Connection, "data_received"),
    (Connection, "add_remote_candidate"),
    (Connection, "_add_remote_candidate"),
    (Connection, "check_incoming"),
    (RTCDtlsTransport, "_setup_srtp"),
    (RTCDtlsTransport, "_handle_rtp_data"),
    (RTCDtlsTransport, "_handle_rtcp_data"),
    (RTCRtpReceiver, "_run_rtcp"),
    (RTCRtpSender, "_run_rtcp"),
    (RTCSctpTransport, "_handle_data"),
    (RTCSctpTransport, "_receive_data_chunk"),
    (RTCSctpTransport, "_receive_forward_tsn_chunk"),
    (RTCSctpTransport, "_data_channel_receive"),
)
MOST_DATAGRAM_BYTES = 1_500  # pylibsrtp's buffer; it raises above
MOST_WAITING_DATAGRAMS = 1_024
DATAGRAMS_PER_S, DATAGRAMS_AT_ONCE = 5_000.0, 5_000.0  # of one call: 40 Mbit/s
RTCP_UNITS_PER_S, RTCP_UNITS_AT_ONCE = 500.0, 500.0  # a unit: 100 bytes; browsers send less than a fifth of that
REPORTS_AGAIN_S = 1.0
LONGEST_TURN_S = 0.005  # that one call's packets may take before the others have a turn
MOST_CANDIDATES = 64  # that were named by the other side
MOST_CANDIDATES_IN_ALL = 96  # with those that its packets came from
MOST_STREAMS = 31  # SSRCs: as many as one receiver report has room for
MOST_CHANNELS = 8
MOST_LABEL_BYTES = 256
MOST_MESSAGE_BYTES = 16_384
MOST_HELD_BYTES = 4 * MOST_MESSAGE_BYTES  # of messages that are not complete
SCTP_WINDOW_BYTES = 1024 * 1024  # aiortc's, which it announces and does not enforce
MOST_TSN_AHEAD = 512
TSNS = 2**32

refused: Counter[str] = Counter()  # since the start of the process
PRIVATE = AddressPolicy(lan=True, loopback=True)
_policy = PRIVATE  # a change like the others: one process is one server


def install(changes: Changes, policy: AddressPolicy | None = None) -> None:
    """Makes the changes; a second time only the policy is new. None: that of a private server."""
    changes.replace(sys.modules[__name__], "_policy", policy or PRIVATE)
    if getattr(StunProtocol.datagram_received, "vividstream", False):
        return
    for (owner, name), make in zip(PATCHED, MAKERS, strict=True):
        wrapped = make(getattr(owner, name))
        wrapped.vividstream = True
        changes.replace(owner, name, wrapped)
    changes.replace(aiortc.rtcsctptransport, "LOCAL_MAX_MESSAGE_SIZE", MOST_MESSAGE_BYTES)


def _datagram_received(stock: Callable[[Any, bytes, Any], None]) -> Callable[[Any, bytes, Any], None]:
    """Anybody's datagram. A STUN attribute of a wrong length raises struct.error, which nobody expects."""

    def datagram_received(self: Any, data: bytes, addr: Any) -> None:
        if not data or len(data) > MOST_DATAGRAM_BYTES:
            refused["datagram_size"] += 1
            return
        try:
            stock(self, data, addr)
        except Exception:  # the boundary to everybody's packets
            refused["datagram_fault"] += 1
            log.debug("a datagram was dropped", exc_info=True)

    return datagram_received


def _data_received(stock: Callable[[Connection, bytes, int], None]) -> Callable[[Connection, bytes, int], None]:
    """What is not STUN, before it waits for DTLS: that queue has no bound, and an empty datagram ends the transport."""

    def data_received(self: Connection, data: bytes, component: int) -> None:
        now_s = time.monotonic()
        bucket: Bucket | None = getattr(self, "_vividstream_rate", None)
        if bucket is None:
            bucket = Bucket.full(DATAGRAMS_PER_S, DATAGRAMS_AT_ONCE, now_s)
            self._vividstream_rate = bucket  # type: ignore[attr-defined]  # one per connection, and gone with it
        if not data or len(data) > MOST_DATAGRAM_BYTES:
            refused["datagram_size"] += 1
        elif self._queue.qsize() >= MOST_WAITING_DATAGRAMS:
            refused["datagram_queue"] += 1
        elif bucket.take(now_s) > 0:
            refused["datagram_rate"] += 1
        else:
            stock(self, data, component)

    return data_received


def _end_of_candidates(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Where no candidate was let in, there is nothing to end: the other side's own checks are waited for."""

    async def add_remote_candidate(self: Connection, remote_candidate: Candidate | None) -> None:
        if remote_candidate is None and not (self._remote_candidates or self._remote_candidates_resolving):
            return
        if remote_candidate is not None and self._remote_candidates_resolving >= MOST_CANDIDATES:
            refused["candidate_count"] += 1  # names that are being asked for in the network
            return
        await stock(self, remote_candidate)

    return add_remote_candidate


def _add_remote_candidate(stock: Callable[..., None]) -> Callable[..., None]:
    """The last gate of a candidate: also for what a .local name turned out to mean."""

    def _add_remote_candidate(self: Connection, remote_candidate: Candidate, network_host: str) -> None:
        fault = _policy.candidate(network_host, remote_candidate.port, remote_candidate.transport)
        if fault is None and len(self._remote_candidates) >= MOST_CANDIDATES:
            fault = "count"
        if fault is None:
            stock(self, remote_candidate, network_host)
        else:
            refused[f"candidate_{fault}"] += 1

    return _add_remote_candidate


def _check_incoming(stock: Callable[..., None]) -> Callable[..., None]:
    """A check of one who knows the password. Each new port of theirs is a candidate, a pair, a sort of all pairs."""

    def check_incoming(self: Connection, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        known = any(c._network_host == addr[0] and c.port == addr[1] for c in self._remote_candidates)
        fault = None if known else _policy.source(addr[0])
        if "PRIORITY" not in message.attributes:
            fault = "form"
        elif not known and fault is None and len(self._remote_candidates) >= MOST_CANDIDATES_IN_ALL:
            fault = "count"
        if fault is None:
            if isinstance(protocol, FilteredStunProtocol):
                protocol.proved((addr[0], addr[1]))
            stock(self, message, addr, protocol)
        else:
            refused[f"check_{fault}"] += 1

    return check_incoming


class BoundedSession:
    """An SRTP session that takes part in few streams: those that came first, and were authentic.

    libsrtp, the router, the statistics and the receiver reports all keep something for every stream number (SSRC).
    """

    def __init__(self, session: pylibsrtp.Session) -> None:
        self._session = session
        self._streams: set[bytes] = set()

    def unprotect(self, packet: bytes) -> bytes:
        """The packet in clear. Raises pylibsrtp.Error."""
        return self._take(packet[8:12], packet, self._session.unprotect)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """The packet in clear. Raises pylibsrtp.Error."""
        return self._take(packet[4:8], packet, self._session.unprotect_rtcp)

    def _take(self, stream: bytes, packet: bytes, unprotect: Callable[[bytes], bytes]) -> bytes:
        if stream in self._streams:
            return unprotect(packet)
        if len(self._streams) >= MOST_STREAMS:
            refused["streams"] += 1
            raise pylibsrtp.Error("too many streams")
        clear = unprotect(packet)
        self._streams.add(stream)
        return clear


def _setup_srtp(stock: Callable[[RTCDtlsTransport], None]) -> Callable[[RTCDtlsTransport], None]:
    def _setup_srtp(self: RTCDtlsTransport) -> None:
        stock(self)
        if self._rx_srtp is not None:
            self._rx_srtp = BoundedSession(self._rx_srtp)  # type: ignore[assignment]  # of it, aiortc uses no more

    return _setup_srtp


def _contained(stock: Callable[..., Any]) -> Callable[..., Any]:
    """A caller's packet in clear. aiortc ends the transport on all but ValueError: a bad header extension will do.

    It also goes on without a pause while packets are waiting, and all other calls are kept waiting.
    """

    async def contained(self: Any, data: bytes, *more: Any, **named: Any) -> None:
        begun_s = time.monotonic()
        try:
            await stock(self, data, *more, **named)
        except ConnectionError:
            raise
        except Exception:  # the boundary to a caller's packets
            refused["packet_fault"] += 1
            log.debug("a packet was dropped", exc_info=True)
        allowance = _allowance(self, begun_s)
        allowance.spent_s += time.monotonic() - begun_s
        if allowance.spent_s > LONGEST_TURN_S:
            allowance.spent_s = 0.0
            await asyncio.sleep(0)

    return contained


class _Allowance:
    """What one call may still use."""

    def __init__(self, now_s: float) -> None:
        self.spent_s = 0.0  # on its packets, without a pause
        self.rtcp = Bucket.full(RTCP_UNITS_PER_S, RTCP_UNITS_AT_ONCE, now_s)


def _allowance(transport: Any, now_s: float) -> _Allowance:
    found: _Allowance | None = getattr(transport, "_vividstream_allowance", None)
    if found is None:
        found = transport._vividstream_allowance = _Allowance(now_s)
    return found


def _handle_rtcp(stock: Callable[..., Any]) -> Callable[..., Any]:
    contained = _contained(stock)

    async def _handle_rtcp_data(self: RTCDtlsTransport, data: bytes) -> None:
        now_s = time.monotonic()
        if (fault := rtcp_fault(data)) is not None:
            refused[f"rtcp_{fault}"] += 1
        elif _allowance(self, now_s).rtcp.take(now_s, cost(data)) > 0:
            refused["rtcp_rate"] += 1
        else:
            await contained(self, data)

    return _handle_rtcp_data


def _run_rtcp(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The task that sends reports: `stop` waits for its end for ever where it ended by an error."""

    async def run_rtcp(self: Any) -> None:
        try:
            while not await _ended(stock, self):  # noqa: ASYNC110  it is run again, not asked again
                await asyncio.sleep(REPORTS_AGAIN_S)
        finally:
            for name in ("_RTCRtpReceiver__rtcp_exited", "_RTCRtpSender__rtcp_exited"):
                if hasattr(self, name):
                    getattr(self, name).set()

    return run_rtcp


async def _ended(run: Callable[..., Any], sender: Any) -> bool:
    """Whether it came to its own end, and not to an error."""
    try:
        await run(sender)
    except Exception:  # the boundary to numbers that a caller had a hand in
        refused["report_fault"] += 1
        log.debug("reports begin anew", exc_info=True)
        return False
    return True


def _handle_sctp(stock: Callable[..., Any]) -> Callable[..., Any]:
    contained = _contained(stock)

    async def _handle_data(self: RTCSctpTransport, data: bytes) -> None:
        fault = sctp_fault(data)
        if fault is None:
            await contained(self, data)
        else:
            refused[f"sctp_{fault}"] += 1

    return _handle_data


def _receive_data_chunk(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Pieces of messages. aiortc keeps all that come, and sorts them anew for each."""

    async def _receive_data_chunk(self: RTCSctpTransport, chunk: DataChunk) -> None:
        last = self._last_received_tsn
        ahead = TSNS if last is None else (chunk.tsn - last) % TSNS
        held = SCTP_WINDOW_BYTES - self._advertised_rwnd
        if last is None or MOST_TSN_AHEAD < ahead < TSNS // 2:
            refused["sctp_window"] += 1
        elif held + len(chunk.user_data) > MOST_HELD_BYTES and ahead < TSNS // 2:
            refused["sctp_held"] += 1
        else:
            await stock(self, chunk)

    return _receive_data_chunk


def _receive_forward_tsn_chunk(stock: Callable[..., Any]) -> Callable[..., Any]:
    async def _receive_forward_tsn_chunk(self: RTCSctpTransport, chunk: Any) -> None:
        if self._last_received_tsn is None:
            refused["sctp_window"] += 1
        else:
            await stock(self, chunk)

    return _receive_forward_tsn_chunk


def _data_channel_receive(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Whole messages: how long, on how many channels."""

    async def _data_channel_receive(self: RTCSctpTransport, stream_id: int, pp_id: int, data: bytes) -> None:
        fault = None
        if len(data) > MOST_MESSAGE_BYTES:
            fault = "size"
        elif pp_id == WEBRTC_DCEP and data and data[0] == DATA_CHANNEL_OPEN:
            labels = data[8:12]
            if stream_id in self._data_channels:
                fault = "again"
            elif len(self._data_channels) >= MOST_CHANNELS:
                fault = "count"
            elif any(int.from_bytes(labels[at : at + 2]) > MOST_LABEL_BYTES for at in (0, 2)):
                fault = "label"
        elif pp_id == WEBRTC_DCEP and data and data[0] == DATA_CHANNEL_ACK and stream_id not in self._data_channels:
            fault = "unknown"
        if fault is None:
            await stock(self, stream_id, pp_id, data)
        else:
            refused[f"channel_{fault}"] += 1

    return _data_channel_receive


MAKERS: tuple[Callable[[Any], Any], ...] = (  # for each name in PATCHED
    _datagram_received,
    _datagram_received,
    _data_received,
    _end_of_candidates,
    _add_remote_candidate,
    _check_incoming,
    _setup_srtp,
    _contained,
    _handle_rtcp,
    _run_rtcp,
    _run_rtcp,
    _handle_sctp,
    _receive_data_chunk,
    _receive_forward_tsn_chunk,
    _data_channel_receive,
)
