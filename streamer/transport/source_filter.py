"""Datagrams of strangers end here: DTLS and media count only from an address that has passed an ICE check.

aioice hands whatever is no STUN message to DTLS, from any source: one bogus record of a stranger during the handshake
ends the connection (measured: 5 of 5).
"""

from __future__ import annotations

import struct
import time
from typing import Any

from aioice import stun
from aioice.ice import CandidatePair, Connection, StunProtocol
from aioice.stun import RETRY_RTO, Message
from aiortc.rtcdtlstransport import RTCDtlsTransport

from streamer.transport.round_trip import RoundTrip

LAST_STUN_BYTE = 3  # RFC 7983: 0..3 STUN, 20..63 DTLS, 128..191 RTP and RTCP


class FilteredStunProtocol(StunProtocol):
    """One local socket (or relay) of a connection. Measures the round trip by the checks that it makes anyway."""

    def __init__(self, receiver: Connection) -> None:
        super().__init__(receiver)
        self.round_trip = RoundTrip()
        self.strangers = 0  # datagrams dropped
        self._known: set[tuple[str, int]] = set()

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        source = (addr[0], addr[1])
        if not isinstance(data, bytes) or not data or not (source in self._known or self._may_pass(data, source)):
            self.strangers += 1
            return
        super().datagram_received(data, addr)

    async def request(
        self,
        request: Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[Message, tuple[str, int]]:
        asked_s = time.monotonic()
        answer = await super().request(request, addr, integrity_key, retransmissions)
        took_s = time.monotonic() - asked_s
        if took_s < RETRY_RTO or retransmissions == 0:  # else it may have answered the second attempt
            self.round_trip.add(took_s)
        return answer

    def proved(self, source: tuple[str, int]) -> None:
        """A check from there had our password. It may send even where our own check of it was called off: the two sides
        need not agree on the pair, since the last success counts here and the last nomination there."""
        self._known.add(source)

    def _may_pass(self, data: bytes, source: tuple[str, int]) -> bool:
        """Of a source that has not passed so far."""
        if self._passed_check(source):
            self._known.add(source)
            return True
        return data[0] <= LAST_STUN_BYTE and _is_stun(data)

    def _passed_check(self, source: tuple[str, int]) -> bool:
        """Whether this source has answered a check of ours, or proved by one of its own that it knows our password."""
        connection = self.receiver
        return any(
            pair.remote_addr == source and (pair.state is CandidatePair.State.SUCCEEDED or pair.remote_nominated)
            for pair in (*connection._check_list, *connection._nominated.values())
        ) or any((early[1][0], early[1][1]) == source for early in connection._early_checks)


def round_trip_of(transport: RTCDtlsTransport) -> RoundTrip:
    """The round trip of the path in use; one that knows nothing while there is none."""
    protocol = _protocol_in_use(transport)
    return protocol.round_trip if isinstance(protocol, FilteredStunProtocol) else RoundTrip()


def strangers_of(transport: RTCDtlsTransport) -> int:
    """How many datagrams of strangers were dropped on all sockets of a connection."""
    protocols = transport.transport._connection._protocols
    return sum(protocol.strangers for protocol in protocols if isinstance(protocol, FilteredStunProtocol))


def _protocol_in_use(transport: RTCDtlsTransport) -> StunProtocol | None:
    pair = next(iter(transport.transport._connection._nominated.values()), None)
    return None if pair is None else pair.protocol


def _is_stun(data: bytes) -> bool:
    try:
        stun.parse_message(data)
    except (ValueError, struct.error, IndexError):
        return False
    return True
