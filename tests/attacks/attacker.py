"""A caller that has the keys of its own call and uses them for anything but a call."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from struct import pack, pack_into

import numpy as np
from aioice import stun
from aiortc.codecs import vpx
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtp import RtpPacket
from av.video.frame import VideoFrame
from google_crc32c import value as crc32c

from tests.attacks.target import Target
from tests.streamer.calls import Caller, Camera, plain

CANDIDATE = re.compile(r"candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host")
END = "a=end-of-candidates\r\n"
VP8_PAYLOAD_BYTES = 1_100


class Attacker(Caller):
    """One established call, and the ways below it."""

    answer_sdp = ""

    @property
    def dtls(self) -> RTCDtlsTransport:
        return self._connection.getTransceivers()[0].sender.transport

    @property
    def sctp_tag(self) -> int:
        assert self._connection.sctp is not None
        return self._connection.sctp._remote_verification_tag

    def addresses(self) -> set[tuple[str, int]]:
        """Where the server listens for this call."""
        return addresses_in(self.answer_sdp)

    def payload_type(self, codec: str) -> int:
        found = re.search(rf"a=rtpmap:(\d+) {codec}/90000", self.answer_sdp)
        assert found, self.answer_sdp
        return int(found[1])

    async def connected(self) -> None:
        try:
            await self.until(lambda: self.dtls.state == "connected" and self.channel.readyState == "open")
        except TimeoutError:
            pairs = [(pair, pair.state.name) for pair in self.dtls.transport._connection._check_list]
            states = (self.dtls.state, self.dtls.transport.state, self.channel.readyState, pairs)
            raise AssertionError(f"the call is not up: {states}") from None

    async def rtp(self, packet: bytes) -> None:
        """Sends RTP or RTCP, given in clear."""
        await self.dtls._send_rtp(packet)

    async def sctp(self, *chunks: bytes, tag: int | None = None) -> None:
        """Sends one SCTP packet of these chunks."""
        await self.dtls._send_data(sctp_packet(self.sctp_tag if tag is None else tag, *chunks))

    async def picture(self, data: bytes, ssrc: int, number: int, timestamp: int) -> int:
        """Sends one coded VP8 picture. Returns the number of the packet after it."""
        pieces = [data[at : at + VP8_PAYLOAD_BYTES] for at in range(0, len(data), VP8_PAYLOAD_BYTES)]
        for index, piece in enumerate(pieces):
            packet = RtpPacket(
                payload_type=self.payload_type("VP8"), marker=int(index == len(pieces) - 1), ssrc=ssrc,
                sequence_number=number % 65_536, timestamp=timestamp,
                payload=(b"\x10" if index == 0 else b"\x00") + piece,
            )  # fmt: skip
            await self.rtp(packet.serialize())
            number += 1
        return number


@asynccontextmanager
async def attacking(target: Target) -> AsyncIterator[Attacker]:
    """A call that is up, with pictures and the channel `numbers`."""
    attacker = Attacker(target.client)  # type: ignore[arg-type]  # both have post, patch and delete
    try:
        answer = await attacker.start(Camera([plain((40, 200, 40))]))
        attacker.answer_sdp = answer["sdp"]
        await attacker.connected()
        await attacker.pictures(1)
        yield attacker
    finally:
        await attacker.close()
        await target.client.delete(f"/session/{attacker.call}")


@asynccontextmanager
async def offering(target: Target) -> AsyncIterator[tuple[Attacker, str]]:
    """A caller that has made its offer and not sent it."""
    attacker = Attacker(target.client)  # type: ignore[arg-type]  # both have post, patch and delete
    try:
        yield attacker, await attacker.offer(Camera([plain((40, 40, 200))]))
    finally:
        await attacker.close()
        if attacker.call:
            await target.client.delete(f"/session/{attacker.call}")


async def take_answer(attacker: Attacker, answer: dict[str, str]) -> None:
    """Goes on with the call as a browser would."""
    attacker.answer_sdp = answer["sdp"]
    await attacker.take(answer)


def addresses_in(*sdps: str) -> set[tuple[str, int]]:
    return {(host, int(port)) for host, port in CANDIDATE.findall("".join(sdps))}


def spray(packets: Iterable[bytes], addresses: Iterable[tuple[str, int]]) -> None:
    """Sends from a socket that has nothing to do with any call."""
    targets = list(addresses)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for packet in packets:
            for address in targets:
                stranger.sendto(packet, address)


def dtls_record(content: int, body: bytes, version: bytes = b"\xfe\xfd") -> bytes:
    """One DTLS record in clear, epoch 0, number 0."""
    return bytes([content]) + version + bytes(8) + pack("!H", len(body)) + body


def client_hello() -> bytes:
    """The smallest ClientHello."""
    body = b"\xfe\xfd" + b"\x11" * 32 + b"\x00\x00\x00\x02\x00\x00\x01\x00"
    length = len(body).to_bytes(3, "big")
    return dtls_record(22, b"\x01" + length + bytes(5) + length + body, b"\xfe\xff")


def stun_message(*attributes: tuple[int, bytes], kind: int = 1) -> bytes:
    body = b"".join(pack("!HH", name, len(value)) + value + bytes(-len(value) % 4) for name, value in attributes)
    return pack("!HHI12s", kind, len(body), 0x2112A442, b"attacker1234") + body


STRANGERS: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x80",
    "alert": dtls_record(21, b"\x02\x28"),
    "close": dtls_record(21, b"\x01\x00"),
    "junk": dtls_record(22, b"\xff\xff\xff\xff"),
    "hello": client_hello(),
    "rtp": b"\x80\x61" + bytes(40),
    "rtcp": b"\x80\xc8" + bytes(40),
    "long rtp": b"\x80\x61" + bytes(1_600),
    "longest": b"\x80" * 60_000,
    "short attribute": stun_message((0x0024, b"ab")),
    "no attribute": stun_message(),
    "bad string": stun_message((0x0006, b"\xff\xfe\xfd")),
    "response": stun_message((0x0020, bytes(8)), kind=0x0101),
    "indication": stun_message(kind=0x0011),
    "turn": stun_message(kind=0x0003),
}


def stun_check(username: str, password: str, priority: bool = True, **more: int) -> bytes:
    """A connectivity check of one who knows the password."""
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes["USERNAME"] = username
    if priority:
        message.attributes["PRIORITY"] = 1_862_270_975
    message.attributes["ICE-CONTROLLING"] = 2**63
    message.attributes.update(more)
    message.add_message_integrity(password.encode())
    return bytes(message)


def sctp_packet(tag: int, *chunks: bytes) -> bytes:
    header = pack("!HHL", 5_000, 5_000, tag)
    body = b"".join(chunks)
    return header + pack("<L", crc32c(header + bytes(4) + body)) + body


def sctp_chunk(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    return pack("!BBH", kind, flags, 4 + len(body)) + body + bytes(-len(body) % 4)


def data_chunk(tsn: int, stream: int, data: bytes, protocol: int = 51, flags: int = 3, sequence: int = 0) -> bytes:
    return sctp_chunk(0, pack("!LHHL", tsn % 2**32, stream, sequence, protocol) + data, flags)


def vp8_key_picture(declared_px: tuple[int, int] | None = None) -> bytes:
    """A coded key picture of 64x64 px; its header may claim another size."""
    frame = VideoFrame.from_ndarray(np.full((96, 64), 90, np.uint8), format="yuv420p")
    frame.pts = 0
    payloads, _ = vpx.Vp8Encoder().encode(frame, True)
    data = bytearray(b"".join(vpx.vp8_depayload(payload) for payload in payloads))
    if declared_px is not None:
        pack_into("<HH", data, 6, *declared_px)
    return bytes(data)
