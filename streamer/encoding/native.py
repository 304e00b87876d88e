"""Finds the codec libraries that PyAV brings, to drive them directly: FFmpeg's wrappers cannot change VP8's bit rate in
place, nor x264's buffer. Nothing is loaded a second time: these are the files that the process has open already.

A library is used only if the layout of its structures is the one written down here; each codec checks that itself by
the library's own version symbol and by values that it reads back. Anything else raises `NotUsable`.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

import av
from av.video.frame import VideoFrame

PLANAR = "yuv420p"


class NotUsable(RuntimeError):
    """The library is missing, or of a version whose structures are not known here."""


@cache
def load(name: str) -> ctypes.CDLL:
    """The library that PyAV uses, e.g. "vpx" or "x264". Raises NotUsable."""
    beside = Path(av.__file__).parent.parent / "av.libs"
    found = sorted(beside.glob(f"lib{name}-*.so*")) or _open_files(name)
    if not found:
        raise NotUsable(f"lib{name} is not among the libraries of this installation of PyAV")
    try:
        return ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise NotUsable(f"lib{name} cannot be loaded: {error}") from error


def planes(frame: VideoFrame) -> tuple[VideoFrame, list[int], list[int]]:
    """(frame as planar 4:2:0, addresses of its three planes, their strides in bytes). Keep the frame while in use."""
    if frame.format.name != PLANAR:
        frame = frame.reformat(format=PLANAR)
    return frame, [plane.buffer_ptr for plane in frame.planes], [plane.line_size for plane in frame.planes]


def _open_files(name: str) -> list[Path]:
    """Libraries of that name that this process has open: PyAV built against the system's FFmpeg."""
    if sys.platform != "linux":
        return []
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    paths = {Path(line.split(maxsplit=5)[5]) for line in lines if f"/lib{name}" in line}
    return sorted(path for path in paths if path.name.startswith((f"lib{name}.so", f"lib{name}-")))
