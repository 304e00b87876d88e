"""Runs the kernels of a .cu file on the CPU: the same text, compiled as C++, one thread after the other.

That proves the arithmetic where there is no accelerator; not the launch, not the speed. Kernels that use shared memory
or wait for each other cannot run like this, and ours do not.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engines.gpu.device import HostArray

PRELUDE = """
#include <cmath>
struct dim3 { int x = 1, y = 1, z = 1; };
static thread_local dim3 blockIdx, blockDim, gridDim, threadIdx;
#define __device__ static
#define __forceinline__ inline
#define __global__ static
#define __restrict__
template <class T> static inline T atomicAdd(T *at, T value) { T old = *at; *at += value; return old; }
static inline int __float2int_rd(float v) { return (int)std::floor(v); }
using std::floor; using std::sqrt; using std::ceil; using std::fabs;
"""
LAUNCHER = """
extern "C" void launch_{name}(int gx_, int gy_, int gz_, int bx_, int by_, {typed}) {{
    gridDim.x = gx_; gridDim.y = gy_; gridDim.z = gz_; blockDim.x = bx_; blockDim.y = by_;
    for (blockIdx.z = 0; blockIdx.z < gz_; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < gy_; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < gx_; blockIdx.x++)
    for (threadIdx.y = 0; threadIdx.y < by_; threadIdx.y++)
    for (threadIdx.x = 0; threadIdx.x < bx_; threadIdx.x++)
        {name}({names});
}}
"""
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)\s*\{', re.S)


class CudaOnCpu:
    """The kernels of one file as functions of NumPy arrays and numbers, called as CuPy's raw kernels are."""

    def __init__(self, source: Path, folder: Path) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("no g++ to compile the kernels for the CPU")
        text = source.read_text(encoding="utf-8")
        launchers = []
        self._types: dict[str, list[str]] = {}
        for name, parameters in KERNEL.findall(text):
            typed = [" ".join(part.split()) for part in parameters.split(",")]
            names = [re.split(r"[ *]", part)[-1] for part in typed]
            self._types[name] = typed
            launchers.append(LAUNCHER.format(name=name, typed=", ".join(typed), names=", ".join(names)))
        plain = text.replace('extern "C" __global__', "__global__")
        cpp, library = folder / "kernels.cpp", folder / "kernels.so"
        cpp.write_text(PRELUDE + plain + "".join(launchers), encoding="utf-8")
        checked = ["-ffp-contract=off", "-fsanitize=undefined", "-fno-sanitize-recover"]
        made = ["-shared", "-fPIC", "-o", str(library), str(cpp)]
        subprocess.run([compiler, "-O1", *checked, *made], check=True)
        self._library = ctypes.CDLL(str(library))

    @property
    def names(self) -> set[str]:
        return set(self._types)

    def launch(self, name: str, width: int, height: int, arguments: tuple[object, ...]) -> None:
        declared = self._types[name]
        assert len(arguments) == len(declared), f"{name} takes {declared}"
        passed = [passed_as(kind, value) for kind, value in zip(declared, arguments, strict=True)]
        across, down = 32, 8
        getattr(self._library, f"launch_{name}")(-(-width // across), -(-height // down), 1, across, down, *passed)


def passed_as(declared: str, value: object) -> object:
    """A value as C takes it, of the very type that the kernel declares."""
    if isinstance(value, np.ndarray):
        assert "*" in declared, f"{declared} is no array"
        assert value.flags.c_contiguous
        element = {"u8": "uint8", "float": "float32", "unsigned": "uint64"}[declared.removeprefix("const ").split()[0]]
        assert value.dtype == element, f"{declared} was given {value.dtype}"
        return ctypes.c_void_p(value.ctypes.data)
    if value is None:
        assert "*" in declared, f"{declared} is no pointer"
        return ctypes.c_void_p(0)
    if declared.startswith("float"):
        assert isinstance(value, float), f"{declared} was given {value!r}"
        return ctypes.c_float(value)
    assert isinstance(value, int), f"{declared} was given {value!r}"
    return ctypes.c_int(value)


class CpuDevice:
    """`engines.gpu.device.Device` in host memory, with the real kernels."""

    def __init__(self, kernels: CudaOnCpu) -> None:
        self._kernels = kernels
        self.launches: list[str] = []
        self.made = self.waits = 0

    def empty(self, shape: Sequence[int], dtype: str) -> HostArray:
        self.made += 1
        rubbish = np.random.default_rng(self.made).integers(0, 256, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return rubbish.astype(np.uint8).view(dtype).reshape(tuple(shape))

    def upload(self, onto: HostArray, values: HostArray) -> None:
        assert onto.shape == values.shape, f"{values.shape} does not fit {onto.shape}"
        assert onto.dtype == values.dtype, f"{values.dtype} is not {onto.dtype}"
        onto[...] = values

    def clear(self, array: HostArray) -> None:
        array[...] = 0

    def download(self, array: HostArray) -> HostArray:
        self.waits += 1
        return array.copy()

    def launch(self, kernel: str, width: int, height: int, arguments: tuple[object, ...]) -> None:
        self.launches.append(kernel)
        self._kernels.launch(kernel, width, height, arguments)
