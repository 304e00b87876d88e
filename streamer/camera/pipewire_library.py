"""libpipewire (MIT), by ctypes: the calls and structures that one camera node needs, and no more.

The structures are part of the stable interface (1.x still is libpipewire-0.3.so.0): fields are only ever added
at their ends. What the headers have as inline functions (pods, metadata) is written in `pods.py` and below.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import cache

from streamer.errors import SinkError

LIBRARY = "libpipewire-0.3.so.0"
INSTALL = "apt install pipewire wireplumber"

ERROR, UNCONNECTED, CONNECTING, PAUSED, STREAMING = -1, 0, 1, 2, 3
OUTPUT = 1
ANY = 0xFFFFFFFF
MAP_BUFFERS, DRIVER = 1 << 2, 1 << 3
STREAM_EVENTS_VERSION = 2


class Chunk(Structure):
    _fields_ = (("offset", c_uint32), ("size", c_uint32), ("stride", c_int32), ("flags", c_int32))


class Data(Structure):
    _fields_ = (
        ("type", c_uint32),
        ("flags", c_uint32),
        ("fd", c_int64),
        ("mapoffset", c_uint32),
        ("maxsize", c_uint32),
        ("data", c_void_p),
        ("chunk", POINTER(Chunk)),
    )


class Meta(Structure):
    _fields_ = (("type", c_uint32), ("size", c_uint32), ("data", c_void_p))


class Header(Structure):
    _fields_ = (
        ("flags", c_uint32),
        ("offset", c_uint32),
        ("pts", c_int64),
        ("dts_offset", c_int64),
        ("seq", c_uint64),
    )


class SpaBuffer(Structure):
    _fields_ = (("n_metas", c_uint32), ("n_datas", c_uint32), ("metas", POINTER(Meta)), ("datas", POINTER(Data)))


class Buffer(Structure):
    _fields_ = (("buffer", POINTER(SpaBuffer)), ("user_data", c_void_p), ("size", c_uint64), ("requested", c_uint64))


StateChanged = CFUNCTYPE(None, c_void_p, c_int, c_int, c_char_p)
ParamChanged = CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)
Process = CFUNCTYPE(None, c_void_p)


class StreamEvents(Structure):
    """Callbacks of a stream; those that are left out are null."""

    _fields_ = (
        ("version", c_uint32),
        ("destroy", c_void_p),
        ("state_changed", StateChanged),
        ("control_info", c_void_p),
        ("io_changed", c_void_p),
        ("param_changed", ParamChanged),
        ("add_buffer", c_void_p),
        ("remove_buffer", c_void_p),
        ("process", Process),
        ("drained", c_void_p),
        ("command", c_void_p),
        ("trigger_done", c_void_p),
    )


_CALLS: tuple[tuple[str, object, tuple[object, ...]], ...] = (
    ("pw_init", None, (c_void_p, c_void_p)),
    ("pw_thread_loop_new", c_void_p, (c_char_p, c_void_p)),
    ("pw_thread_loop_destroy", None, (c_void_p,)),
    ("pw_thread_loop_get_loop", c_void_p, (c_void_p,)),
    ("pw_thread_loop_start", c_int, (c_void_p,)),
    ("pw_thread_loop_stop", None, (c_void_p,)),
    ("pw_thread_loop_lock", None, (c_void_p,)),
    ("pw_thread_loop_unlock", None, (c_void_p,)),
    ("pw_properties_new_string", c_void_p, (c_char_p,)),
    ("pw_stream_new_simple", c_void_p, (c_void_p, c_char_p, c_void_p, POINTER(StreamEvents), c_void_p)),
    ("pw_stream_destroy", None, (c_void_p,)),
    ("pw_stream_connect", c_int, (c_void_p, c_int, c_uint32, c_int, POINTER(c_char_p), c_uint32)),
    ("pw_stream_update_params", c_int, (c_void_p, POINTER(c_char_p), c_uint32)),
    ("pw_stream_get_node_id", c_uint32, (c_void_p,)),
    ("pw_stream_dequeue_buffer", POINTER(Buffer), (c_void_p,)),
    ("pw_stream_queue_buffer", c_int, (c_void_p, POINTER(Buffer))),
    ("pw_stream_flush", c_int, (c_void_p, c_bool)),
    ("pw_stream_trigger_process", c_int, (c_void_p,)),
    ("pw_get_library_version", c_char_p, ()),
)


@cache
def library() -> ctypes.CDLL:
    """The library, started. Raises SinkError where it is not installed, or too old to be driven."""
    if ctypes.sizeof(c_void_p) != 8:
        raise SinkError("PipeWire is driven on 64-bit systems only; use a v4l2loopback device there")
    try:
        found = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise SinkError(f"PipeWire is not installed ({LIBRARY}); {INSTALL}") from error
    for name, result, arguments in _CALLS:
        try:
            call = getattr(found, name)
        except AttributeError as error:
            raise SinkError(f"{LIBRARY} has no {name}: PipeWire 0.3.40 or later is needed; {INSTALL}") from error
        call.restype, call.argtypes = result, arguments
    found.pw_init(None, None)
    return found


def version() -> str:
    """The library's, "0.3.65". Raises SinkError."""
    return bytes(library().pw_get_library_version()).decode()


def pointers(pods: tuple[bytes, ...]) -> ctypes.Array[c_char_p]:
    """An array of pods as the library takes it; keep it while the call goes on."""
    return (c_char_p * len(pods))(*pods)


def header_of(buffer: SpaBuffer, kind: int) -> Header | None:
    """The header beside a buffer, where the reader agreed to one."""
    for i in range(buffer.n_metas):
        meta = buffer.metas[i]
        if meta.type == kind and meta.size >= ctypes.sizeof(Header) and meta.data:
            return Header.from_address(meta.data)
    return None
