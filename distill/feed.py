"""Worker processes that make things ahead, in a fixed order whatever their number.

Worker w of W makes items w, w + W, ...; each has a queue of its own, with a bound, and the reader takes from them in
turn. So a slow item holds up the others by the bound and no more, and nothing depends on who is faster.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

import torch

from engines import VividError

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)
POLL_S = 1.0
END_S = 5.0
END = object()


class Maker(Protocol[Item_co]):
    """Makes item number n. Goes to the workers before it is entered."""

    def make(self, number: int, /) -> Item_co: ...

    def __enter__(self) -> Maker[Item_co]: ...

    def __exit__(self, *error: object) -> None: ...


class WorkerDied(VividError):
    """A worker process ended by itself, or could not make an item."""


class Feed(AbstractContextManager["Feed[Item]"], Generic[Item]):
    """Iterate inside of `with`; the processes end with it, and when their parent dies.

    Pipes, not multiprocessing's queues: whoever holds one end learns at once that the other is gone, also in the
    middle of an item.
    """

    def __init__(self, maker: Maker[Item], first: int, workers: int, ahead: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._readers: list[Connection[Any, Any]] = []
        self._processes: list[BaseProcess] = []
        for w in range(workers):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(maker, first + w, workers, ahead, writer), daemon=True)
            process.start()
            writer.close()  # the worker has the only one
            self._readers.append(reader)
            self._processes.append(process)

    def __iter__(self) -> Iterator[Item]:
        while True:
            for process, reader in zip(self._processes, self._readers):
                yield self._next(process, reader)

    def _next(self, process: BaseProcess, reader: Connection[Any, Any]) -> Item:
        try:
            good, value = reader.recv()
        except (EOFError, OSError):
            process.join(END_S)
            raise WorkerDied(f"a data worker ended with status {process.exitcode}") from None
        if good:
            item: Item = value
            return item
        if isinstance(value, VividError):
            raise value
        raise WorkerDied(f"a data worker failed:\n{value}")

    def __exit__(self, *_: object) -> None:
        for process, reader in zip(self._processes, self._readers):
            process.terminate()
            reader.close()
        for process in self._processes:
            process.join(END_S)


class _Outlet:
    """The worker's end: items wait here, at most `ahead` of them, while a thread writes them into the pipe."""

    def __init__(self, writer: Connection[Any, Any], ahead: int) -> None:
        self._writer = writer
        self._waiting: queue.Queue[object] = queue.Queue(ahead)
        self._reader_gone = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def put(self, value: object) -> bool:
        """False when the reader is gone."""
        while not self._reader_gone.is_set():
            try:
                self._waiting.put(value, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def end(self) -> None:
        """Waits until everything was read."""
        if self.put(END):
            self._thread.join()

    def _send(self) -> None:
        try:
            while (value := self._waiting.get()) is not END:
                self._writer.send(value)
        except OSError:
            self._reader_gone.set()


def _work(maker: Maker[Item], first: int, step: int, ahead: int, writer: Connection[Any, Any]) -> None:
    """The body of a worker. One thread of torch each: they are many."""
    torch.set_num_threads(1)
    outlet = _Outlet(writer, ahead)
    try:
        with maker as ready:
            number = first
            while outlet.put((True, ready.make(number))):
                number += step
    except VividError as error:
        outlet.put((False, error))
    except Exception:  # noqa: BLE001, the one boundary of this process: whatever it was goes to the reader
        outlet.put((False, traceback.format_exc()))
    outlet.end()
