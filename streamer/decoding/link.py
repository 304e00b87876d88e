"""The server's end of one call's decoder: never blocks, is bounded, and outlives every decoder process.

Coded pictures go out as the process takes them, decoded ones come back on the event loop. A process that dies, hangs,
has to allocate all the time or writes nonsense is ended and replaced, and the sender is asked for a key frame; where
that happens too often the call is told. Event loop only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from streamer.decoding.backlog import Backlog
from streamer.decoding.health import Restarts, SizeStorm
from streamer.decoding.parent import Child, NoDecoder, Nursery
from streamer.decoding.picture import DecodedPicture
from streamer.decoding.wire import ANSWER_BYTES, CODECS, HELLO, Answer, Job, Kind, next_number
from streamer.transport.types import CodedPicture

log = logging.getLogger(__name__)

MOST_AT_DECODER = 2  # one in work, one behind it in the socket
STUCK_S = 4.0  # a picture takes some 2 ms; a machine may be very busy, a decoder never this much
DIE_S = 1.0
MOST_READ_BYTES = 64 * ANSWER_BYTES


@dataclass(frozen=True, slots=True)
class DecoderCounters:
    """What one call's decoder has counted since it began."""

    coded: int = 0  # pictures that came in
    decoded: int = 0
    refused: int = 0  # coded pictures that could not be decoded
    dropped_behind: int = 0  # coded pictures dropped because the decoder was behind
    dropped_for_key: int = 0  # coded pictures dropped because one before them is missing
    dropped_skipped: int = 0  # coded pictures dropped because a key frame came behind them
    dropped_no_slot: int = 0  # decoded pictures dropped because all shared memory is in use
    size_changes: int = 0
    restarts: int = 0
    decode_ms: float = 0.0  # of all pictures together, in the decoder process


class DecoderLink:
    """One call's decoder. It is a `PictureSink`: give it to the receiver, and it hands `deliver` what it decodes.

    deliver      takes each picture, in order, on the event loop
    request_key  asks the sender for a key frame, as often as it is wanted: who passes it keeps the limit
    failed       is told once, in a sentence, that there will be no more pictures
    """

    def __init__(
        self,
        nursery: Nursery,
        deliver: Callable[[DecodedPicture], None],
        request_key: Callable[[str], None],
        failed: Callable[[str], None],
        call: str = "",
    ) -> None:
        self._nursery, self._deliver, self._request_key, self._failed = nursery, deliver, request_key, failed
        self._call = call[:6]
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog()
        self._storm, self._restarts = SizeStorm(), Restarts()
        self._counters = DecoderCounters()
        self._number = 0
        self._over = False
        self._child: Child | None = None
        self._at_decoder: dict[int, tuple[CodedPicture, float]] = {}
        self._to_send = b""
        self._read = b""
        self._watch: asyncio.TimerHandle | None = None
        self._dying: set[asyncio.Task[None]] = set()

    def coded(self, picture: CodedPicture) -> None:
        """Takes a picture to decode, or drops it. Never blocks."""
        if self._over:
            return
        now_s = time.monotonic()
        self._counters = replace(self._counters, coded=self._counters.coded + 1)
        if picture.codec not in CODECS:
            self._give_up(f"there is no decoder for {picture.codec}")
            return
        why = self._backlog.add(picture, now_s)
        if why is not None:
            self._request_key(why)
        self._feed()

    def ended(self) -> None:
        """The track is over. Nothing is decoded any more; `close` frees the rest."""
        self._over = True

    def start(self) -> None:
        """Starts the process before the first picture comes."""
        if self._child is None and not self._over:
            try:
                self._child = self._nursery.fork()
            except (NoDecoder, OSError) as error:
                self._give_up(str(error))
                return
            self._loop.add_reader(self._child.link, self._readable)

    def counters(self) -> DecoderCounters:
        backlog = self._backlog
        return replace(
            self._counters,
            dropped_behind=backlog.dropped_full,
            dropped_for_key=backlog.dropped_for_key,
            dropped_skipped=backlog.skipped,
            size_changes=self._storm.changes,
            restarts=self._restarts.count,
        )

    async def close(self) -> None:
        """Ends the process and waits until it is gone. Safe to call twice."""
        self._over = True
        self._drop_child()
        if self._dying:
            await asyncio.wait(self._dying)

    def _feed(self) -> None:
        """Gives the process what it can take now."""
        while len(self._at_decoder) < MOST_AT_DECODER and not self._to_send:
            picture = self._backlog.take()
            if picture is None:
                return
            self.start()
            if self._child is None:
                return
            self._number = next_number(self._number)
            freed = self._child.slots.take_freed()
            job = Job(self._number, len(picture.payload), CODECS.index(picture.codec), freed)
            self._at_decoder[self._number] = (picture, time.monotonic())
            self._to_send = job.pack() + picture.payload
            self._send()
            self._watch_it()

    def _send(self) -> None:
        child = self._child
        if child is None:
            return
        try:
            sent = child.link.send(self._to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._replace("it died")
            return
        waiting, self._to_send = bool(self._to_send), self._to_send[sent:]
        if self._to_send:
            self._loop.add_writer(child.link, self._writable)
        elif waiting:
            self._loop.remove_writer(child.link)

    def _writable(self) -> None:
        self._send()
        self._feed()

    def _readable(self) -> None:
        child = self._child
        if child is None:
            return
        try:
            if child.greets:
                self._greet(child)
                return
            data = child.link.recv(MOST_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._replace("it died")
            return
        self._read += data
        pictures, lie = self._take_all(child)
        if lie is not None:
            self._replace(lie)
        else:
            self._feed()  # before the pictures are looked at: so the decoder is at work meanwhile
        for picture in pictures:
            if not self._over:
                self._deliver(picture)

    def _greet(self, child: Child) -> None:
        """Its first message, sent before it has seen a byte of the call: the handle to end it with."""
        message, fds, _, _ = socket.recv_fds(child.link, len(HELLO), 1)
        child.greets = False
        if len(fds) == 1:
            child.pidfd = fds[0]
        if message != HELLO or child.pidfd < 0:
            self._replace("it died at its start" if not message else "it does not say hello")

    def _take_all(self, child: Child) -> tuple[list[DecodedPicture], str | None]:
        """Every answer that has come: the pictures, and what is wrong with an answer that makes no sense."""
        pictures = []
        try:
            while len(self._read) >= ANSWER_BYTES:
                answer, self._read = Answer.unpack(self._read[:ANSWER_BYTES]), self._read[ANSWER_BYTES:]
                picture = self._take(child, answer)
                if picture is not None:
                    pictures.append(picture)
        except ValueError as error:
            return pictures, str(error)
        return pictures, None

    def _take(self, child: Child, answer: Answer) -> DecodedPicture | None:
        """One answer. Raises ValueError for one that makes no sense."""
        if answer.kind is Kind.HELD:
            self._nursery.note_held(answer.slot)
            return None
        if answer.number not in self._at_decoder:
            raise ValueError("a decoder answered what nobody asked")
        picture, _ = self._at_decoder[answer.number]
        if answer.kind is Kind.PICTURE:
            return self._take_picture(child, answer, picture)
        del self._at_decoder[answer.number]
        counted = self._counters
        self._counters = replace(counted, decode_ms=counted.decode_ms + answer.took_us / 1e3)
        if answer.kind is Kind.REFUSED:
            self._counters = replace(self._counters, refused=counted.refused + 1)
            self._request_key("a picture could not be decoded")
        elif answer.kind is Kind.NO_SLOT:
            self._counters = replace(self._counters, dropped_no_slot=counted.dropped_no_slot + 1)
        return None

    def _take_picture(self, child: Child, answer: Answer, picture: CodedPicture) -> DecodedPicture:
        now_s = time.monotonic()
        if self._storm.saw(picture.codec, answer.height_px, answer.width_px, now_s):
            raise ValueError("the sender changes the size of its pictures all the time")
        frame = child.slots.frame(answer, picture.rtp_timestamp)
        self._counters = replace(self._counters, decoded=self._counters.decoded + 1)
        return DecodedPicture(frame, picture.rtp_timestamp, picture.times.at(decoded_s=now_s))

    def _watch_it(self) -> None:
        if self._watch is None and self._at_decoder:
            self._watch = self._loop.call_later(STUCK_S, self._check)

    def _check(self) -> None:
        self._watch = None
        if self._at_decoder:
            _, since_s = next(iter(self._at_decoder.values()))
            if time.monotonic() - since_s >= STUCK_S:
                self._replace("it did not answer")
                return
            self._watch_it()

    def _replace(self, why: str) -> None:
        """Ends the process and, unless that happened too often, goes on with another from the next key frame."""
        log.warning("call %s: the decoder was ended: %s", self._call, why)
        self._drop_child()
        if self._over:
            return
        if not self._restarts.allow(time.monotonic()):
            self._give_up("the camera's pictures cannot be decoded")
            return
        self._backlog.reset()
        self.start()
        self._request_key("the decoder was replaced")

    def _give_up(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._drop_child()
            self._failed(why)

    def _drop_child(self) -> None:
        child, self._child = self._child, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._at_decoder.clear()
        self._to_send = self._read = b""
        self._storm.restart()
        if child is not None:
            self._loop.remove_reader(child.link)
            self._loop.remove_writer(child.link)
            child.kill()
            if child.pidfd >= 0:
                task = self._loop.create_task(_gone(child, self._loop))
                self._dying.add(task)
                task.add_done_callback(self._dying.discard)


async def _gone(child: Child, loop: asyncio.AbstractEventLoop) -> None:
    """Waits until the process is gone, then closes its handle."""
    gone = asyncio.Event()
    loop.add_reader(child.pidfd, gone.set)
    try:
        async with asyncio.timeout(DIE_S):
            await gone.wait()
    except TimeoutError:
        log.warning("a decoder process that was killed is still there")
    finally:
        loop.remove_reader(child.pidfd)
        child.forget()
