"""Sinks by what a person writes."""

from __future__ import annotations

import sys

from engines import SettingError
from streamer.camera.sink import Sink

PIPEWIRE = "pipewire"
FOREIGN = ("obs", "unitycapture")  # cameras of other programs, on Windows and macOS


def open_sink(what: str) -> Sink:
    """`/dev/video9` or `9` (v4l2loopback), `pipewire`, `obs`, `unitycapture`. Nothing is opened yet.

    Raises SettingError for anything else.
    """
    if what == PIPEWIRE:
        from streamer.camera.pipewire import PipeWireSink

        return PipeWireSink()
    if what in FOREIGN:
        from streamer.camera.other_systems import ForeignSink

        return ForeignSink(what)
    number = what.removeprefix("/dev/video")
    if what.startswith("/dev/") or number.isdigit():
        if sys.platform != "linux":
            raise SettingError(f'setting "sink": {what} is a device of Linux')
        from streamer.camera.loopback import LoopbackSink

        return LoopbackSink(f"/dev/video{int(number)}" if number.isdigit() else what)
    raise SettingError(
        f'setting "sink": "{what}" is neither a device (/dev/video9) nor `{PIPEWIRE}`, `obs` or `unitycapture`'
    )
