"""Each attack that stock aiortc 1.16 falls to (docs/security.md), run against the real server in a process of its own.

After each the server serves a new call, has not grown by 200 MB, and its event loop was never away for 100 ms.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from struct import pack

import pytest
import pytest_asyncio
from aiortc.rtp import RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket, RtpPacket

from streamer.config import GuardSettings, ServerConfig
from streamer.transport import pin
from tests.attacks import attacker as moves
from tests.attacks.attacker import attacking, offering, take_answer
from tests.attacks.target import Target, target
from tests.streamer.calls import Camera, plain, served

pytestmark = pytest.mark.asyncio(loop_scope="module")
LONG = pytest.mark.long


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Target]:
    async with target() as started:
        yield started


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def no_call_is_left(server: Target) -> AsyncIterator[None]:
    pin.uninstall()  # the caller is stock, whatever ran in this process before
    yield
    await server.gone()


async def refused(server: Target, sdp: str) -> int:
    answer = await server.client.post("/session", json={"sdp": sdp})
    return answer.status


@pytest.mark.parametrize("count", [2_400, pytest.param(65, marks=LONG), pytest.param(1_000, marks=LONG)])
async def test_many_candidates(server: Target, count: int) -> None:
    lines = (f"a=candidate:{i} 1 udp 1 127.0.{i >> 8}.{i & 255} 9000 typ host\r\n" for i in range(count))
    async with offering(server) as (_, sdp), server.unharmed():
        assert await refused(server, sdp.replace(moves.END, "".join(lines), 1)) in (400, 413)


@LONG
async def test_the_most_candidates_that_pass_cost_little(server: Target) -> None:
    lines = (f"a=candidate:{i} 1 udp 1 127.0.1.{i} 9000 typ host\r\n" for i in range(60))
    async with offering(server) as (attacker, sdp), server.unharmed():
        answer = await server.client.post("/session", json={"sdp": sdp.replace(moves.END, "".join(lines), 1)})
        assert answer.status == 201
        await take_answer(attacker, await answer.json())
        await attacker.pictures(3)


@LONG
async def test_many_media_sections(server: Target) -> None:
    async with offering(server) as (_, sdp), server.unharmed():
        head, *media = sdp.split("m=")
        assert await refused(server, head + "".join("m=" + media[0] for _ in range(50))) == 400


@pytest.mark.parametrize(
    "line", ["a=rtcp-fb:* nack\r\n", "a=ssrc:1 cname:x\r\n", "a=rtpmap:96 VP8/90000\r\n", "a=x\r\n"]
)
async def test_lines_that_multiply(server: Target, line: str) -> None:
    async with offering(server) as (_, sdp), server.unharmed():
        assert await refused(server, sdp + line * (100_000 // len(line))) in (400, 413)


@LONG
async def test_names_that_nobody_knows(server: Target) -> None:
    names = (f"a=candidate:{i} 1 udp 1 {i:08x}-0000-4000-8000-000000000000.local 9000 typ host\r\n" for i in range(20))
    async with offering(server) as (attacker, sdp), server.unharmed():
        answer = await server.client.post(
            "/session", json={"sdp": sdp.replace(moves.END, "".join(names) + moves.END, 1)}
        )
        assert answer.status == 201
        await take_answer(attacker, await answer.json())
        await attacker.pictures(3)


@pytest.mark.parametrize(
    "name",
    [name if name in ("empty", "hello", "long rtp") else pytest.param(name, marks=LONG) for name in moves.STRANGERS],
)
async def test_a_stranger_sprays_while_a_call_is_set_up(server: Target, name: str) -> None:
    async with offering(server) as (attacker, sdp), server.unharmed():
        answer = await (await server.client.post("/session", json={"sdp": sdp})).json()
        addresses = moves.addresses_in(answer["sdp"])

        async def keep_spraying() -> None:
            while True:
                moves.spray([moves.STRANGERS[name]] * 3, addresses)
                await asyncio.sleep(0.001)

        spraying = asyncio.create_task(keep_spraying())
        try:
            await take_answer(attacker, answer)
            await attacker.connected()
            await attacker.pictures(3)
        finally:
            spraying.cancel()


async def test_a_stranger_sprays_a_call_that_is_going_on(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        for packet in moves.STRANGERS.values():
            moves.spray([packet] * 30, attacker.addresses())
            await asyncio.sleep(0.02)
        seen, heard = len(attacker.received), len(attacker.reports)
        await attacker.pictures(seen + 10)
        await attacker.until(lambda: len(attacker.reports) > heard)


async def test_the_caller_itself_sends_what_strangers_send(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        for name, packet in moves.STRANGERS.items():
            if name not in ("close", "alert", "longest"):  # in clear, these two are DTLS's to judge
                for _ in range(20):
                    await attacker.dtls.transport._send(packet)
        seen = len(attacker.received)
        await attacker.pictures(seen + 5)


async def test_addresses_that_are_none_of_the_callers_are_not_called() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        door.settimeout(0.1)
        port = door.getsockname()[1]
        lines = "".join(
            f"a=candidate:{number} 1 udp 1 {host} {port} typ host\r\n"
            for number, host in enumerate(("127.0.0.1", "::ffff:127.0.0.1", "localhost", "0.0.0.0"))
        )
        async with served(ServerConfig(guard=GuardSettings(lan="no"))) as strict:
            attacker = moves.Attacker(strict)
            sdp = await attacker.offer(Camera([plain((1, 2, 3))]))
            answer = await strict.post("/session", json={"sdp": sdp.replace(moves.END, lines + moves.END)})
            assert answer.status == 201
            knocks = 0
            end_s = time.monotonic() + 1
            while time.monotonic() < end_s:
                await asyncio.sleep(0.05)
                try:
                    door.recv(2_000)
                    knocks += 1
                except TimeoutError:
                    continue
            assert knocks == 0
            await strict.delete(f"/session/{(await answer.json())['call']}")
            await attacker.close()


async def test_checks_from_thousands_of_ports(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        ice = attacker.dtls.transport._connection
        assert ice.remote_password is not None
        username = f"{ice.remote_username}:{ice.local_username}"
        check = moves.stun_check(username, ice.remote_password)
        without = moves.stun_check(username, ice.remote_password, priority=False)
        for _ in range(1_500):
            moves.spray([check, without], attacker.addresses())
        seen = len(attacker.received)
        await attacker.pictures(seen + 5)
    numbers = await server.numbers()
    assert numbers["refused"]["check_count"] > 100
    assert numbers["refused"]["check_form"] > 100


@pytest.mark.parametrize(
    "chunk",
    [
        moves.sctp_chunk(4, pack("!HH", 1, 0)),
        moves.sctp_chunk(3, pack("!LLHH", 0, 1_000, 300, 0) + pack("!HH", 1, 65_535) * 300),
        pytest.param(moves.sctp_chunk(9, pack("!HH", 1, 3)), marks=LONG),
        pytest.param(moves.sctp_chunk(130, pack("!HH", 13, 0)), marks=LONG),
        pytest.param(moves.sctp_chunk(0, b"short"), marks=LONG),
        pytest.param(moves.sctp_chunk(192), marks=LONG),
        pytest.param(moves.data_chunk(0, 65_000, b"x"), marks=LONG),
    ],
)  # fmt: skip
async def test_sctp_that_aiortc_cannot_bear(server: Target, chunk: bytes) -> None:
    async with attacking(server) as attacker, server.unharmed():
        for _ in range(20):
            await attacker.sctp(chunk)
        heard = len(attacker.reports)
        await attacker.until(lambda: len(attacker.reports) > heard)


@LONG
async def test_pieces_of_messages_that_never_end(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        sctp = attacker._connection.sctp
        assert sctp is not None
        tsn = sctp._local_tsn
        for ahead in (1, 100_000, 2**31 + 5):
            for number in range(1_500):
                await attacker.sctp(moves.data_chunk(tsn + ahead + number, number % 1_000, b"x" * 1_000, flags=0))
                if number % 100 == 0:
                    await asyncio.sleep(0.01)


@LONG
async def test_channels_without_number(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        for number in range(500):
            attacker._connection.createDataChannel(f"more {number}")
        await asyncio.sleep(1.5)
    assert (await server.numbers())["refused"]["channel_count"] > 100


@LONG
async def test_messages_that_are_too_long_too_many_or_no_messages(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        attacker.channel._RTCDataChannel__transport._remote_max_message_size = 0  # type: ignore[attr-defined]
        attacker.channel.send("x" * 200_000)
        for _ in range(2_000):
            attacker.channel.send('{"ping_ms": 1}')
        for rubbish in ("[" * 900, "{", "null", b"\x00\xff", json.dumps({"ping_ms": "x"}), "\N{SNOWMAN}" * 300):
            attacker.channel.send(rubbish)
        await asyncio.sleep(1.0)
        assert len(attacker.pongs) < 60


async def test_streams_without_number_and_the_call_can_end_nevertheless(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        payload_type = attacker.payload_type("VP8")
        for ssrc in range(1, 2_000):
            packet = RtpPacket(payload_type=payload_type, ssrc=ssrc, sequence_number=1, payload=b"\x10\x00\x00")
            await attacker.rtp(packet.serialize())
            if ssrc % 100 == 0:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.6)  # a receiver report lists all of them
        seen = len(attacker.received)
        await attacker.pictures(seen + 3)
    assert (await server.numbers())["refused"]["streams"] > 1_900


async def test_packets_in_clear_that_aiortc_cannot_bear(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        remb = RtcpPsfbPacket(fmt=15, ssrc=1, media_ssrc=0, fci=b"REMB" + b"\xff\xff\xff\xff")
        first = bytes([0x90, attacker.payload_type("VP8")])
        for number in range(1, 15):
            await attacker.rtp(first + pack("!HQHH", number, 0, 0xBEDE, 1) + bytes([number << 4, 1, 0, 0]))
        await attacker.rtp(bytes(remb))
        for rubbish in (b"\x9f\xc9\x00\x01", b"\xa0\xc8\x00\x01", b"\x8f\xca\x00\x01", b"\x81\xcb\x00\x00"):
            await attacker.rtp(rubbish + bytes(4))
        seen = len(attacker.received)
        await attacker.pictures(seen + 5)


@LONG
async def test_everything_asked_for_again_and_again(server: Target) -> None:
    async with attacking(server) as attacker, server.unharmed():
        ssrc = next(iter(attacker.dtls._rtp_router.ssrc_table))
        nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=ssrc)
        words = b"".join(pack("!HH", number * 17 % 65_536, 0xFFFF) for number in range(330))
        packet = bytes(nack)[:12] + words
        packet = packet[:2] + pack("!H", len(packet) // 4 - 1) + packet[4:]
        before = received_packets(attacker)
        for _ in range(200):
            await attacker.rtp(packet)
            await attacker.rtp(bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=ssrc)))
            await asyncio.sleep(0.005)
        assert received_packets(attacker) - before < 2_000, "asked for over a million"
        seen = len(attacker.received)
        await attacker.pictures(seen + 3)


def received_packets(attacker: moves.Attacker) -> int:
    return int(next(iter(attacker.dtls._get_stats().values())).packetsReceived)


@pytest.mark.parametrize(
    "declared_px", [(16_383, 16_383), pytest.param((16_383, 16), marks=LONG), pytest.param((8_000, 8_000), marks=LONG)]
)
async def test_small_pictures_that_claim_to_be_large(server: Target, declared_px: tuple[int, int]) -> None:
    bomb, small = moves.vp8_key_picture(declared_px), moves.vp8_key_picture()
    assert len(bomb) < 4_096
    async with attacking(server) as victim, attacking(server) as attacker, server.unharmed():
        number = 1
        for turn in range(40):
            data = bomb if turn % 2 else small
            number = await attacker.picture(data, 77, number, turn * 3_000)
            await asyncio.sleep(0.01)
        seen = len(victim.received)
        await victim.pictures(seen + 20)


@LONG
async def test_a_storm_of_sizes(server: Target) -> None:
    async with attacking(server) as victim, attacking(server) as attacker, server.unharmed():
        number = 1
        for turn in range(100):
            size = (16 + turn * 13 % 1_900, 16 + turn * 29 % 1_000)
            number = await attacker.picture(moves.vp8_key_picture(size), 77, number, turn * 3_000)
            await asyncio.sleep(0.01)
        seen = len(victim.received)
        await victim.pictures(seen + 20)


async def test_bodies_that_are_deep_or_no_json(server: Target) -> None:
    async with server.unharmed():
        for body in ("[" * 100_000, '{"sdp": ' * 10_000, "\x00" * 1_000, '{"sdp": "' + "\\u0000" * 20_000 + '"}'):
            headers = {"Content-Type": "application/json"}
            answer = await server.client.post("/session", data=body.encode(), headers=headers)
            assert answer.status in (400, 413)


async def test_tokens_are_not_guessed() -> None:
    guard = GuardSettings(proxies=("127.0.0.1",))
    async with served(ServerConfig(token="the-token-of-this-server", guard=guard)) as closed:
        statuses = []
        for number in range(40):
            headers = {"Authorization": f"Bearer guess-{number}", "X-Forwarded-For": "9.9.9.9"}
            statuses.append((await closed.get("/identities", headers=headers)).status)
        assert statuses[:10] == [401] * 10
        assert set(statuses[12:]) == {429}
        headers = {"Authorization": "Bearer the-token-of-this-server"}
        answer = await closed.get("/identities", headers={**headers, "X-Forwarded-For": "8.8.8.8"})
        assert answer.status == 200


async def test_packets_with_a_wrong_key_or_a_changed_bit(server: Target) -> None:
    """SRTP is checked: nothing of it gets in, and the right packets go on (ASVS 17.2.3, 17.2.4)."""
    async with attacking(server) as attacker, server.unharmed():
        session, payload_type = attacker.dtls._tx_srtp, attacker.payload_type("VP8")
        for number in range(400):
            packet = RtpPacket(payload_type=payload_type, ssrc=5, sequence_number=number, payload=b"x" * 99)
            sealed = bytearray(session.protect(packet.serialize()))
            sealed[number % len(sealed)] ^= 1 << number % 8
            await attacker.dtls.transport._send(bytes(sealed))
        seen = len(attacker.received)
        await attacker.pictures(seen + 5)


@LONG
async def test_a_flood_of_right_packets(server: Target) -> None:
    """What is more than a call can need is dropped before it costs anything (ASVS 17.2.5)."""
    async with attacking(server) as victim, attacking(server) as attacker, server.unharmed():
        payload_type, picture = attacker.payload_type("VP8"), b"\x10" + moves.vp8_key_picture()
        end_s, number = time.monotonic() + 3, 0
        while time.monotonic() < end_s:
            packet = RtpPacket(payload_type=payload_type, ssrc=9, sequence_number=number % 65_536, payload=picture)
            await attacker.rtp(packet.serialize())
            number += 1
            if number % 200 == 0:
                await asyncio.sleep(0)
        assert number > 10_000
        seen = len(victim.received)
        await victim.pictures(seen + 20)


async def test_a_certificate_that_is_not_the_one_in_the_offer(server: Target) -> None:
    """ASVS 17.2.8."""
    async with offering(server) as (attacker, sdp), server.unharmed():
        lines = [
            line[:-2] + ("00" if line[-2:] != "00" else "11") if line.startswith("a=fingerprint") else line
            for line in sdp.splitlines()
        ]
        answer = await server.client.post("/session", json={"sdp": "\r\n".join(lines) + "\r\n"})
        assert answer.status == 201
        await take_answer(attacker, await answer.json())
        await server.gone()
        assert not attacker.received


async def test_a_flood_of_requests_costs_only_who_sends_it() -> None:
    """ASVS 17.3.1."""
    async with served(ServerConfig(guard=GuardSettings(proxies=("127.0.0.1",)))) as client:
        statuses = [
            (await client.post("/session", json={"sdp": "v=0"}, headers={"X-Forwarded-For": "9.9.9.9"})).status
            for _ in range(130)
        ]
        assert statuses[:20] == [400] * 20 or statuses[:5] == [400] * 5
        assert statuses[-1] == 429
        other = await client.get("/identities", headers={"X-Forwarded-For": "8.8.8.8"})
        assert other.status == 200


async def test_connections_that_say_nothing(server: Target) -> None:
    host, port = server.address.removeprefix("http://").rstrip("/").split(":")
    async with server.unharmed():
        idle = [socket.create_connection((host, int(port))) for _ in range(600)]
        try:
            async with asyncio.timeout(10):
                while sum(is_cut(connection) for connection in idle) < 600 - 512:  # noqa: ASYNC110  the server's doing
                    await asyncio.sleep(0.1)
            assert (await server.client.get("/healthz")).status == 200, "who was there before stays"
        finally:
            for connection in idle:
                connection.close()


def is_cut(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
