"""Asks a real Chromium, without a window, which cameras it lists. No camera is opened for it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER_S = 20.0
MOST_ANSWER_BYTES = 64 * 1024
PAGE = b"""<!doctype html><title>cameras</title><script>
navigator.mediaDevices.enumerateDevices()
  .then(all => all.filter(one => one.kind == "videoinput").map(one => one.label), error => String(error))
  .then(said => fetch("/", {method: "POST", body: JSON.stringify(said)}))
</script>"""


def ask(path: str, *flags: str) -> list[str]:
    """Labels of the cameras that it lists, in a profile of its own.

    Raises OSError where it does not start, TimeoutError, and ValueError where it answers something else.
    """
    answers: queue.Queue[bytes] = queue.Queue(maxsize=1)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(PAGE)

        def do_POST(self) -> None:
            said = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST_ANSWER_BYTES))
            with contextlib.suppress(queue.Full):
                answers.put_nowait(said)
            self._send(b"")

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server, _chromium(path, server.server_port, flags):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            said = json.loads(answers.get(timeout=ANSWER_S))
        except queue.Empty:
            raise TimeoutError(f"no answer within {ANSWER_S:.0f} s") from None
        finally:
            server.shutdown()
    if not isinstance(said, list):
        raise ValueError(str(said)[:200])
    return [str(label) for label in said]


@contextlib.contextmanager
def _chromium(path: str, port: int, flags: tuple[str, ...]) -> Iterator[None]:
    """Runs it on the page. It and what it started are ended at the end."""
    with tempfile.TemporaryDirectory(prefix="vividstream-doctor-", ignore_cleanup_errors=True) as folder:
        command = [
            path, "--headless=new", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
            "--use-fake-ui-for-media-stream", f"--user-data-dir={folder}", *flags, f"http://127.0.0.1:{port}/",
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=sys.platform != "win32"
        )
        try:
            yield
        finally:
            if sys.platform != "win32":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
