"""What this machine can do at best, measured here and now: the yardstick for a network's share of it.

A large matrix product and a stack of 3x3 convolutions per library and precision; the best rate of either counts.
A multiply-add is 2 FLOP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec

MATMUL_SIDE = 2048
CONV_CHANNELS, CONV_SIDE_PX, CONV_LAYERS = 128, 64, 6
LEAST_S = 0.25  # a figure rests on at least that much work, and on the best of ROUNDS
ROUNDS = 3


def measure_peaks(device: str = "cpu") -> dict[str, float]:
    """GFLOP/s by "library precision", e.g. {"torch bfloat16": 812.0}; empty where torch is not installed."""
    if find_spec("torch") is None:
        return {}
    precisions = ("float32", "bfloat16", "float16") if device.startswith("cuda") else ("float32", "bfloat16")
    return {f"torch {name}": _torch_peak(device, name) for name in precisions}


def _torch_peak(device: str, precision: str) -> float:
    import torch

    dtype = getattr(torch, precision)
    a = torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=device).to(dtype)
    convolutions = torch.nn.Sequential(
        *(torch.nn.Conv2d(CONV_CHANNELS, CONV_CHANNELS, 3, padding=1) for _ in range(CONV_LAYERS))
    )
    convolutions = convolutions.to(device, dtype).eval()
    convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    x = torch.randn(1, CONV_CHANNELS, CONV_SIDE_PX, CONV_SIDE_PX, device=device).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    conv_flop = 2.0 * 9 * CONV_CHANNELS**2 * CONV_SIDE_PX**2 * CONV_LAYERS
    with torch.inference_mode():
        rates = (
            _rate(lambda: a @ a, 2.0 * MATMUL_SIDE**3, device),
            _rate(lambda: convolutions(x), conv_flop, device),
        )
    return max(rates)


def _rate(work: Callable[[], object], flop: float, device: str) -> float:
    """GFLOP/s of the best round."""
    import torch

    def finish() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    work()
    finish()
    best = 0.0
    for _ in range(ROUNDS):
        times, since_s = 0, time.perf_counter()
        while time.perf_counter() - since_s < LEAST_S:
            work()
            times += 1
            if device.startswith("cuda") and times % 16:
                continue
            finish()
        finish()
        best = max(best, flop * times / (time.perf_counter() - since_s) / 1e9)
    return best
