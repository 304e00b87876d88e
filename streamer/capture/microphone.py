"""A microphone beside a camera: ALSA's names, among them `default`, which PipeWire and PulseAudio answer to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError

from engines import MediaError
from streamer.capture.picture import CapturedSound
from streamer.capture.sound import SoundCutter

RETRY_S = 2.0
TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


class Microphone:
    """Reads in a thread of its own; what is lost is opened again. `hear` is called in that thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost = ""  # one sentence, while it is not there
        self.pieces = 0
        self._hear: Callable[[CapturedSound], None] | None = None
        self._closing = threading.Event()
        self._container: InputContainer | None = None
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)

    def start(self, hear: Callable[[CapturedSound], None]) -> None:
        """Raises MediaError where it cannot be opened now."""
        self._hear = hear
        self._container = self._open()
        self._thread.start()

    def close(self, timeout_s: float = 3.0) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _open(self) -> InputContainer:
        try:
            container = av.open(self.name, "r", format="alsa", timeout=TIMEOUT_S)
        except (FFmpegError, OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise MediaError(
                f'microphone "{self.name}" cannot be opened: {why}; `arecord -L` lists the names there are'
            ) from error
        return container

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self._container is None:
                    self._container = self._open()
                self.lost = ""
                self._read(self._container)
            except (MediaError, FFmpegError, OSError) as error:
                if not self.lost:
                    log.warning("microphone lost: %s", error)
                self.lost = f'microphone "{self.name}" was lost; it is tried again'
            finally:
                if self._container is not None:
                    self._container.close()
                self._container = None
            self._closing.wait(RETRY_S)

    def _read(self, container: InputContainer) -> None:
        assert self._hear is not None
        cutter = SoundCutter()
        for frame in container.decode(audio=0):
            if self._closing.is_set():
                return
            assert isinstance(frame, AudioFrame)
            began_s = time.monotonic() - frame.samples / max(frame.sample_rate, 1)
            for piece in cutter.cut(frame, began_s):
                self.pieces += 1
                self._hear(piece)
