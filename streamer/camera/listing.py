"""`vividstream camera --list`: which cameras there are, what is best in them, and which are virtual."""

from __future__ import annotations

import os
from collections.abc import Iterator

from streamer.camera.loopback import load_command
from streamer.capture.modes import choose_mode
from streamer.v4l2 import devices
from streamer.v4l2.devices import Device
from streamer.v4l2.stream import open_device


def list_cameras(width_px: int, height_px: int, fps: float) -> Iterator[str]:
    """Lines for a person: cameras with the mode that would be taken, then virtual cameras."""
    found = devices.devices()
    real = [device for device in found if not device.is_loopback]
    virtual = [device for device in found if device.is_loopback]
    yield "cameras (--source):" if real else "cameras (--source): none is connected; plug one in, or give a file"
    for device in real:
        yield f"  {device.path}  {device.name}: {_mode_of(device, width_px, height_px, fps)}"
    if virtual:
        yield "virtual cameras (--sink):"
    elif devices.module_loaded():
        yield "virtual cameras (--sink): v4l2loopback is loaded, without a device that may be used"
    else:
        yield f"virtual cameras (--sink): none; `{load_command()}` makes one"
    for device in virtual:
        yield f"  {device.path}  {device.name}: {_use_of(device)}"


def _mode_of(device: Device, width_px: int, height_px: int, fps: float) -> str:
    try:
        fd = open_device(device.path)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    try:
        offered = devices.modes(fd)
    except OSError as error:
        return f"cannot be asked: {error.strerror}"
    finally:
        os.close(fd)
    mode = choose_mode(offered, width_px, height_px, fps)
    if mode is None:
        return "offers nothing that can be read"
    rate = f" at {mode.fps:g} a second" if mode.fps else ""
    used = ", ".join(name for _, name in devices.users(device.path))
    return f"{mode.format} {mode.width_px}x{mode.height_px}{rate}" + (f"; in use by {used}" if used else "")


def _use_of(device: Device) -> str:
    used = ", ".join(f"{name} (process {number})" for number, name in devices.users(device.path))
    if not device.can_output:
        return f"written to; open in {used or 'another program'}"
    return f"free; open in {used}" if used else "free"
