"""What goes out, on a page of this machine: a sink like any other, read by a browser.

A page and not a window: tkinter is missing on bare servers and in many Python builds, and the standard library's own
http server with motion JPEG is 100 lines, needs nothing, and is tested in a browser like everything else.
"""

from __future__ import annotations

import io
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from engines import Rgb
from streamer.camera.sink import PixelFormat, Shape
from streamer.errors import SinkError
from streamer.mailbox import Closed, Latest

QUALITY = 80
MOST_VIEWERS = 4
WAIT_S = 2.0
PAGE = b"""<!doctype html><meta charset="utf-8"><title>vividstream: what goes out</title>
<style>html,body{margin:0;height:100%;background:#1a1c20}img{width:100%;height:100%;object-fit:contain}</style>
<img src="stream" alt="what goes out">"""


class PreviewSink:
    """Pages on 127.0.0.1 whose address has a secret in it; each viewer gets the newest picture it can take."""

    def __init__(self) -> None:
        self._viewers: set[Latest[Rgb]] = set()
        self._lock = threading.Lock()
        self._secret = secrets.token_urlsafe(16)
        self._server: ThreadingHTTPServer | None = None

    @property
    def name(self) -> str:
        return "preview"

    @property
    def address(self) -> str:
        """Of the page, once it is open."""
        port = self._server.server_address[1] if self._server else 0
        return f"http://127.0.0.1:{port}/{self._secret}/"

    def open(self, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat | None) -> Shape:
        if self._server is None:
            try:
                self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
            except OSError as error:
                raise SinkError(f"the preview cannot be offered: {error.strerror}") from error
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, name="preview", daemon=True).start()
        return Shape(width_px, height_px, fps, pixel_format or "yuyv")

    def write(self, rgb_HW3: Rgb, captured_s: float) -> None:
        with self._lock:
            viewers = tuple(self._viewers)
        for viewer in viewers:
            viewer.put(rgb_HW3)

    def readers(self) -> int | None:
        with self._lock:
            return len(self._viewers)

    def close(self) -> None:
        server, self._server = self._server, None
        with self._lock:
            viewers, self._viewers = self._viewers, set()
        for viewer in viewers:
            viewer.close()
        if server is not None:
            server.shutdown()
            server.server_close()

    def _enter(self) -> Latest[Rgb] | None:
        viewer: Latest[Rgb] = Latest()
        with self._lock:
            if len(self._viewers) >= MOST_VIEWERS:
                return None
            self._viewers.add(viewer)
        return viewer

    def _leave(self, viewer: Latest[Rgb]) -> None:
        with self._lock:
            self._viewers.discard(viewer)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0

            def do_GET(self) -> None:
                secret, _, rest = self.path.removeprefix("/").partition("/")
                if not secrets.compare_digest(secret.encode(), sink._secret.encode()) or rest not in ("", "stream"):
                    self.send_error(HTTPStatus.NOT_FOUND)
                elif rest == "stream":
                    self._stream()
                else:
                    self._headers("text/html; charset=utf-8")
                    self.wfile.write(PAGE)

            def _stream(self) -> None:
                viewer = sink._enter()
                if viewer is None:
                    self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                    return
                try:
                    self._headers("multipart/x-mixed-replace; boundary=picture")
                    while True:
                        rgb_HW3 = viewer.take(WAIT_S)
                        if rgb_HW3 is not None:
                            self.wfile.write(_part(rgb_HW3))
                except (OSError, Closed):  # the page was closed, or it is over
                    return
                finally:
                    sink._leave(viewer)

            def _headers(self, kind: str) -> None:
                self.send_response(HTTPStatus.OK)
                for header, value in (
                    ("Content-Type", kind), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"),
                    ("Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"),
                    ("X-Frame-Options", "DENY"), ("X-Content-Type-Options", "nosniff"),
                ):  # fmt: skip
                    self.send_header(header, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """The address is a secret, and nobody wants every request in the log."""

        return Handler


def _part(rgb_HW3: Rgb) -> bytes:
    jpeg = io.BytesIO()
    Image.fromarray(np.asarray(rgb_HW3)).save(jpeg, "JPEG", quality=QUALITY)
    data = jpeg.getvalue()
    return b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)
