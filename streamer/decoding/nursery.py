"""The process that decoder processes are forked from: everything imported, one thread, nothing of any call in it.

A fork of it takes milliseconds where a new interpreter takes a third of a second, and shares its memory with the
others. It holds no secrets: its environment is empty, and the server's files are not open in it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

import av.logging

from streamer.decoding import child
from streamer.decoding.wire import FORK

ENDED, FAILED = 0, 1


def main(control_fd: int) -> None:
    """Forks a decoder for every message on the control socket, until the server closes it."""
    av.logging.set_level(None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's business
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the kernel buries the dead
    gc.collect()
    gc.freeze()  # pages of what is imported stay shared
    with socket.socket(fileno=control_fd) as control:
        while True:
            message, fds, _, _ = socket.recv_fds(control, len(FORK), 2)
            if not message:
                return
            if message == FORK and len(fds) == 2:
                _fork(control, *fds)
            for fd in fds:
                os.close(fd)


def _fork(control: socket.socket, link_fd: int, memory_fd: int) -> None:
    if os.fork() != 0:
        return
    ended = FAILED
    try:
        control.close()
        _no_output()
        with socket.socket(fileno=link_fd) as link:
            child.run(link, memory_fd)
        ended = ENDED
    finally:
        os._exit(ended)


def _no_output() -> None:
    """The log belongs to the server: what runs here may have been taken over."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)


if __name__ == "__main__":
    main(int(sys.argv[1]))
