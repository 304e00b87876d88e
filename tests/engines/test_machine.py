"""What a machine says of itself, and what a GPU's driver would say, asked through a library that stands in for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engines import machine
from engines.machine import Gpu, Machine, find_gpu, free_memory_bytes, this_machine, versions_of

CUDA = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index > 1 ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, device ? "Test B" : "Test A", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? device : -1; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)141 << 30; return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "580.65.06", size); return 0; }
"""


def test_a_cpu_engine_is_bound_to_the_kind_of_machine() -> None:
    here = this_machine("cpu")
    assert here.system.split()[0] in ("Linux", "Darwin", "Windows")
    assert here.cpu
    assert (here.gpu, here.sm, here.driver_major) == ("", "", 0)
    assert Machine.model_validate_json(here.model_dump_json()) == here


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_library", lambda name: None)
    assert find_gpu() is None
    assert this_machine("cuda").gpu == ""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's library, compiled: the calls go through ctypes as they would to the real one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "cuda.c", tmp_path / "libcuda.so.1"
    source.write_text(CUDA, encoding="ascii")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    real = machine._library
    monkeypatch.setattr(machine, "_library", lambda name: real(str(library)))


@pytest.mark.usefixtures("driver")
def test_a_gpu_is_asked_of_its_driver() -> None:
    assert find_gpu(0) == Gpu("Test A", "9.0", 141 << 30, 580)
    assert find_gpu(2) is None
    there = this_machine("cuda:1")
    assert (there.gpu, there.sm, there.driver_major, there.cpu) == ("Test B", "9.1", 580, "")


def test_versions_are_those_that_are_installed() -> None:
    assert set(versions_of("ort")) <= {"onnxruntime", "onnxruntime-gpu"}
    assert versions_of("nothing") == {}
    assert versions_of("torch") == {"torch": __import__("torch").__version__}


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("2000000000\n", encoding="ascii")
    (tmp_path / "memory.current").write_text("500000000\n", encoding="ascii")
    assert machine._container_bytes(tmp_path) == [1_500_000_000]
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert machine._container_bytes(tmp_path) == []
    assert machine._container_bytes(tmp_path / "nothing") == []
    assert free_memory_bytes() > 100_000_000


@pytest.mark.parametrize(("size", "text"), [(2_130_000_000, "2.1 GB"), (38_400_000, "38 MB"), (0, "0 MB")])
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert machine.gigabytes(size) == text
