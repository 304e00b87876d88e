"""What this machine is, as far as a built engine depends on it. Asks the system; imports nothing heavy."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from engines.settings import StrictModel

COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
NAME_BYTES = 256

# What changes the code that libraries choose. Numbers of cores, clocks and caches do not.
CPU_FEATURES = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "asimd", "asimddp", "bf16", "sve",
)  # fmt: skip

EIGHT_BIT = ("avx512_vnni", "avx_vnni", "asimddp")  # instructions that multiply 8 bits and add without overflow

LIBRARIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "torch": ("torch",),
        "compiled": ("torch",),
        "ort": ("onnxruntime", "onnxruntime-gpu"),
        "tensorrt": ("tensorrt", "torch-tensorrt", "torch"),
    }
)


class Machine(StrictModel):
    """The part of a machine that a built engine is bound to. Empty and 0: not bound to it, or not there."""

    system: str = ""  # "Linux x86_64"
    cpu: str = ""  # "avx2 avx512f": instruction sets
    gpu: str = ""  # "NVIDIA H200"
    sm: str = ""  # "9.0"
    driver_major: int = 0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver describes it."""

    name: str
    sm: str
    memory_bytes: int
    driver_major: int


def this_machine(device: str = "cpu") -> Machine:
    """What an engine on `device` ("cpu", "cuda", "cuda:1") is bound to here. A GPU that is not there has no name."""
    system = f"{platform.system()} {platform.machine()}"
    if device == "cpu":
        return Machine(system=system, cpu=cpu_features())
    gpu = find_gpu(gpu_index(device))
    if gpu is None:
        return Machine(system=system)
    return Machine(system=system, gpu=gpu.name, sm=gpu.sm, driver_major=gpu.driver_major)


def gpu_index(device: str) -> int:
    """The number in "cuda:1"; 0 for "cuda"."""
    return int(device.partition(":")[2] or 0)


@cache
def cpu_features() -> str:
    """The instruction sets that change which code a library chooses, in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    words = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return " ".join(name for name in CPU_FEATURES if name in words) or platform.machine()


def multiplies_8_bits() -> bool:
    """Whether this processor sums products of 8 bits exactly: without such an instruction sums overflow in silence."""
    return bool(set(cpu_features().split()) & set(EIGHT_BIT))


def find_gpu(index: int = 0) -> Gpu | None:
    """The GPU that CUDA calls `index`, asked of the driver itself. None where there is no driver or no such GPU."""
    driver = _library("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    if driver is None or driver.cuInit(0) != 0:
        return None
    handle = ctypes.c_int()
    if driver.cuDeviceGet(ctypes.byref(handle), index) != 0:
        return None
    name = ctypes.create_string_buffer(NAME_BYTES)
    driver.cuDeviceGetName(name, NAME_BYTES, handle)
    numbers = []
    for attribute in (COMPUTE_MAJOR, COMPUTE_MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        numbers.append(str(value.value))
    memory = ctypes.c_size_t()
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    return Gpu(name.value.decode(errors="replace"), ".".join(numbers), memory.value, _driver_major())


def _driver_major() -> int:
    """580 of driver 580.65.06; 0 where it cannot be asked."""
    nvml = _library("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    if nvml is None or nvml.nvmlInit_v2() != 0:
        return 0
    text = ctypes.create_string_buffer(NAME_BYTES)
    code = nvml.nvmlSystemGetDriverVersion(text, NAME_BYTES)
    nvml.nvmlShutdown()
    digits = text.value.decode(errors="replace").partition(".")[0]
    return int(digits) if code == 0 and digits.isdigit() else 0


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def versions_of(runtime: str) -> dict[str, str]:
    """Installed versions of the libraries that a runtime's engine depends on; those that are missing are left out."""
    found = {}
    for package in LIBRARIES.get(runtime, ()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def free_memory_bytes() -> int:
    """Main memory that a process may still take here: what the system has, or what a container leaves; 0 unknown."""
    limits = [_available_bytes(), *_container_bytes(Path("/sys/fs/cgroup"))]
    return min((limit for limit in limits if limit > 0), default=0)


def _available_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _container_bytes(root: Path) -> list[int]:
    """What a memory limit of this container (cgroup, version 2) leaves."""
    try:
        most = (root / "memory.max").read_text(encoding="ascii").strip()
        used = int((root / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return []
    return [max(int(most) - used, 1)] if most.isdigit() else []


def gigabytes(size_bytes: float) -> str:
    """A size for a person: `2.1 GB`, `38 MB`."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
