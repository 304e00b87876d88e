"""The virtual cameras of OBS and Unity Capture on Windows and macOS, through a process of their own.

pyvirtualcam knows how to write to them and is GPL-2.0; this project is Apache-2.0. So nothing here imports it: the
script beside this file, `virtualcam_child.py` (MIT, usable alone), does, in a process that gets pictures through a
pipe. The extra `virtualcam` installs pyvirtualcam, for whoever accepts its licence.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from engines import Rgb
from streamer.camera.sink import PixelFormat, Shape
from streamer.errors import SinkError

CHILD = Path(__file__).with_name("virtualcam_child.py")
INSTALL = 'pip install "vividstream[virtualcam]"'
START_S, END_S = 20.0, 5.0


class ForeignSink:
    """A `Sink`: a camera that another program brought, OBS ("obs") or Unity Capture ("unitycapture").

    Pictures go to the child by a thread of its own: `write` leaves the newest and never waits.
    """

    def __init__(self, backend: str | None = None, device: str | None = None) -> None:
        self.backend, self.device = backend, device
        self.overtaken = 0  # pictures that a newer one replaced before the child had taken them
        self.sent = 0
        self._shape: Shape | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._slot: queue.Queue[Rgb | None] = queue.Queue(maxsize=1)
        self._feeder: threading.Thread | None = None

    @property
    def name(self) -> str:
        return f"{self.backend or 'virtual'} camera" + (f" {self.device}" if self.device else "")

    def open(self, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat | None = None) -> Shape:
        """Starts the child and waits for the camera. The pixel format is pyvirtualcam's choice.

        Raises SinkError: pyvirtualcam or the program whose camera it is is missing, or the camera is in use.
        """
        if self._process is not None:
            raise SinkError(f"{self.name} is open already")
        if width_px % 2 or height_px % 2 or min(width_px, height_px) < 2:
            raise SinkError(f"a camera of {width_px}x{height_px} cannot be: both sides must be even")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed by `close`
        self._process = subprocess.Popen(
            child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        wanted = {
            "width": width_px, "height": height_px, "fps": fps, "backend": self.backend, "device": self.device
        }  # fmt: skip
        try:
            answer = self._ask(wanted)
            if "error" in answer:
                raise SinkError(f"{answer['error']}; {_remedy(str(answer['error']))}")
        except SinkError:
            self.close()
            raise
        self.backend, self.device = str(answer["backend"]), str(answer["device"])
        self._slot = queue.Queue(maxsize=1)
        self._shape = Shape(width_px, height_px, fps, pixel_format or "nv12")
        self._feeder = threading.Thread(target=self._feed, name="virtual-camera", daemon=True)
        self._feeder.start()
        return self._shape

    def write(self, rgb_HW3: Rgb, captured_s: float) -> None:
        """Leaves the picture for the child. Raises SinkError where the child has ended."""
        shape, process = self._shape, self._process
        if shape is None or process is None:
            raise SinkError(f"{self.name} is not open")
        if rgb_HW3.shape != (shape.height_px, shape.width_px, 3) or rgb_HW3.dtype != np.uint8:
            raise ValueError(f"picture {rgb_HW3.shape} {rgb_HW3.dtype}, {shape.height_px}x{shape.width_px} is wanted")
        if process.poll() is not None:
            raise SinkError(f"{self.name}: its process ended ({self._last_words()}); start it again")
        picture = np.array(rgb_HW3)  # the caller's is the caller's again
        with contextlib.suppress(queue.Empty):
            self._slot.get_nowait()
            self.overtaken += 1
        with contextlib.suppress(queue.Full):
            self._slot.put_nowait(picture)

    def readers(self) -> int | None:
        """None: these cameras do not tell."""
        return None

    def close(self) -> None:
        process, self._process, self._shape = self._process, None, None
        if process is None:
            return
        if self._feeder is not None:
            with contextlib.suppress(queue.Empty):
                self._slot.get_nowait()
            with contextlib.suppress(queue.Full):
                self._slot.put_nowait(None)
        elif process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()  # it stands in the camera's driver; its pipe breaks, and the feeder ends
            process.wait()
        if self._feeder is not None:
            self._feeder.join(END_S)
            self._feeder = None
        if process.stdout is not None:
            process.stdout.close()
        if self._errors is not None:
            self._errors.close()

    def _ask(self, wanted: Mapping[str, object]) -> dict[str, Any]:
        """The child's answer, which may be late on a machine that starts Python for the first time."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        answers: queue.Queue[bytes] = queue.Queue(maxsize=1)
        threading.Thread(target=lambda out: answers.put(out.readline()), args=(process.stdout,), daemon=True).start()
        try:
            process.stdin.write(json.dumps(wanted).encode() + b"\n")
            process.stdin.flush()
            line = answers.get(timeout=START_S)
            answer = json.loads(line)
        except queue.Empty:
            process.kill()
            raise SinkError(
                f"{self.name} did not open within {START_S:.0f} s; start it once in its own program"
            ) from None
        except (OSError, ValueError):
            process.kill()
            raise SinkError(f"{self.name}: its process ended ({self._last_words()}); {INSTALL}") from None
        return dict(answer)

    def _feed(self) -> None:
        """Gives the child one picture after the other. Ends with the child, or at None."""
        process, slot = self._process, self._slot
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(OSError), process.stdin as pipe:
            while (picture := slot.get()) is not None:
                pipe.write(picture.data.cast("B"))
                pipe.flush()
                self.sent += 1

    def _last_words(self) -> str:
        """The last line that the child wrote, or how it ended."""
        assert self._process is not None
        assert self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"exit status {code}"


def child_command() -> list[str]:
    """How the child is started; `--list` after it says what there is to write to."""
    return [sys.executable, str(CHILD)]


def _remedy(text: str) -> str:
    """What a person can do about it."""
    if "not installed (" in text:
        return f"{INSTALL} (pyvirtualcam, GPL-2.0, runs in a process of its own)"
    if "obs" in text.lower():
        return "install OBS 30 or later and click its `Start Virtual Camera` once"
    return "`vividstream doctor --only loopback` says more"
