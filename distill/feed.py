"""Worker processes that make things ahead, in a fixed order whatever their number.

Worker w of W makes items w, w + W, ...; each has a queue of its own with a bound, and the reader takes from them in
turn. So a slow item holds up the others by the bound and no more, and nothing depends on who is faster.
"""

from __future__ import annotations

import multiprocessing
import queue
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any, Generic, Protocol, TypeVar

import torch

from engines import VividError

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)
POLL_S = 1.0
END_S = 5.0


class Maker(Protocol[Item_co]):
    """Makes item number n. Goes to the workers before it is entered."""

    def make(self, number: int, /) -> Item_co: ...

    def __enter__(self) -> Maker[Item_co]: ...

    def __exit__(self, *error: object) -> None: ...


class WorkerDied(VividError):
    """A worker process ended by itself, or could not make an item."""


class Feed(AbstractContextManager["Feed[Item]"], Generic[Item]):
    """Iterate inside of `with`; the processes end with it, and when their parent dies."""

    def __init__(self, maker: Maker[Item], first: int, workers: int, ahead: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._queues: list[Queue[Any]] = [context.Queue(ahead) for _ in range(workers)]
        self._processes: list[BaseProcess] = [
            context.Process(target=_work, args=(maker, first + w, workers, self._queues[w]), daemon=True)
            for w in range(workers)
        ]
        for process in self._processes:
            process.start()

    def __iter__(self) -> Iterator[Item]:
        while True:
            for process, held in zip(self._processes, self._queues):
                yield self._next(process, held)

    def _next(self, process: BaseProcess, held: Queue[Any]) -> Item:
        while True:
            try:
                good, value = held.get(timeout=POLL_S)
            except queue.Empty:
                if not process.is_alive() and held.empty():
                    raise WorkerDied(f"a data worker ended with status {process.exitcode}") from None
                continue
            if good:
                item: Item = value
                return item
            if isinstance(value, VividError):
                raise value
            raise WorkerDied(f"a data worker failed:\n{value}")

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process, held in zip(self._processes, self._queues):
            process.join(END_S)
            held.close()
            held.cancel_join_thread()


def _work(maker: Maker[Item], first: int, step: int, into: Queue[Any]) -> None:
    """The body of a worker. One thread each: they are many."""
    torch.set_num_threads(1)
    try:
        with maker as ready:
            number = first
            while _put(into, (True, ready.make(number))):
                number += step
    except VividError as error:
        _put(into, (False, error))
    except Exception:  # noqa: BLE001, the one boundary of this process: whatever it was goes to the reader
        _put(into, (False, traceback.format_exc()))


def _put(into: Queue[Any], value: object) -> bool:
    """False when the reader is gone."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        try:
            into.put(value, timeout=POLL_S)
        except queue.Full:
            continue
        return True
    return False
