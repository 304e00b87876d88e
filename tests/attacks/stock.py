"""Two aiortc peers in one process, as they are or hardened, and one attack on the second: does it live?

python -m tests.attacks.stock stock|hardened ATTACK
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from struct import pack

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtp import RtpPacket

from streamer.transport import hardening
from streamer.transport.changes import Changes
from tests.attacks import attacker as moves

DEAD_S = 8
MEMORY_BYTES = 4 * 2**30

Attack = Callable[[RTCPeerConnection, RTCPeerConnection], Awaitable[None]]


def dtls_of(connection: RTCPeerConnection) -> RTCDtlsTransport:
    return connection.getTransceivers()[0].receiver.transport


def from_a_stranger(packet: bytes) -> Attack:
    async def attack(attacker: RTCPeerConnection, victim: RTCPeerConnection) -> None:
        moves.spray([packet], moves.addresses_in(victim.localDescription.sdp))

    return attack


def by_sctp(chunk: bytes) -> Attack:
    async def attack(attacker: RTCPeerConnection, victim: RTCPeerConnection) -> None:
        assert attacker.sctp is not None
        packet = moves.sctp_packet(attacker.sctp._remote_verification_tag, chunk)
        await dtls_of(attacker)._send_data(packet)

    return attack


async def bad_extension(attacker: RTCPeerConnection, victim: RTCPeerConnection) -> None:
    for number in range(1, 15):
        header = b"\x90\x61" + pack("!H", number) + bytes(8)
        await dtls_of(attacker)._send_rtp(header + pack("!HH", 0xBEDE, 1) + bytes([number << 4, 1, 0, 0]))


async def many_streams(attacker: RTCPeerConnection, victim: RTCPeerConnection) -> None:
    """Stock does not die of it, but it can never be closed."""
    payload_type = next(iter(dtls_of(victim)._rtp_router.payload_type_table))
    for ssrc in range(1, 400):
        await dtls_of(attacker)._send_rtp(
            RtpPacket(payload_type=payload_type, ssrc=ssrc, payload=b"\x10\x00").serialize()
        )
        await asyncio.sleep(0.001)
    await asyncio.sleep(1.6)


ATTACKS: dict[str, Attack] = {
    "empty": from_a_stranger(b""),
    "long": from_a_stranger(b"\x80\x61" + bytes(1_600)),
    "parameter": by_sctp(moves.sctp_chunk(4, pack("!HH", 1, 0))),
    "short-chunk": by_sctp(moves.sctp_chunk(0, b"short")),
    "extension": bad_extension,
    "streams": many_streams,
}


async def lives(attack: Attack) -> bool:
    """Whether the second peer still hears the first after the attack, and can be closed."""
    first, second = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    first.addTransceiver("video")
    channel, heard = first.createDataChannel("x"), asyncio.Event()
    second.on("datachannel", lambda remote: remote.on("message", lambda _: heard.set()))
    await first.setLocalDescription(await first.createOffer())
    await second.setRemoteDescription(first.localDescription)
    await second.setLocalDescription(await second.createAnswer())
    await first.setRemoteDescription(second.localDescription)
    while channel.readyState != "open":  # noqa: ASYNC110  aiortc tells by an event of another kind
        await asyncio.sleep(0.02)
    await attack(first, second)
    await asyncio.sleep(0.3)
    if second.connectionState != "connected" or channel.readyState != "open":
        return False
    channel.send("hello")
    try:
        async with asyncio.timeout(2):
            await heard.wait()
            await second.close()
    except TimeoutError:
        return False
    await first.close()
    return True


def main(kind: str, name: str) -> None:
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.alarm(DEAD_S)  # a loop that never comes back ends with the process
    if kind == "hardened":
        hardening.install(Changes())
    changes = Changes()
    changes.replace(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    lived = asyncio.run(lives(ATTACKS[name]))
    sys.stdout.write("lives\n" if lived else "dead\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
