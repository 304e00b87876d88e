"""Sound over a real connection: handed on as it came, at once. aiortc's own receiver holds four packets back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.packet import Packet

from streamer.transport import pin
from streamer.transport.sound import MOST_BYTES, CodedSound, SoundReceiver

PACKETS = 40
AT_ONCE_S = 0.04
HELD_S = 0.06


def opus(count: int) -> list[bytes]:
    context = AudioCodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = 48_000, "stereo", "s16"
    coded: list[bytes] = []
    for number in range(count):
        frame = AudioFrame.from_ndarray(np.full((1, 1_920), number, np.int16), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 960, Fraction(1, 48_000)
        coded += [bytes(packet) for packet in context.encode(frame)]
    return coded


class Player(MediaStreamTrack):
    """Coded sound in real time; notes when each packet left."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.packets, self.left_s = opus(PACKETS), list[float]()
        self._since_s = time.monotonic()

    async def recv(self) -> Any:
        number = len(self.left_s)
        await asyncio.sleep(max(self._since_s + 0.02 * number - time.monotonic(), 0))
        if self.readyState != "live":
            raise MediaStreamError
        packet = Packet(self.packets[number % len(self.packets)])
        packet.pts, packet.time_base = 960 * number, Fraction(1, 48_000)
        self.left_s.append(time.monotonic())
        return packet


async def connect(player: Player, on_track: Callable[[RTCPeerConnection, MediaStreamTrack], None]) -> Any:
    one, other = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    other.on("track", lambda track: on_track(other, track))
    one.addTrack(player)
    await one.setLocalDescription(await one.createOffer())
    await other.setRemoteDescription(one.localDescription)
    await other.setLocalDescription(await other.createAnswer())
    await one.setRemoteDescription(other.localDescription)
    return one, other


async def held_by_stock() -> float:
    """The median time from a packet's leaving to its sound, by aiortc alone."""
    player, sounds = Player(), list[tuple[int, float]]()
    tasks: list[asyncio.Task[None]] = []

    async def listen(track: MediaStreamTrack) -> None:
        while True:
            frame = cast(AudioFrame, await track.recv())
            sounds.append(((frame.pts or 0) // 960, time.monotonic()))

    one, other = await connect(player, lambda _, track: tasks.append(asyncio.ensure_future(listen(track))))
    async with asyncio.timeout(20):
        while len(sounds) < PACKETS:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.gather(one.close(), other.close())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return float(np.median([at_s - player.left_s[number] for number, at_s in sounds[10:]]))


async def test_sound_is_handed_on_as_it_came_and_at_once() -> None:
    player, heard = Player(), list[CodedSound]()

    def attach(connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        receiver = connection.getTransceivers()[0].receiver
        assert isinstance(receiver, SoundReceiver)
        receiver.attach(heard.append)

    with pin.installed():
        one, other = await connect(player, attach)
        async with asyncio.timeout(20):
            while len(heard) < PACKETS:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        receiver = other.getTransceivers()[0].receiver
        assert (await receiver.getStats()).values(), "reports to the other side still have something to say"
        await asyncio.gather(one.close(), other.close())
    first = player.packets.index(heard[0].payload) if heard[0].payload in player.packets else 0
    assert all(sound.payload in player.packets for sound in heard)
    assert {later.pts - sound.pts for sound, later in pairwise(heard)} == {960}
    waits_s = [sound.arrived_s - player.left_s[first + number] for number, sound in enumerate(heard)]
    assert np.median(waits_s) < AT_ONCE_S, waits_s


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_stock_holds_sound_back() -> None:
    assert await held_by_stock() > HELD_S


async def test_what_is_no_sound_of_ours_is_counted_and_dropped() -> None:
    heard: list[CodedSound] = []
    with pin.installed():
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        receiver = connection.addTransceiver("audio", direction="recvonly").receiver
    assert isinstance(receiver, SoundReceiver)
    receiver.attach(heard.append)
    codec = type("Codec", (), {"name": "opus", "clockRate": 48_000})()
    receiver.__dict__["_RTCRtpReceiver__codecs"][96] = codec

    async def take(sequence: int, timestamp: int, payload: bytes, payload_type: int = 96, ssrc: int = 1) -> None:
        packet = RtpPacket(payload_type=payload_type, sequence_number=sequence, timestamp=timestamp, ssrc=ssrc)
        packet.payload = payload
        await receiver._handle_rtp_packet(packet, 0)

    await take(1, 0xFFFFFFFF - 959, b"a")
    await take(2, 0, b"b")  # the timestamp wraps
    await take(2, 0, b"b")  # twice
    await take(3, 960, b"")
    await take(4, 960, bytes(MOST_BYTES + 1))
    await take(5, 960, b"c", payload_type=0)  # PCMU
    assert [sound.payload for sound in heard] == [b"a", b"b"]
    assert heard[1].pts - heard[0].pts == 960
    assert (receiver.counters.duplicates, receiver.counters.refused) == (1, 3)
    await take(900, 5_000_000, b"d", ssrc=2)  # a new stream: its clock begins anywhere, ours goes on
    assert 0 < heard[2].pts - heard[1].pts < 48_000
    await connection.close()
