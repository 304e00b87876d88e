"""A machine of its own for tests: QEMU with Debian's kernel, the real v4l2loopback, and this machine's files.

It is booted once and then asked to run functions, each in a process of its own: under emulation importing takes
minutes, forking does not. Functions are in `inside.py`; arguments and results are JSON.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
PREPARE = "tests/streamer/camera/kernel/prepare"
BOOT_S = 900.0  # of which nearly all is importing
LOOK_S = 0.1
MODULES = ("9pnet_virtio", "9p", "virtio_pci", "videodev", "vivid")  # vivid: the kernel's own test camera


class Failed(AssertionError):
    """A function raised inside; the message has its traceback."""


def lacking(folder: Path) -> str | None:
    """Why there can be no such machine here, in words."""
    if not shutil.which("qemu-system-x86_64"):
        return f"needs qemu-system-x86_64; `{PREPARE}` installs it"
    if not (folder / "release").exists() or not (folder / "module" / "v4l2loopback.ko").exists():
        return f"needs a kernel and v4l2loopback; `{PREPARE}` makes both (as root)"
    return None


def kernel_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("VIVIDSTREAM_TEST_KERNEL") or Path(cache, "vividstream", "test-kernel"))


class Machine:
    """The running machine. `out` is a folder that both sides see: `/run/out` inside."""

    def __init__(self, out: Path, process: subprocess.Popen[bytes]) -> None:
        self.out = out
        self._process = process
        self._calls = 0

    def begin(self, function: str, **arguments: Any) -> int:
        """Starts a function of `inside.py`; it goes on while others run."""
        self._calls += 1
        request = self.out / f"{self._calls}.request"
        request.with_suffix(".part").write_text(json.dumps([function, arguments]), encoding="utf-8")
        request.with_suffix(".part").rename(request)
        return self._calls

    def end(self, number: int, timeout_s: float = 240.0) -> Any:
        """What it returned. Raises Failed with its traceback and all that it printed."""
        result = self.out / f"{number}.result"
        end_s = time.monotonic() + timeout_s
        while not result.exists():
            self._check_alive()
            if time.monotonic() > end_s:
                raise Failed(f"no answer within {timeout_s} s; it said:\n{self._said(number)}")
            time.sleep(LOOK_S)
        answer = json.loads(result.read_text(encoding="utf-8"))
        if "raised" in answer:
            raise Failed(f"{answer['raised']}\nit said:\n{self._said(number)}")
        return answer["returned"]

    def call(self, function: str, timeout_s: float = 240.0, **arguments: Any) -> Any:
        """Starts it and waits."""
        return self.end(self.begin(function, **arguments), timeout_s)

    def wait_until_ready(self) -> None:
        end_s = time.monotonic() + BOOT_S
        while not (self.out / "ready").exists():
            self._check_alive()
            if time.monotonic() > end_s:
                raise Failed(f"it did not come up:\n{self._console()}")
            time.sleep(LOOK_S)

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            raise Failed(f"the machine ended by itself:\n{self._console()}")

    def _said(self, number: int) -> str:
        path = self.out / f"{number}.said"
        return path.read_text(encoding="utf-8", errors="replace")[-4000:] if path.exists() else "nothing"

    def _console(self) -> str:
        return (self.out / "console").read_text(encoding="utf-8", errors="replace")[-4000:]


@contextmanager
def booted(work: Path) -> Iterator[Machine]:
    """A machine for as long as the context lasts."""
    kernel, out = kernel_folder(), work / "out"
    out.mkdir(parents=True, exist_ok=True)
    release = (kernel / "release").read_text(encoding="ascii").strip()
    initrd = _initrd(kernel, release, work)
    environment = {
        "HOME": "/run", "TMPDIR": "/run", "XDG_RUNTIME_DIR": "/run/user", "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "2", "OUT": "/run/out",
        # What was compiled on this machine is found inside: the emulated processor is another one.
        "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": "/run/out/numba",
    }  # fmt: skip
    _compile(out / "numba")
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines += [
        f"cd {shlex.quote(str(ROOT))}",
        f"exec {shlex.quote(sys.executable)} -m tests.streamer.camera.kernel.agent",
    ]
    (out / "begin").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [
        "qemu-system-x86_64", "-machine", "q35,accel=tcg,vmport=off", "-cpu", "max", "-smp", "2", "-m", "3072",
        "-nographic", "-no-reboot", "-kernel", str(kernel / "root" / "boot" / f"vmlinuz-{release}"),
        "-initrd", str(initrd), "-append", "console=ttyS0 panic=-1 quiet loglevel=1",
        "-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
        "-virtfs", f"local,path={out},mount_tag=out,security_model=none",
    ]  # fmt: skip
    with (out / "console").open("wb") as console:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    try:
        machine = Machine(out, process)
        machine.wait_until_ready()
        yield machine
    finally:
        process.terminate()
        process.wait(10)


def _initrd(kernel: Path, release: str, work: Path) -> Path:
    """The first file system: busybox, the modules that reach this machine's files, v4l2loopback, and `init`."""
    tree = work / "initrd"
    for name in ("bin", "modules", "proc", "sys", "dev", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    wanted: list[str] = []
    for module in MODULES:
        listed = subprocess.run(
            ["modprobe", "-d", str(kernel / "root"), "-S", release, "--show-depends", module],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        wanted += [line.split()[1] for line in listed.splitlines() if line.startswith("insmod")]
    for number, path in enumerate(dict.fromkeys(wanted), 10):
        shutil.copy(path, tree / "modules" / f"{number}-{Path(path).name}")
    shutil.copy(kernel / "module" / "v4l2loopback.ko", tree / "modules" / "99-v4l2loopback.ko")
    shutil.copy(HERE / "init", tree / "init")
    (tree / "init").chmod(0o755)
    initrd = work / "initrd.gz"
    subprocess.run(
        f"find . | cpio -o -H newc --quiet | gzip -1 >{shlex.quote(str(initrd))}", shell=True, check=True, cwd=tree
    )
    return initrd


def _compile(folder: Path) -> None:
    """Kernels of Numba that are used inside, for any processor. The folder must be writable inside."""
    environment = {
        **os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(folder),
    }  # fmt: skip
    script = "from tests.streamer.camera.kernel.inside import compile_kernels; compile_kernels()"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=environment)
