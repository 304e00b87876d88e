"""A decoder process: jobs in by a socket, pixels out into shared memory. It begins in a fork of the nursery."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from mmap import mmap

import numpy as np
import numpy.typing as npt

from streamer.decoding.decoder import PictureDecoder, Refused, copy_planes, even_size
from streamer.decoding.wire import (
    CODECS,
    HELLO,
    JOB_BYTES,
    MEMORY_BYTES,
    MOST_CODED_BYTES,
    SLOT_BYTES,
    SLOTS,
    Answer,
    Job,
    Kind,
)

DECODER_BYTES = 256 << 20  # H.264 may keep 16 pictures of 3 MB; the rest is room
GATHER_EVERY = 512  # jobs; nothing here makes cycles, but an exception may


def run(link: socket.socket, memory_fd: int) -> None:
    """Decodes until the other side closes the socket. The process has nothing else open when this begins."""
    from streamer.decoding import sandbox  # Linux only, and `run_in_thread` is not

    memory = mmap(memory_fd, MEMORY_BYTES)
    os.close(memory_fd)
    own_fd = os.pidfd_open(os.getpid())
    # The handle that can end this process: its number may be another's by the time it is wanted. Sent now, since the
    # kernel lets a user who may open nothing have no descriptor on its way either.
    socket.send_fds(link, [HELLO], [own_fd])
    os.close(own_fd)
    link.sendall(Answer(Kind.HELD, 0, slot=sandbox.enter(DECODER_BYTES)).pack())
    _serve(link, memory)


def run_in_thread(link: socket.socket, memory: mmap) -> None:
    """The same in a thread of the server, where the system has no processes that could be held so: a poorer guard."""
    with link, contextlib.suppress(OSError):  # the other end is closed when the call is over
        _serve(link, memory)


def _serve(link: socket.socket, memory: mmap) -> None:
    slots = np.frombuffer(memory, np.uint8).reshape(SLOTS, SLOT_BYTES)
    decoder, free, jobs = PictureDecoder(), set(range(SLOTS)), 0
    while header := _receive(link, JOB_BYTES):
        job = Job.unpack(header)
        if job.size > MOST_CODED_BYTES or job.codec >= len(CODECS):
            return
        payload = _receive(link, job.size)
        free |= {slot for slot in range(SLOTS) if job.freed >> slot & 1}
        link.sendall(b"".join(answer.pack() for answer in _answers(decoder, job, payload, slots, free)))
        jobs += 1
        if jobs % GATHER_EVERY == 0:
            gc.collect()


def _answers(
    decoder: PictureDecoder, job: Job, payload: bytes, slots: npt.NDArray[np.uint8], free: set[int]
) -> list[Answer]:
    started_ns, answers, end = time.monotonic_ns(), [], Kind.DONE
    try:
        frames = decoder.decode(job.codec, payload, job.number)
    except Refused:
        frames, end = [], Kind.REFUSED
    for frame in frames:
        width_px, height_px = even_size(frame)
        if not free:
            end = Kind.NO_SLOT
        elif width_px and height_px:
            slot = free.pop()
            copy_planes(frame, slots[slot])
            number = frame.pts if frame.pts is not None else job.number
            answers.append(Answer(Kind.PICTURE, number, slot, width_px, height_px, frame.colorspace, frame.color_range))
    return [*answers, Answer(end, job.number, took_us=(time.monotonic_ns() - started_ns) // 1_000)]


def _receive(link: socket.socket, size: int) -> bytes:
    """So many bytes; none at all after the end, or where the end comes in the middle."""
    parts, left = [], size
    while left:
        part = link.recv(left)
        if not part:
            return b""
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
