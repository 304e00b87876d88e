"""What the others get: drawn pictures and sound, handed to whatever connection there is just now.

A sink of `streamer.live`, and a source of `streamer.viewer`: connections come and go, this stays. Only pictures that a
session made and standby cards come in here; the camera's own never do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError

from engines import Rgb, Status
from streamer.audience import Audience
from streamer.camera.sink import PixelFormat, Shape
from streamer.capture.picture import SOUND_RATE_HZ, SOUND_SAMPLES, CapturedSound
from streamer.transport.sound import CodedSound
from streamer.transport.types import RTP_CLOCK_HZ, PictureTimes

log = logging.getLogger(__name__)

SOUND_BITS_PER_S = 64_000
GAP_S = 0.06  # of missing sound from which on the timestamps jump
EARLY_S = 0.05  # files give sound before its time, some of them much
MOST_EARLY = 500  # sounds, 10 s
LOOKAHEAD_S = 312 / SOUND_RATE_HZ  # by which libopus's output is later than its input (application audio)


class Ear(Protocol):
    """Who takes sound as it was captured, in the source's thread."""

    def __call__(self, sound: CapturedSound) -> None: ...


class OpusCoder:
    """20 ms of sound to one packet of Opus. In one thread."""

    def __init__(self) -> None:
        context = AudioCodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = SOUND_RATE_HZ, "stereo", "s16"
        context.time_base, context.bit_rate = Fraction(1, SOUND_RATE_HZ), SOUND_BITS_PER_S
        context.options = {"frame_duration": "20", "application": "audio", "packet_loss": "5"}
        context.open()
        self._context = context
        self._next: int | None = None  # sample, counted on the clock of the pictures

    def code(self, sound: CapturedSound) -> list[CodedSound]:
        """Nothing where the coder wants more first. `arrived_s`: the moment that is heard in the packet.

        Timestamps go on without a gap, whatever the source's own clock does (a file that begins again), and jump only
        where sound is really missing.
        """
        wanted = round(sound.captured_s * SOUND_RATE_HZ)
        if self._next is None or wanted - self._next > GAP_S * SOUND_RATE_HZ:
            self._next = wanted
        start, self._next = self._next, self._next + SOUND_SAMPLES
        sound.frame.pts = start
        packets = self._context.encode(sound.frame)
        moment_s = sound.captured_s - LOOKAHEAD_S
        return [CodedSound(bytes(packet), start, moment_s) for packet in packets if packet.size]


class Outgoing:
    """Made on the event loop. `write` and `hear` come from other threads, one each; the rest is the loop's.

    As `streamer.viewer.Shown` it has an audience, as `streamer.camera.sink.Sink` it is
    opened and written to.
    """

    def __init__(self, name: str, has_sound: bool = True) -> None:
        self.call = name
        self.has_sound = has_sound
        self.is_card: Callable[[], bool] = lambda: False  # asked while a picture is written
        self.counts: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self.audience = Audience()
        self._coder: OpusCoder | None = None
        self._early = 0  # sounds whose time has not come
        self._ears: tuple[Ear, ...] = ()
        self._eyes: tuple[Callable[[Rgb, float, bool], None], ...] = ()

    def tee(self, eye: Callable[[Rgb, float, bool], None], ear: Ear) -> None:
        """Pictures and sounds as they are, for who codes them himself.

        A picture: uint8 [H, W, 3], when it was captured, whether it is the standby card.
        """
        self._eyes, self._ears = (*self._eyes, eye), (*self._ears, ear)

    # streamer.camera.sink.Sink

    @property
    def name(self) -> str:
        return self.call

    def open(self, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat | None) -> Shape:
        return Shape(width_px, height_px, fps, pixel_format or "i420")

    def readers(self) -> int | None:
        return None  # a room that is lost for a second must not cost a second of warming up

    def write(self, rgb_HW3: Rgb, captured_s: float) -> None:
        """A picture that may be seen. In the output's thread: it is converted for the encoder here."""
        is_card = self.is_card()
        self.counts["cards" if is_card else "pictures"] += 1
        for eye in self._eyes:
            eye(rgb_HW3, captured_s, is_card)
        times = PictureTimes(captured_s, captured_s, drawn_s=time.monotonic())
        pts = round(captured_s * RTP_CLOCK_HZ)
        for output in self.audience.pictures:
            if not is_card:  # its own card falls at the same moment, with a timestamp that suits what is on its way
                output.show(rgb_HW3, Status.DRAWN, pts, times)
            self._on_loop(output.saw_at, pts, captured_s)

    def close(self) -> None:
        """Nothing more comes. The connections end by themselves."""

    # Sound

    def hear(self, sound: CapturedSound) -> None:
        """Sound as it was captured. In the source's thread: it is coded here."""
        self.counts["sounds"] += 1
        for ear in self._ears:
            ear(sound)
        if not self.audience.sounds and self._coder is None:
            return
        if sound.frame.samples != SOUND_SAMPLES:
            self.counts["sounds_odd"] += 1
            return
        try:
            self._coder = self._coder or OpusCoder()
            coded = self._coder.code(sound)
        except (FFmpegError, ValueError) as error:
            if not self.counts["sounds_lost"]:
                log.warning("sound cannot be coded: %s", error)
            self.counts["sounds_lost"] += 1
            self._coder = None
            return
        for one in coded:
            self._on_loop(self._keep, one)

    def _keep(self, sound: CodedSound) -> None:
        """Until its time has come: the outputs hold back a second of it only."""
        early_s = sound.arrived_s - time.monotonic()
        if early_s <= EARLY_S:
            self._put(sound)
        elif self._early >= MOST_EARLY:
            self.counts["sounds_too_early"] += 1
        else:
            self._early += 1
            self._loop.call_later(early_s, self._put_later, sound)

    def _put_later(self, sound: CodedSound) -> None:
        self._early -= 1
        self._put(sound)

    def _put(self, sound: CodedSound) -> None:
        for output in self.audience.sounds:
            output.put(sound)

    def _on_loop(self, function: Callable[..., Any], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)
