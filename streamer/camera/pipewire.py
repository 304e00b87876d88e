"""A camera of PipeWire's: a node of class Video/Source with the role Camera, which sandboxed programs see too.

Portals (Flatpak and Snap programs, Firefox on Fedora) list PipeWire's cameras and not always v4l2loopback's. The node
drives its own clock: each picture that is written wakes the readers once. While nobody is linked the stream is paused,
and that is known at once, so that nothing has to be drawn for nobody.

Threads: `write` belongs to one thread. libpipewire's own thread calls back: it takes the newest picture, and never
waits for Python code that waits for it. A further thread, the keeper, makes the node anew when PipeWire went away.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from engines import Rgb
from streamer.camera import pipewire_library as pw
from streamer.camera import pods
from streamer.camera.layouts import LAYOUTS, Bytes, picture_bytes, row_bytes
from streamer.camera.sink import PixelFormat, Shape
from streamer.errors import SinkError

log = logging.getLogger(__name__)

RETRY_S = 1.0
START = "systemctl --user start pipewire wireplumber"
TO_PIPEWIRE: Mapping[PixelFormat, str] = MappingProxyType({"i420": "I420", "nv12": "NV12", "yuyv": "YUY2"})
FROM_PIPEWIRE: Mapping[str, PixelFormat] = MappingProxyType({theirs: ours for ours, theirs in TO_PIPEWIRE.items()})


@dataclass(slots=True)
class Counts:
    """What became of the pictures. Each is written by one thread and may be read by any."""

    written: int = 0
    unwatched: int = 0  # of these, thrown away because nobody was linked
    delivered: int = 0  # put into a reader's buffer
    no_buffer: int = 0  # not put there, for the reader held all of its buffers
    returns: int = 0  # times the node was made anew after PipeWire went away


@dataclass(slots=True)
class _Seen:
    """What callbacks and callers both see; each field is replaced whole."""

    state: int = pw.UNCONNECTED
    error: str = ""
    pixels: PixelFormat | None = None  # what the reader settled on
    picture: tuple[PixelFormat, Bytes, int] | None = None  # the newest, and the moment of its writing (ns)
    sequence: int = 0
    lost: threading.Event = field(default_factory=threading.Event)


class PipeWireSink:
    """A `Sink`: a camera that PipeWire's programs find under `label`."""

    def __init__(self, label: str = "vividstream") -> None:
        self.label = label
        self.counts = Counts()
        self._seen = _Seen()
        self._shape: Shape | None = None
        self._offer = b""
        self._loop: int | None = None
        self._stream: int | None = None
        self._ending = threading.Event()
        self._keeper: threading.Thread | None = None
        self._events = pw.StreamEvents(
            version=pw.STREAM_EVENTS_VERSION,
            state_changed=pw.StateChanged(self._on_state),
            param_changed=pw.ParamChanged(self._on_param),
            process=pw.Process(self._on_process),
        )

    @property
    def name(self) -> str:
        return f'PipeWire camera "{self.label}"'

    @property
    def there(self) -> bool:
        """Whether other programs can find the camera now."""
        return self._seen.state in (pw.PAUSED, pw.STREAMING)

    @property
    def node_id(self) -> int | None:
        """Number of the node in PipeWire's graph, as `pw-cli info` takes it."""
        if self._loop is None:
            return None
        with self._locked():
            found = pw.ANY if self._stream is None else int(pw.library().pw_stream_get_node_id(self._stream))
        return None if found == pw.ANY else found

    def open(self, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat | None = None) -> Shape:
        """Makes the node. Readers choose among the pixel formats; the Shape names the one that is preferred."""
        if self._loop is not None:
            raise SinkError(f"{self.name} is open already")
        if width_px % 2 or height_px % 2 or min(width_px, height_px) < 2:
            raise SinkError(f"a camera of {width_px}x{height_px} cannot be: both sides must be even")
        formats = tuple(name for name in _without_padding(width_px) if pixel_format in (None, name))
        if not formats:
            raise SinkError(f"{pixel_format} cannot be {width_px} pixels wide for all readers; take yuyv")
        library = pw.library()
        self._offer = pods.offered_format([TO_PIPEWIRE[name] for name in formats], width_px, height_px, round(fps))
        self._shape = Shape(width_px, height_px, float(round(fps)), formats[0])
        self._ending.clear()
        self._loop = library.pw_thread_loop_new(b"vividstream", None)
        if not self._loop or library.pw_thread_loop_start(self._loop) < 0:
            raise SinkError("PipeWire: its loop did not start")
        try:
            self._connect()
        except SinkError:
            self._end_loop()
            raise
        self._keeper = threading.Thread(target=self._keep, name="pipewire-keeper", daemon=True)
        self._keeper.start()
        return self._shape

    def write(self, rgb_HW3: Rgb, captured_s: float) -> None:
        """Shows the picture to all who read; where nobody does, nothing is even converted.

        Readers get the moment of writing as its time, not `captured_s`: those that keep time would drop it as late.
        While PipeWire is away pictures are thrown away; the node comes back by itself.
        """
        seen, shape = self._seen, self._shape
        if shape is None:
            raise SinkError(f"{self.name} is not open")
        if rgb_HW3.shape != (shape.height_px, shape.width_px, 3) or rgb_HW3.dtype != np.uint8:
            raise ValueError(f"picture {rgb_HW3.shape} {rgb_HW3.dtype}, {shape.height_px}x{shape.width_px} is wanted")
        self.counts.written += 1
        pixels = seen.pixels
        if seen.state != pw.STREAMING or pixels is None:
            self.counts.unwatched += 1
            return
        laid_out = LAYOUTS[pixels](rgb_HW3)
        with self._locked():
            if self._stream is not None and seen.state == pw.STREAMING:
                seen.picture = (pixels, laid_out, time.monotonic_ns())
                pw.library().pw_stream_trigger_process(self._stream)

    def readers(self) -> int | None:
        """1 where any program reads, 0 where none does: PipeWire tells whether, not how many."""
        return int(self._seen.state == pw.STREAMING)

    def close(self) -> None:
        if self._keeper is not None:
            self._ending.set()
            self._seen.lost.set()
            self._keeper.join()
            self._keeper = None
            self._disconnect()
            self._end_loop()

    def _connect(self) -> None:
        """Makes the node. Raises SinkError: PipeWire does not run, or refuses."""
        library, seen = pw.library(), self._seen
        properties = {
            "media.class": "Video/Source",
            "media.role": "Camera",
            "media.name": self.label,
            "node.name": self.label,
            "node.description": self.label,
        }
        with self._locked():
            seen.error, seen.state, seen.picture, seen.pixels = "", pw.CONNECTING, None, None
            seen.lost.clear()
            self._stream = library.pw_stream_new_simple(
                library.pw_thread_loop_get_loop(self._loop),
                self.label.encode(),
                library.pw_properties_new_string(json.dumps(properties).encode()),
                ctypes.byref(self._events),
                None,
            )
            code = -1
            if self._stream:
                offers = pw.pointers((self._offer,))
                code = library.pw_stream_connect(
                    self._stream, pw.OUTPUT, pw.ANY, pw.DRIVER | pw.MAP_BUFFERS, offers, len(offers)
                )
        if code < 0:
            self._disconnect()
            raise SinkError(f"PipeWire does not run for this user; {START}")

    def _disconnect(self) -> None:
        with self._locked():
            stream, self._stream = self._stream, None
            if stream:
                pw.library().pw_stream_destroy(stream)
            self._seen.state, self._seen.pixels, self._seen.picture = pw.UNCONNECTED, None, None

    def _end_loop(self) -> None:
        library = pw.library()
        library.pw_thread_loop_stop(self._loop)
        library.pw_thread_loop_destroy(self._loop)
        self._loop, self._shape = None, None

    def _keep(self) -> None:
        """Makes the node anew when PipeWire went away, as often as it takes."""
        while not self._ending.is_set():
            self._seen.lost.wait()
            if self._ending.is_set():
                return
            log.warning("%s: PipeWire went away (%s); the camera returns with it", self.name, self._seen.error or "?")
            self._disconnect()
            while not self._ending.wait(RETRY_S):
                try:
                    self._connect()
                except SinkError:
                    continue
                self.counts.returns += 1
                break

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The loop's lock, which its callbacks hold: no callback runs meanwhile."""
        pw.library().pw_thread_loop_lock(self._loop)
        try:
            yield
        finally:
            pw.library().pw_thread_loop_unlock(self._loop)

    # Called by libpipewire, in its own thread, which holds the loop's lock.

    def _on_state(self, _data: object, _old: int, state: int, error: bytes | None) -> None:
        seen = self._seen
        seen.state = state
        if state != pw.STREAMING:
            seen.picture = None  # the next reader is not shown an old one
            if state == pw.PAUSED and self._stream is not None:
                pw.library().pw_stream_flush(self._stream, False)
        if state in (pw.ERROR, pw.UNCONNECTED) and self._stream is not None:
            seen.error = (error or b"").decode(errors="replace")
            seen.lost.set()

    def _on_param(self, _data: object, kind: int, pod: int | None) -> None:
        if kind != pods.PARAM_FORMAT:
            return
        seen, shape = self._seen, self._shape
        seen.pixels, seen.picture = None, None
        if pod is None or shape is None:
            return
        try:
            chosen = pods.read_format(ctypes.string_at(pod, pods.size_of(ctypes.string_at(pod, 8))))
        except ValueError:
            log.warning("%s: a reader settled on a format that was not offered", self.name)
            return
        pixels = FROM_PIPEWIRE[chosen.name]
        size = picture_bytes(pixels, shape.width_px, shape.height_px)
        wanted = pw.pointers((pods.wanted_buffers(size, row_bytes(pixels, shape.width_px)), pods.wanted_header()))
        pw.library().pw_stream_update_params(self._stream, wanted, len(wanted))
        seen.pixels = pixels

    def _on_process(self, _data: object) -> None:
        seen, shape = self._seen, self._shape
        if seen.picture is None or shape is None or seen.picture[0] != seen.pixels:
            return
        pixels, picture, made_ns = seen.picture
        held = pw.library().pw_stream_dequeue_buffer(self._stream)
        if not held:
            self.counts.no_buffer += 1
            return
        buffer = held.contents.buffer.contents
        data = buffer.datas[0]
        fits = bool(data.data) and data.maxsize >= picture.size
        if fits:
            ctypes.memmove(data.data, picture.ctypes.data, picture.size)
            self.counts.delivered += 1
        chunk = data.chunk.contents
        chunk.offset, chunk.size, chunk.flags = 0, picture.size if fits else 0, 0
        chunk.stride = row_bytes(pixels, shape.width_px)
        header = pw.header_of(buffer, pods.META_HEADER)
        if header is not None:
            header.flags, header.pts, header.dts_offset, header.seq = 0, made_ns, 0, seen.sequence
        seen.sequence += 1
        pw.library().pw_stream_queue_buffer(self._stream, held)


def _without_padding(width_px: int) -> tuple[PixelFormat, ...]:
    """Pixel formats that need none at this width: readers count on rows of whole 4 bytes in every plane."""
    if width_px % 8 == 0:
        return ("i420", "nv12", "yuyv")
    return ("nv12", "yuyv") if width_px % 4 == 0 else ("yuyv",)
