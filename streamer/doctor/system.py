"""Python, libraries, memory and disk."""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from engines import IdentityStore, built_engines, free_memory_bytes, records_directory
from streamer.doctor.finding import Found, fail, ok, quoted, warn
from streamer.doctor.settings import DoctorSettings

PACKAGE = "vividstream"
OLDEST, NEWEST = (3, 11), (3, 12)
GPU_PACKAGES = ("onnxruntime-gpu", "torch", "tensorrt", "torch-tensorrt", "cupy-cuda13x")
LEAST_MEMORY_BYTES, USUAL_MEMORY_BYTES = 1.0e9, 2.0e9  # a call of `proxy` takes some 0.7 GB
LEAST_DISK_BYTES, USUAL_DISK_BYTES = 200e6, 2e9
PROBE_BYTES = 1 << 20


def python(config: DoctorSettings) -> Iterator[Found]:
    """The interpreter."""
    here = sys.version_info[:2]
    says = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, vividstream {_own()}"
    if sys.maxsize < 2**32:
        yield fail(f"{says}: a 64-bit Python is needed", "python3 -c 'import platform; print(platform.architecture())'")
    elif not OLDEST <= here <= NEWEST:
        yield fail(f"{says}: 3.11 or 3.12 is needed (MediaPipe has no other)", "python3.12 -m venv .venv")
    else:
        yield ok(says, python=platform.python_version(), system=platform.platform(), vividstream=_own())


def libraries(config: DoctorSettings) -> Iterator[Found]:
    """What the base installation requires, by its own metadata."""
    missing, other, found = [], [], {}
    for line in requires(PACKAGE) or ():
        if "extra ==" in line or ("sys_platform" in line and sys.platform == "win32"):
            continue
        name, rule = re.match(r"([A-Za-z0-9_.\-]+)(?:\[[^]]*\])?\s*([^;]*)", line).groups()  # type: ignore[union-attr]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        if not fits(found[name], rule):
            other.append(f"{name} {found[name]} ({rule.strip()} is wanted)")
    mend = quoted(sys.executable, "-m", "pip", "install", "--force-reinstall", PACKAGE)
    if missing:
        yield fail(f"not installed: {', '.join(missing)}", mend, versions=found)
    if other:
        yield warn(f"other versions than those that were tried: {', '.join(other)}", mend, versions=found)
    if not missing and not other:
        shown = ", ".join(f"{name} {found[name]}" for name in ("aiortc", "av", "numpy", "mediapipe") if name in found)
        yield ok(f"{len(found)} libraries in the versions that were tried: {shown}, ...", versions=found)


def codecs(config: DoctorSettings) -> Iterator[Found]:
    """Whether pictures can be coded and decoded."""
    import av

    from streamer.encoding import libav
    from streamer.encoding.native import NotUsable, load

    readers: dict[str, Literal["r", "w"]] = dict.fromkeys(("mjpeg", "h264", "vp8", "opus"), "r")
    needed = readers | dict.fromkeys(("libx264", "libvpx", "libopus"), "w")
    absent = []
    for name, mode in needed.items():
        try:
            av.Codec(name, mode)
        except av.codec.codec.UnknownCodecError:
            absent.append(name)
    mend = quoted(sys.executable, "-m", "pip", "install", "--force-reinstall", "--only-binary", ":all:", "av")
    if absent:
        yield fail(f"PyAV {av.__version__} has no {', '.join(absent)}", mend)
        return
    for name in ("vpx", "x264"):
        try:
            load(name)
        except NotUsable as error:
            yield warn(f"{error}: its rate cannot be changed in the middle of a call", mend)
            return
    why = libav.refusal(libav.NVENC)  # by opening one: which cards have an encoder is in no list
    by = (
        "the graphics card codes H.264"
        if why is None
        else f"the CPU codes ({libav.NVENC.encoder} does not open: {why})"
    )
    yield ok(f"H.264, VP8, MJPEG and Opus by PyAV {av.__version__}; {by}", nvenc=why is None)


def memory(config: DoctorSettings) -> Iterator[Found]:
    """Main memory that is left."""
    free = free_memory_bytes()
    if not free:
        yield ok("this system does not say how much memory is free")
        return
    says = f"{free / 1e9:.1f} GB of memory are free"
    mend = "ps aux --sort=-rss | head -n 6"
    if free < LEAST_MEMORY_BYTES:
        yield fail(f"{says}: too little for one call; end what takes the most", mend, free_bytes=free)
    elif free < USUAL_MEMORY_BYTES:
        yield warn(f"{says}: enough for one call and not much else", mend, free_bytes=free)
    else:
        yield ok(says, free_bytes=free)


def disk(config: DoctorSettings) -> Iterator[Found]:
    """Where things are kept: whether they can be written, and how much there is room for."""
    places = {
        "identities": IdentityStore(config.identities_dir).directory,
        "keys and logs": records_directory(),
        "engines": built_engines().folder,
        "temporary files": Path(tempfile.gettempdir()),
    }
    fine: list[str] = []
    for what, folder in places.items():
        there = existing(folder)
        trouble = written(there)
        free = shutil.disk_usage(there).free
        facts = {"folder": str(folder), "free_bytes": free}
        if trouble in (errno.ENOSPC, errno.EDQUOT) or (trouble is None and free < LEAST_DISK_BYTES):
            mend = f"du -xah {quoted(mount_of(there))} 2>/dev/null | sort -h | tail -n 15"
            yield fail(f"{what}: the disk of {folder} is full ({free / 1e6:.0f} MB left)", mend, **facts)
        elif trouble is not None:
            mend = _owned(folder, there, trouble)
            yield fail(f"{what}: {there} cannot be written to ({os.strerror(trouble)})", mend, **facts)
        elif free < USUAL_DISK_BYTES:
            mend = "vividstream engines prune"
            yield warn(f"{what}: {free / 1e9:.1f} GB are left for {folder}; one built engine can take 2", mend, **facts)
        else:
            fine.append(f"{free / 1e9:.0f} GB for {what}")
    if fine:
        yield ok(f"room: {', '.join(fine)}")


def _owned(folder: Path, there: Path, trouble: int) -> str:
    """Makes a folder this user's, and nothing above it: `there` is the part of it that exists."""
    home = Path.home()
    if trouble == errno.EROFS:
        return f"sudo mount -o remount,rw {quoted(mount_of(there))}"
    if not home.is_dir() and folder.is_relative_to(home):
        return 'mkdir -p "/var/tmp/home-$USER" && export HOME="/var/tmp/home-$USER"'
    if there == folder.expanduser().absolute():
        return f"sudo chown -R $USER {quoted(there)} && chmod u+rwX {quoted(there)}"
    return f"sudo install -d -o $USER {quoted(folder)}"


def runtimes(config: DoctorSettings) -> Iterator[Found]:
    """What executes learned engines."""
    from engines import find_gpu

    found = {name: got for name in ("onnxruntime", *GPU_PACKAGES) if (got := installed(name)) is not None}
    shown = ", ".join(f"{name} {got}" for name, got in found.items()) or "none"
    pip = quoted(sys.executable, "-m", "pip")
    if {"onnxruntime", "onnxruntime-gpu"} <= found.keys():
        mend = f"{pip} uninstall -y onnxruntime onnxruntime-gpu && {pip} install onnxruntime-gpu==1.31.1"
        yield fail("onnxruntime and onnxruntime-gpu are both installed, and own the same folder", mend, versions=found)
    elif not found:
        yield fail("no runtime for learned engines is installed", f"{pip} install onnxruntime", versions=found)
    elif find_gpu() is not None and not found.keys() & set(GPU_PACKAGES):
        mend = f"{pip} install 'vividstream[gpu]'"
        yield warn(f"there is a GPU, and only runtimes for the processor: {shown}", mend, versions=found)
    else:
        yield ok(f"runtimes: {shown}", versions=found)


def installed(name: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fits(found: str, rule: str) -> bool:
    """Whether a version obeys "<4,>=3.14.5". Only what this project writes is understood: ==, >=, <, <=, >, !=."""
    for part in filter(None, (one.strip() for one in rule.replace("(", "").replace(")", "").split(","))):
        match = re.fullmatch(r"(==|>=|<=|!=|<|>)\s*([0-9][0-9.]*)\S*", part)
        if match is None:
            continue
        sign, wanted = match.groups()
        mine, theirs = _numbers(found), _numbers(wanted)
        length = max(len(mine), len(theirs))
        mine, theirs = (one + (0,) * (length - len(one)) for one in (mine, theirs))
        held = {"==": mine == theirs, ">=": mine >= theirs, "<=": mine <= theirs, "!=": mine != theirs}
        if not (held | {"<": mine < theirs, ">": mine > theirs})[sign]:
            return False
    return True


def existing(folder: Path) -> Path:
    """The folder, or the first above it that is there: where it would be made."""
    folder = folder.expanduser().absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def written(folder: Path) -> int | None:
    """Writes a megabyte there and takes it away. Returns the error's number; None where it worked."""
    path = folder / f".vividstream-doctor-{secrets.token_hex(4)}"
    try:
        with path.open("xb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        path.unlink(missing_ok=True) if os.access(folder, os.W_OK) else None
    return None


def mount_of(folder: Path) -> Path:
    """Where the file system begins that the folder is on."""
    while not folder.is_mount() and folder != folder.parent:
        folder = folder.parent
    return folder


def _own() -> str:
    return installed(PACKAGE) or "(not installed)"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+-]", text)[0]))
