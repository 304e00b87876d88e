"""GPU, built engines, identities, and how fast the engine draws that `auto` takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from engines import (
    ConsentEnded,
    EngineUnavailable,
    IdentityError,
    IdentityStore,
    KeyFault,
    NotGenuine,
    VividError,
    built_engines,
    find_gpu,
    local_key,
    quick_bench,
    records_directory,
)
from streamer.doctor.finding import Found, fail, ok, quoted, warn
from streamer.doctor.settings import DoctorSettings

PCI, NVIDIA, DISPLAY = Path("/sys/bus/pci/devices"), "0x10de", "0x03"
LEAST_DRIVER = 580  # CUDA 13, which torch 2.13 and CuPy 13 for CUDA 13 are built for
SMOOTH_FPS, LEAST_FPS = 24.0, 10.0
SHARE_DRAWN = 0.9


def gpu(config: DoctorSettings) -> Iterator[Found]:
    """The NVIDIA GPU, asked of its driver."""
    found = find_gpu()
    if found is not None:
        facts = {"name": found.name, "sm": found.sm, "memory_bytes": found.memory_bytes, "driver": found.driver_major}
        says = f"{found.name}, {found.memory_bytes / 1e9:.0f} GB, compute {found.sm}, driver {found.driver_major}"
        if 0 < found.driver_major < LEAST_DRIVER:
            mend = f"sudo apt install nvidia-driver-{LEAST_DRIVER}"
            yield warn(f"{says}: CUDA 13 wants driver {LEAST_DRIVER} or later", mend, **facts)
        else:
            yield ok(says, **facts)
    elif nvidia_cards():
        mend = f"sudo apt install nvidia-driver-{LEAST_DRIVER}"
        yield warn("there is an NVIDIA card without a driver that answers (libcuda)", mend)
    else:
        yield ok("no NVIDIA GPU: the processor draws")


def nvidia_cards() -> bool:
    """Whether a display controller of that maker is on the bus, driver or not."""
    for vendor in PCI.glob("*/vendor"):
        try:
            kind = (vendor.parent / "class").read_text(encoding="ascii")
            if vendor.read_text(encoding="ascii").strip() == NVIDIA and kind.startswith(DISPLAY):
                return True
        except OSError:
            continue
    return False


def engine_store(config: DoctorSettings) -> Iterator[Found]:
    """The engines that were built here."""
    try:
        store = built_engines()
    except EngineUnavailable as error:
        yield fail(str(error), "ls -ld ~/.local/share/vividstream/engines")
        return
    facts = {"folder": str(store.folder), "engines": list(store.whole)}
    for line in store.broken:
        says, _, _ = line.partition("; `")
        yield fail(f"an engine that cannot be used: {says}", "vividstream engines prune", **facts)
    if store.whole:
        yield ok(f"{len(store.whole)} built: {', '.join(store.whole[:3])}", **facts)
    elif not store.broken:
        yield ok("no learned engine is built; `proxy` draws without", **facts)


def identities(config: DoctorSettings) -> Iterator[Found]:
    """Whose faces can be worn; the installation's key."""
    store = IdentityStore(config.identities_dir)
    try:
        local_key()
    except KeyFault as error:
        path = records_directory()
        anew = f"mv {quoted(path)} {quoted(f'{path}.old')}"
        not_there = isinstance(error.__cause__, OSError)
        yield fail(f"the installation's key: {error}", "vividstream doctor --only disk" if not_there else anew)
    try:
        names = store.names()
    except (OSError, VividError) as error:
        yield fail(f"{store.directory} cannot be read: {error}", quoted("ls", "-ld", store.directory))
        return
    fine = []
    for name in names:
        try:
            store.load(name)
        except (ConsentEnded, NotGenuine) as error:
            yield warn(f"{name} may not be worn: {error}", quoted("vividstream", "consent", "renew", name))
        except KeyFault:
            continue  # said above
        except IdentityError as error:
            there = () if config.identities_dir is None else ("--identities-dir", config.identities_dir)
            again = quoted("vividstream", "enroll", name, "--image", "PHOTO.jpg", "--overwrite", *there)
            if name in store.built_in():
                again = quoted(sys.executable, "-m", "pip", "install", "--force-reinstall", "--no-deps", "vividstream")
            yield fail(f"{name} cannot be used: {error}", again)
        else:
            fine.append(name)
    enrolled = [name for name in fine if name not in store.built_in()]
    if fine:
        own = f"{len(enrolled)} of them enrolled here" if enrolled else "all built in; `vividstream enroll` adds yours"
        yield ok(f"{len(fine)} identities can be worn, {own}", names=fine)
    else:
        yield fail("no identity can be worn", "vividstream identities")


def bench(config: DoctorSettings) -> Iterator[Found]:
    """The engine that `auto` takes, drawing a puppet for some seconds."""
    if config.bench_s == 0:
        yield ok("not measured (--bench-s 0)")
        return
    try:
        ran = quick_bench(config.bench_s)
    except VividError as error:
        yield fail(f"the engine that `auto` takes cannot draw: {error}", "vividstream bench --engine proxy")
        return
    fps = 1000 / ran.p50_ms
    facts = {
        "engine": ran.engine, "why": ran.why, "fps": round(fps, 1), "p50_ms": round(ran.p50_ms, 2),
        "p95_ms": round(ran.p95_ms, 2), "frames": ran.frames, "drawn": ran.drawn,
        "cpu_ms": round(ran.cpu_ms, 2), "warm_up_s": round(ran.warm_up_s, 2),
    }  # fmt: skip
    says = f"{ran.engine}: {fps:.0f} pictures/s at 640x480 (p50 {ran.p50_ms:.0f} ms, p95 {ran.p95_ms:.0f} ms)"
    slower = "vividstream bench --size 480x360"
    busy = fps < SMOOTH_FPS <= 1000 / ran.cpu_ms
    if busy:
        says, slower = f"{says}: other programs keep the processor busy", "ps aux --sort=-pcpu | head -n 6"
    if ran.drawn < SHARE_DRAWN * ran.frames:
        few = f"{ran.engine} drew {ran.drawn} of {ran.frames} pictures"
        yield fail(few, "vividstream bench --engine proxy", **facts)
    elif busy:
        yield warn(says, slower, **facts)
    elif fps < LEAST_FPS:
        yield fail(f"{says}: too slow for a call", slower, **facts)
    elif fps < SMOOTH_FPS:
        yield warn(f"{says}: fewer than a camera gives", slower, **facts)
    else:
        yield ok(says, **facts)
