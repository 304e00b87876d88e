"""Kernels: compiled, cached, and without the interpreter's lock."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from engines import jit
from engines.types import Floats


@jit.kernel
def _spin(values: Floats, rounds: int) -> float:
    total = np.float32(0)
    for i in range(rounds):
        total = total * np.float32(0.999) + values[i % values.shape[0]]
    return float(total)


def test_a_kernel_is_compiled_and_gives_what_python_gives() -> None:
    values = np.arange(7, dtype=np.float32)
    expected = 0.0
    for i in range(50):
        expected = expected * 0.999 + float(values[i % 7])
    assert abs(_spin(values, 50) - expected) < 1e-2
    assert getattr(_spin, "signatures"), "compiled"  # noqa: B009  Numba's attribute; mypy sees a function


@pytest.mark.alone
def test_other_threads_run_while_a_kernel_does() -> None:
    """The event loop must not wait for a worker that draws: some ticks of a clock fall within one long call."""
    values = np.ones(8, np.float32)
    _spin(values, 1)
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.002)

    clock = threading.Thread(target=tick)
    clock.start()
    rounds = 100_000
    while True:
        started = time.perf_counter()
        _spin(values, rounds)
        ended = time.perf_counter()
        if ended - started > 0.2:
            break
        rounds *= 4
    done.set()
    clock.join()
    assert sum(started < at < ended for at in ticks) >= 3
