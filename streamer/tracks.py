"""Media tracks: the only file that knows aiortc's tracks and av's frames.

Out: tracks that senders ask for the next frame. In: pictures come from a decoder in a process of its own (decoding/),
sounds as they are. Pixels are converted in the worker thread only.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import VIDEO_TIME_BASE, MediaStreamError
from av.packet import Packet
from av.video.frame import VideoFrame

from engines import Rgb, Status, rgb_to_yuv420, standby_card
from streamer.mailbox import Closed, Latest
from streamer.pacing import Curtain, SoundDelay, Verdict
from streamer.stats import CallStats
from streamer.transport.sound import SOUND_CLOCK_HZ, CodedSound
from streamer.transport.types import EncodedPicture, PictureTimes
from streamer.worker import Outcome

MOST_SOUNDS = 50  # one second of 20 ms frames
SOUND_TIME_BASE = Fraction(1, SOUND_CLOCK_HZ)
MOST_SENT_NOTES = 120
MOST_GIVEN = 8
CARD_TEXT = "One moment, please"


@dataclass(frozen=True, slots=True)
class CameraPicture:
    """A decoded picture as it came in. `pts` counts 1/90,000 s."""

    frame: VideoFrame  # may lie in memory that others wait for: nobody keeps it longer than the picture
    pts: int
    times: PictureTimes

    @property
    def captured_s(self) -> float:
        """When its first packet arrived, monotonic seconds: what its age is counted from."""
        return self.times.first_packet_s

    def to_rgb(self) -> Rgb:
        """uint8 [H, W, 3]. Costs a conversion: in the worker thread only."""
        rgb = self.frame.reformat(format="rgb24", threads=1)
        return np.ascontiguousarray(rgb.to_ndarray(), np.uint8)


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture that may leave the machine, converted for the encoder, with the clock of the picture it was made of."""

    frame: VideoFrame
    status: Status
    pts: int
    times: PictureTimes
    faces_found: int
    took_ms: float


def to_frame(rgb_HW3: Rgb, pts: int, time_base: Fraction) -> VideoFrame:
    """uint8 [H, W, 3], sides even -> what an encoder takes (planar 4:2:0). In the worker thread only."""
    frame = VideoFrame(rgb_HW3.shape[1], rgb_HW3.shape[0], "yuv420p")
    y_HW, u_hw, v_hw = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes
    )
    rgb_to_yuv420(rgb_HW3, y_HW, u_hw, v_hw)
    frame.pts, frame.time_base = pts, time_base
    return frame


def standby_frame(height_px: int, width_px: int) -> VideoFrame:
    """The standby card, ready for the encoder."""
    card = np.ascontiguousarray(standby_card(height_px, width_px, CARD_TEXT))
    return to_frame(card, 0, VIDEO_TIME_BASE)


class SwappedVideo(MediaStreamTrack):
    """The outgoing picture: the newest result while it is young, else the standby card. Never the camera's picture.

    It knows nothing of the engine, so it does not matter whether that raises, stalls, or was never loaded.
    `deliver` is called in the worker thread, everything else on the event loop.
    """

    kind = "video"

    def __init__(self, call: str, stats: CallStats, card: VideoFrame, curtain: Curtain | None = None) -> None:
        super().__init__()
        self.status: Status | None = None  # of the last picture sent; None: the standby card
        self.faces_found = 0
        self.sent_pictures: deque[tuple[int, float]] = deque(maxlen=MOST_SENT_NOTES)  # (pts, captured_s)
        self._call = call
        self._stats = stats
        self._card = card
        self._curtain = curtain or Curtain()
        self._event_loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._slot: Latest[DrawnPicture] = Latest(self._wake)
        self._newest_in: tuple[int, float] | None = None  # pts and when it was captured
        self._given: OrderedDict[int, DrawnPicture] = OrderedDict()  # to the sender, by pts: not yet said to be sent

    @property
    def replaced(self) -> int:
        """Pictures that a newer one replaced before the encoder asked for them."""
        return self._slot.dropped

    def saw(self, picture: CameraPicture) -> None:
        """A picture came in: from its clock the standby card gets its timestamp, whatever the worker does."""
        self.saw_at(picture.pts, picture.captured_s)

    def saw_at(self, pts: int, captured_s: float) -> None:
        """As `saw`, for a picture that came from elsewhere."""
        if self._newest_in is None:
            self._curtain.begin(captured_s)
            self._changed.set()
        self._newest_in = (pts, captured_s)

    def deliver(self, outcome: Outcome[CameraPicture]) -> None:
        """Takes what the worker made. In the worker thread: converts for the encoder here."""
        if outcome.call != self._call:
            raise RuntimeError(f"a picture of call {outcome.call} was delivered to call {self._call}")
        picture, result = outcome.picture, outcome.result
        frame = self._converted(result.rgb_HW3, picture.pts)
        times = picture.times.at(taken_s=outcome.taken_s, drawn_s=time.monotonic())
        self._slot.put(DrawnPicture(frame, result.status, picture.pts, times, result.faces_found, outcome.took_ms))

    def show(self, rgb_HW3: Rgb, status: Status, pts: int, times: PictureTimes) -> None:
        """Takes a picture that may leave, uint8 [H, W, 3], from whoever drew it. In that one's thread."""
        self._slot.put(DrawnPicture(self._converted(rgb_HW3, pts), status, pts, times, 0, 0.0))

    def _converted(self, rgb_HW3: Rgb, pts: int) -> VideoFrame:
        frame = to_frame(rgb_HW3, pts, VIDEO_TIME_BASE)
        if (frame.height, frame.width) != (self._card.height, self._card.width):
            self._card = standby_frame(frame.height, frame.width)
        return frame

    def times_of(self, frame: VideoFrame) -> PictureTimes | None:
        """For the sender: the times of a frame that `recv` gave it; None for the standby card."""
        picture = self._given.get(frame.pts) if frame.pts is not None else None
        return picture.times if picture is not None else None

    def sent(self, encoded: EncodedPicture) -> None:
        """For the sender: this picture is out, its times are complete."""
        picture = self._given.pop(encoded.rtp_timestamp, None)
        if picture is not None and encoded.times.sent_s is not None:
            self.sent_pictures.append((picture.pts, encoded.times.first_packet_s))
            self._stats.went_out(encoded.times, picture.status.value)

    async def recv(self) -> VideoFrame:
        """The next frame for the encoder. Raises MediaStreamError after the end."""
        while self.readyState == "live":
            self._changed.clear()
            frame = self._next(time.monotonic())
            if frame is not None:
                return frame
            await _set_within(self._changed, self._curtain.wait_s(time.monotonic()))
        raise MediaStreamError

    def stop(self) -> None:
        super().stop()
        self._slot.close()
        self._changed.set()

    def _next(self, now_s: float) -> VideoFrame | None:
        try:
            picture = self._slot.poll()
        except Closed:
            return None
        if picture is not None:
            self.faces_found = picture.faces_found
            self._stats.step.add(now_s, picture.took_ms)
            verdict = self._curtain.judge(picture.status, picture.times.first_packet_s, picture.pts, now_s)
            if verdict is Verdict.SEND:
                self.status = picture.status
                self._given[picture.pts] = picture
                while len(self._given) > MOST_GIVEN:  # by a sender that drops what it cannot send
                    self._given.popitem(last=False)
                return picture.frame
            self._stats.dropped[verdict.value] += 1
        return self._fallen_card(now_s)

    def _fallen_card(self, now_s: float) -> VideoFrame | None:
        """The standby card where it is due."""
        if self._newest_in is None or self._curtain.wait_s(now_s) > 0:
            return None
        # Stamped as the oldest picture that may still be sent, so that none that is on its way comes too late.
        pts, captured_s = self._newest_in
        since_s = now_s - captured_s - self._curtain.hold_s
        card = self._card
        card.pts = self._curtain.card(pts + int(since_s / VIDEO_TIME_BASE), now_s)
        card.time_base = VIDEO_TIME_BASE  # the encoder changed it when the card was sent before
        self.status = None
        self._stats.card_went_out()
        return card

    def _wake(self) -> None:
        """From the worker thread. A loop that has ended needs no waking."""
        if not self._event_loop.is_closed():
            self._event_loop.call_soon_threadsafe(self._changed.set)


class DelayedSound(MediaStreamTrack):
    """The outgoing sound: the packets that came in, held back until the picture of the same moment leaves."""

    kind = "audio"

    def __init__(self, stats: CallStats) -> None:
        super().__init__()
        self.dropped = 0
        self._stats = stats
        self._held: deque[CodedSound] = deque()
        self._changed = asyncio.Event()
        self._delay = SoundDelay()

    @property
    def delay_s(self) -> float:
        """For how long sound is held back now."""
        return self._delay.delay_s

    def put(self, sound: CodedSound) -> None:
        """Keeps the sound until its time; the oldest is dropped and counted where too much is waiting."""
        if len(self._held) == MOST_SOUNDS:
            self._held.popleft()
            self.dropped += 1
        self._held.append(sound)
        self._changed.set()

    async def recv(self) -> Packet[Any]:
        """The next sound whose time has come, still coded. Raises MediaStreamError after the end."""
        while self.readyState == "live":
            now_s = time.monotonic()
            age = self._stats.age_lately.quantiles(now_s)
            delay_s = self._delay.follow(age.p50_ms / 1e3 if age.count else None, now_s)
            if self._held and self._held[0].arrived_s + delay_s <= now_s:
                return _packet_of(self._held.popleft())
            wait_s = self._held[0].arrived_s + delay_s - now_s if self._held else None
            self._changed.clear()
            await _set_within(self._changed, wait_s)
        raise MediaStreamError

    def stop(self) -> None:
        super().stop()
        self._held.clear()
        self._changed.set()


async def _set_within(changed: asyncio.Event, wait_s: float | None) -> None:
    """Waits until something changed, or for so long; None: until then."""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await changed.wait()


def _packet_of(sound: CodedSound) -> Packet[Any]:
    packet = Packet(sound.payload)
    packet.pts, packet.time_base = sound.pts, SOUND_TIME_BASE
    return packet
