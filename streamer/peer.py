"""One call: an offer in, an answer out, one lifetime. When it ends, however it ends, everything of it is freed."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import (
    InvalidStateError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
)

from engines import Identity, MediaError, Session, SwapSettings
from streamer.audience import Audience
from streamer.call_numbers import Parts, Seconds, count_drops, pressure, way_in, way_out
from streamer.config import GuardSettings
from streamer.decoding.link import DecoderLink
from streamer.decoding.parent import Nursery
from streamer.decoding.picture import DecodedPicture
from streamer.guards.messages import MessageGate, Ping
from streamer.guards.times import Patience
from streamer.mailbox import Latest
from streamer.outlet import add_video
from streamer.quality import Ask, Quality
from streamer.signalling.ice import Ice
from streamer.signalling.negotiation import Line
from streamer.stats import CallStats
from streamer.telemetry import CallTrace
from streamer.tracks import CameraPicture, DelayedSound, SwappedVideo, standby_frame
from streamer.transport.receiver import PictureReceiver
from streamer.transport.sound import CodedSound, SoundReceiver
from streamer.transport.types import CodedPicture
from streamer.transport.watchdog import SilenceWatch
from streamer.worker import Outcome, Seat, Worker

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
LOOK_S = 1.0
CARD_HEIGHT_PX, CARD_WIDTH_PX = 480, 640  # until the camera's size is known
MOST_WAITING_BYTES = 64_000  # of reports that the browser has not fetched


class Peer:
    """One call. Make it on the event loop, `negotiate`, then await `live` in a task of its own.

    Cancelling that task ends the call; `live` returns only when connection, tracks and the worker's seat are freed.
    What is drawn goes back over the same connection (the page) and to its `audience`.
    """

    def __init__(
        self,
        call: str,
        worker: Worker[CameraPicture],
        nursery: Nursery,
        ice: Ice | None = None,
        limits: GuardSettings | None = None,
    ) -> None:
        self.call = call  # a secret
        self.number = 0  # among the server's calls: may be told to anybody
        self.stats = CallStats()
        self.settings = SwapSettings()
        self.identity: str | None = None
        self.engine = self.why = self.ended_because = ""
        self.worker = worker
        self._loop = asyncio.get_running_loop()
        # Always a configuration: without one aiortc asks a third party's STUN server.
        ice = ice or Ice(RTCConfiguration(iceServers=[]))
        self._connection = RTCPeerConnection(ice.configuration)
        self.line = Line(self._connection, f"call {call[:6]}", ice.announce)
        self._mailbox: Latest[CameraPicture] = Latest(worker.wake)
        self._video: SwappedVideo | None = None  # what goes back over this connection, as `_sound`
        self._sound: DelayedSound | None = None
        self.audience = Audience()
        self._has_picture = self.has_sound = False
        self._channel: RTCDataChannel | None = None
        now_s = time.monotonic()
        self._began_s = now_s
        self._trace: CallTrace | None = None
        self._messages = MessageGate(now_s)
        self._patience = Patience(limits or GuardSettings(), now_s)
        self._nursery = nursery
        self._parts = Parts()
        self._silence = SilenceWatch(now_s)
        self._quality = Quality()
        self._pixels = 0  # of one picture as it comes now
        self._scale_in = 1.0  # that was asked for before
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None
        self._seat: Seat[CameraPicture] | None = None

    async def negotiate(self, sdp: str, both_ways: bool = True) -> str:
        """Takes the offer, returns the answer. Raises MediaError, in one line, for an offer that cannot be used.

        both_ways  what is drawn goes back over this connection; else only watchers get it, and the answer is recvonly
        """
        if both_ways:
            card = await asyncio.to_thread(standby_frame, CARD_HEIGHT_PX, CARD_WIDTH_PX)
            self._video = SwappedVideo(self.call, self.stats, card)
            self.audience.watch(self._video)
        self._connection.on("track", self._on_track)
        self._connection.on("datachannel", self._on_channel)
        self._connection.on("connectionstatechange", self._on_state)
        answer = await self.line.answer(sdp)
        if not self._has_picture:
            raise MediaError("the offer sends no picture")
        return answer

    async def use(self, session: Session) -> None:
        """Draws with this session from the next picture on; the one before is closed."""

        def change() -> None:
            if self._over.is_set():
                session.close()
            elif self._seat is None:
                self._seat = Seat(self.call, session, self._mailbox, self._deliver, self._failed)
                self.worker.serve(self._seat)
            else:
                self._seat.use(session)

        await asyncio.wrap_future(self.worker.call(change))
        self.settings, self.engine, self.why = session.settings, session.engine, session.why
        self.identity = session.identity.name if session.identity is not None else None

    async def wear(self, identity: Identity) -> None:
        """Another identity from the next picture on, the call and its tracking go on."""

        def change() -> None:
            if self._seat is not None:
                self._seat.session.set_identity(identity)

        await asyncio.wrap_future(self.worker.call(change))
        self.identity = identity.name

    @property
    def worn(self) -> Identity | None:
        """The identity that is drawn now."""
        return self._seat.session.identity if self._seat is not None else None

    def take_off(self, why: str) -> None:
        """Draws nobody from the next picture on: the standby picture, until another identity is chosen."""
        if self._seat is not None:
            self._seat.session.set_identity(None)
        self.identity, self.why = None, why

    async def live(self) -> None:
        """The call, until it ends: hung up, lost, silent for too long, or this task cancelled."""
        try:
            self._spawn(self._report())
            while not self._over.is_set():
                now_s = time.monotonic()
                why = self._patience.over(now_s)
                if why is not None:
                    self.hang_up(why)
                    break
                try:
                    # Looked at again after a second: what is waited for changes, and a later limit may be nearer.
                    async with asyncio.timeout(min(self._patience.wait_s(now_s), LOOK_S)):
                        await self._over.wait()
                except TimeoutError:
                    continue
        finally:
            await self.close()
            self._tell_end()

    def follow(self, trace: CallTrace) -> None:
        """From now on every picture that is sent, and the call's end, are told to this trace."""
        self._trace = trace
        self.stats.follower = trace.picture

    def _tell_end(self) -> None:
        why = self.ended_because or "the server ended it"
        now_s = time.monotonic()
        age = self.stats.age.quantiles(now_s).as_json()
        summary = {
            "call": self.number,
            "seconds": round(now_s - self._began_s, 1),
            "pictures": sum(self.stats.shown.values()),
            "age_p50_ms": age["p50"],
            "age_p95_ms": age["p95"],
            "faults": self.stats.faults,
        }
        log.info("call %s ended: %s", self.call[:6], why, extra=summary)
        if self._trace is not None:
            self._trace.end(why)

    def hang_up(self, why: str) -> None:
        """Ends the call soon; `live` returns then."""
        self.ended_because = self.ended_because or why
        self._over.set()

    async def close(self) -> None:
        """Frees everything. Safe to call twice, and in the middle of a negotiation that failed."""
        self._over.set()
        self._mailbox.close()  # the worker then frees the seat
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._free())
        # Shielded: a cancelled `close` of aiortc's leaves its connection half open for ever.
        await asyncio.shield(self._closing)

    async def _free(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for track in (self._video, self._sound):
            if track is not None:
                track.stop()
        await self.line.close()
        try:
            await self._connection.close()
        except (AttributeError, InvalidStateError) as error:  # aiortc 1.16, of a connection that is half negotiated
            log.info("call %s: its connection did not close cleanly", self.call[:6], exc_info=error)
        if self._parts.decoder is not None:
            await self._parts.decoder.close()

    def numbers(self) -> dict[str, object]:
        """The call in numbers, for the page and for /metrics."""
        now_s = time.monotonic()
        count_drops(self.stats, self._parts)
        self.stats.dropped["newer_came"] = self._mailbox.dropped
        if self._video is not None:
            self.stats.dropped["replaced"] = self._video.replaced
        if self._sound is not None:
            self.stats.dropped["sound"] = self._sound.dropped
        status = self._video.status if self._video is not None else None
        silence = self._silence.look(now_s)
        return {
            **self.stats.as_json(now_s),
            **way_in(self._parts),
            **way_out(self._parts.sender),
            "engine": self.engine,
            "why": self.why,
            "identity": self.identity,
            "showing": status.value if status is not None else "card",
            "faces": self._video.faces_found if self._video is not None else 0,
            "stuck_ms": round(self.worker.busy_s(now_s) * 1e3),
            "silent": None if silence is None else silence.why,
            "asked": {"fps": self._quality.ask.fps, "scale": self._quality.ask.scale, "why": self._quality.ask.why},
            "sound_delay_ms": round(self._sound.delay_s * 1e3) if self._sound is not None else None,
            "messages_refused": dict(self._messages.refused),
        }

    def _on_track(self, track: MediaStreamTrack) -> None:
        receiver = next(t.receiver for t in self._connection.getTransceivers() if t.receiver.track is track)
        if isinstance(receiver, PictureReceiver) and not self._has_picture:
            self._has_picture = True
            self._parts.camera = receiver
            self._parts.decoder = DecoderLink(
                self._nursery, self._decoded, receiver.request_key, self.hang_up, self.call[:6]
            )
            receiver.attach(_Camera(self._parts.decoder, self._camera_ended))
            self._parts.decoder.start()
            if self._video is not None:
                self._parts.sender = add_video(self._connection, self._video)
        elif isinstance(receiver, SoundReceiver) and not self.has_sound:
            self.has_sound = True
            if self._video is not None:
                self._sound = DelayedSound(self.stats)
                self._connection.addTrack(self._sound)
                self.audience.listen(self._sound)
            receiver.attach(self._heard)

    def _camera_ended(self) -> None:
        self.hang_up("the camera's track ended")

    def _decoded(self, decoded: DecodedPicture) -> None:
        """A picture of the camera: to everybody who shows it, and to the worker, where the newest wins."""
        now_s = time.monotonic()
        self._patience.media(now_s)
        self._silence.picture(now_s)
        self.stats.came_in(now_s)
        self._pixels = decoded.frame.width * decoded.frame.height
        picture = CameraPicture(decoded.frame, decoded.pts, decoded.times)
        for output in self.audience.pictures:
            output.saw(picture)
        self._mailbox.put(picture)

    def _heard(self, sound: CodedSound) -> None:
        for output in self.audience.sounds:
            output.put(sound)

    def _deliver(self, outcome: Outcome[CameraPicture]) -> None:
        for output in self.audience.pictures:
            output.deliver(outcome)

    def _failed(self, error: Exception) -> None:
        """In the worker thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._count_fault)

    def _count_fault(self) -> None:
        self.stats.faults += 1

    def _on_state(self) -> None:
        state = self._connection.connectionState
        log.info("call %s: %s", self.call[:6], state)
        if state == "connected":
            self._patience.connected(time.monotonic())
        if state in ("failed", "closed"):
            self.hang_up("the connection was lost" if state == "failed" else "the other side hung up")

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if self._channel is None and channel.label == "numbers":
            self._channel = channel
            channel.on("message", self._on_message)

    def _on_message(self, message: object) -> None:
        """What the page says. Its clock question is answered at once, so that it can tell how the clocks stand."""
        said = self._messages.take(message, time.monotonic())
        if isinstance(said, Ping):
            self._send({"pong_ms": said.ping_ms, "server_ms": time.monotonic() * 1e3})

    async def _report(self) -> None:
        """Once a second: the numbers, when the pictures that were sent had come in, what the camera is asked for."""
        seconds = Seconds()
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            now_s = time.monotonic()
            camera, sender, video = self._parts.camera, self._parts.sender, self._video
            grown = seconds.step(
                now_s,
                bytes_in=camera.counters.bytes if camera is not None else 0,
                bytes_out=sender.counters.bytes if sender is not None else 0,
                pictures_in=self._mailbox.received,
                overtaken=self._mailbox.dropped,
            )
            self.stats.bits_per_s_in, self.stats.bits_per_s = 8 * grown["bytes_in"], 8 * grown["bytes_out"]
            if camera is not None and camera.last_packet_s is not None:
                self._silence.packet(camera.last_packet_s)
            share = self.worker.load.share(now_s)
            self._ask(self._quality.look(now_s, pressure(self._parts, share, grown, self._pixels)))
            if video is None or sender is None:
                continue
            pictures = [[pts, round(captured_s * 1e3, 1)] for pts, captured_s in video.sent_pictures]
            video.sent_pictures.clear()
            self._send({"numbers": self.numbers(), "pictures": pictures, "rtp_origin": sender.rtp_origin})

    def _ask(self, ask: Ask | None) -> None:
        """Asks the page for fewer or smaller pictures, and any other sender by the bit rate that it may use."""
        if ask is None:
            return
        log.info("call %s: asks for %d pictures a second, scale %.1f: %s", self.call[:6], ask.fps, ask.scale, ask.why)
        self._send({"ask": {"fps": ask.fps, "scale": ask.scale}})
        if self._parts.camera is not None:
            full_pixels = round(self._pixels * self._scale_in**2)
            self._parts.camera.feedback.cap(ask.bits_per_s(full_pixels) if ask.why else None)
        self._scale_in = ask.scale

    def _send(self, message: dict[str, Any]) -> None:
        channel = self._channel
        if channel is not None and channel.readyState == "open" and channel.bufferedAmount < MOST_WAITING_BYTES:
            channel.send(json.dumps(message))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("call %s: a task failed", self.call[:6], exc_info=error)
            self.hang_up("an internal error")


class _Camera:
    """The sink of the camera's receiver: pictures go to the decoder, the end goes to the call."""

    def __init__(self, decoder: DecoderLink, ended: Callable[[], None]) -> None:
        self._decoder, self._ended = decoder, ended

    def coded(self, picture: CodedPicture) -> None:
        self._decoder.coded(picture)

    def ended(self) -> None:
        self._decoder.ended()
        self._ended()
