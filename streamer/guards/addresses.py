"""Which addresses a call may make this server send to: a stranger's candidates are wishes, not facts.

Every candidate costs up to seven STUN packets to whatever address it names. Without this, an offer is a way to knock on
doors behind the server: its own ports, the cloud's metadata service, the machines of its network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

LOWEST_PORT = 1024
WEB_PORTS = frozenset({80, 443})  # what browsers allow below it, and only on public addresses
MDNS_NAME = re.compile(r"[a-zA-Z0-9-]{1,63}\.local")
NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
COMPATIBLE = IPv6Network("::/96")
ISATAP_MASK, ISATAP = 0xFFFFFFFF << 32, 0x5EFE << 32  # the interface part ::0:5efe:a.b.c.d, with or without the u bit
METADATA = frozenset(
    ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be sent to. The default is a server on the open network: public addresses only."""

    lan: bool = False  # private addresses and .local names too
    loopback: bool = False  # this machine itself too

    def candidate(self, host: str, port: int, transport: str = "udp") -> str | None:
        """Why a candidate of a session description must not be used, or None where it may be."""
        if transport.lower() != "udp":
            return "transport"
        if not 0 < port <= 65_535:
            return "port"
        if MDNS_NAME.fullmatch(host):
            return None if self.lan else "name"
        address = _parsed(host)
        if address is None:
            return "name"
        refused = self._refused(address, private=self.lan)
        if refused is None and port < LOWEST_PORT and not (port in WEB_PORTS and address.is_global):
            return "port"
        return refused

    def source(self, host: str) -> str | None:
        """Why packets that came from this address must not be answered with checks, or None where they may be.

        Who sends from a private address is in that network already, so those pass here: it is how a call from the same
        network comes about where its own candidates were left out.
        """
        address = _parsed(host)
        return "name" if address is None else self._refused(address, private=True)

    def _refused(self, address: Address, private: bool) -> str | None:
        for part in _meant(address):
            if part in METADATA:
                return "metadata"
            if part.is_loopback:
                if not self.loopback:
                    return "loopback"
            elif part.is_multicast or part.is_unspecified or part.is_link_local or part.is_reserved:
                return "special"
            elif not part.is_global and not private:
                return "private"
        return None


def _parsed(host: str) -> Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def _meant(address: Address) -> tuple[Address, ...]:
    """The address and those that are hidden in it, which is where the packets may end."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    hidden: list[Address] = []
    if address.sixtofour is not None:
        hidden.append(address.sixtofour)
    if address.teredo is not None:
        hidden.extend(address.teredo)
    number = int(address)
    in_last_part = any(address in network for network in NAT64) or (address in COMPATIBLE and number > 1)
    if in_last_part or number & ISATAP_MASK & ~(0x0200_0000 << 32) == ISATAP:
        hidden.append(IPv4Address(number & 0xFFFFFFFF))
    if any(address in network for network in NAT64) or (address in COMPATIBLE and number > 1):
        return tuple(hidden)  # Python calls these prefixes reserved; only what they lead to counts
    return (address, *hidden)


def network_of(address: str) -> str:
    """What is counted as one stranger: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    found = _parsed(address.split("%", 1)[0])
    if found is None:
        return "?"
    if isinstance(found, IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((found, 64), strict=False).network_address) + "/64"


def is_inside(host: str) -> bool:
    """Whether the address belongs to this machine or its own network."""
    if host == "localhost":
        return True
    address = _parsed(host)
    return address is not None and not address.is_unspecified and (address.is_loopback or address.is_private)
