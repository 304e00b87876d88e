"""Cameras, the loopback module, PipeWire, and which of the cameras a browser sees."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.doctor import browser
from streamer.doctor.finding import Found, fail, ok, quoted, warn
from streamer.doctor.settings import DoctorSettings

if TYPE_CHECKING:
    from streamer.v4l2.devices import Mode  # needs fcntl: imported on Linux only

DEVICES = Path("/dev")
SOURCES = Path("/usr/src")  # of modules that are built for each kernel
USB = Path("/sys/bus/usb/devices")
VIDEO_CLASS = "0e"  # of a USB interface
MODPROBE = (Path("/etc/modprobe.d"), Path("/usr/lib/modprobe.d"))
AT_BOOT = (Path("/etc/modules"), Path("/etc/modules-load.d"))
PLAIN_LINUX = "on Linux only"
MANAGERS = ("wireplumber", "pipewire-media-session", "pipewire-media-")  # names in /proc end after 15 letters
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser")


def cameras(config: DoctorSettings) -> Iterator[Found]:
    """What a picture can be read from, and in which modes."""
    if sys.platform != "linux":
        yield ok(f"cameras are looked at {PLAIN_LINUX}; here: vividstream camera --source 0")
        return
    from streamer.v4l2 import devices

    seen = 0
    for path in nodes():
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            yield from _cannot_open(path, error)
            seen += error.errno in (errno.EACCES, errno.EPERM, errno.EBUSY)
            continue
        try:
            device = devices.look_at(fd, str(path))
            if not device.can_capture or device.is_loopback:
                continue
            seen += 1
            yield _camera(device.path, device.name, devices.modes(fd))
        except OSError as error:
            if error.errno != errno.ENOTTY:
                yield warn(f"{path} does not answer ({error.strerror})", "dmesg | tail -n 20")
        finally:
            os.close(fd)
    if not seen:
        yield _no_camera()


def _no_camera() -> Found:
    """What stands in for it, or what keeps one on the bus from being one."""
    connected = usb_cameras()
    if connected:
        says = f"{', '.join(connected)} is connected by USB, and this kernel has made no camera of it"
        return fail(says, "sudo modprobe uvcvideo || sudo apt install linux-image-amd64")
    again = quoted("vividstream", "doctor", "--only", "cameras")
    return fail("no camera: connect one, then look again (a video file or an address can stand in: --source)", again)


def usb_cameras() -> list[str]:
    """Names of devices on the USB that say they are cameras, whether a driver took them or not."""
    found = []
    for kind in sorted(USB.glob("*:*/bInterfaceClass")):
        try:
            if kind.read_text(encoding="ascii").strip() != VIDEO_CLASS:
                continue
            product = USB / kind.parent.name.partition(":")[0] / "product"
            name = product.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        if name not in found:
            found.append(name)
    return found


def _camera(path: str, name: str, known: Sequence[Mode]) -> Found:
    from streamer.v4l2 import devices

    facts = {"modes": [f"{m.format} {m.width_px}x{m.height_px} {m.fps:g} fps" for m in known]}
    large = [m for m in known if m.height_px >= 720 and m.fps >= 24]
    users = [f"{who} (process {number})" for number, who in devices.users(path)]
    says = f"{path} {name}: {_best(known)}"
    if users:
        number = devices.users(path)[0][0]
        busy = f"{says}; open in {', '.join(users)}, and most cameras serve one program"
        return warn(busy, f"kill {number}", **facts)
    if known and not large:
        slow = f"{says}; no mode of 720 lines with 24 pictures a second"
        return warn(slow, quoted("vividstream", "camera", "--source", path, "--size", "640x480"), **facts)
    return ok(says, **facts)


def _best(known: Sequence[Mode]) -> str:
    if not known:
        return "it does not say its modes"
    best = max(known, key=lambda m: (min(m.fps, 30.0), m.width_px * m.height_px))
    return f"{best.width_px}x{best.height_px} at {best.fps:g} fps ({best.format}), {len(known)} modes"


def _cannot_open(path: Path, error: OSError) -> Iterator[Found]:
    if error.errno in (errno.EACCES, errno.EPERM):
        yield fail(f"{path} may not be used by this user; log in again after", "sudo usermod -aG video $USER")
    elif error.errno == errno.EBUSY:
        yield fail(f"{path} is in use by another program", quoted("fuser", "-v", path))
    elif error.errno not in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTTY):
        yield warn(f"{path} cannot be opened ({error.strerror})", "dmesg | tail -n 20")


def nodes() -> list[Path]:
    """/dev/videoN, by number, whether they can be opened or not."""
    found = [path for path in DEVICES.glob("video*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def loopback(config: DoctorSettings) -> Iterator[Found]:
    """The kernel's module for virtual cameras, and its options."""
    if sys.platform != "linux":
        yield from foreign(config)
        return
    from streamer.camera.loopback import LABEL, NUMBER, load_command, reload_command
    from streamer.v4l2 import devices

    if not devices.module_loaded():
        if installed_module():
            yield from _secure_boot()
            yield fail("the module v4l2loopback is installed and not loaded", load_command())
        elif any(SOURCES.glob("v4l2loopback-*")):
            kernel = os.uname().release
            build = f"sudo apt install linux-headers-{kernel} && sudo dkms autoinstall && {load_command()}"
            yield fail(f"v4l2loopback is installed, but not built for the kernel that runs ({kernel})", build)
        else:
            install = f"sudo apt install v4l2loopback-dkms && {load_command()}"
            yield fail("the module v4l2loopback is not installed: no /dev/video can be written to", install)
        return
    mine = [device for device in devices.devices() if device.is_loopback]
    module = " ".join(filter(None, ("v4l2loopback", devices.module_version())))
    if not mine:
        forbidden = any(not os.access(path, os.W_OK) for path in nodes())
        mend = "sudo usermod -aG video $USER" if forbidden else reload_command(f"/dev/video{NUMBER}")
        yield fail(f"{module} is loaded, and none of its devices can be used", mend)
        return
    for device in mine:
        if not exclusive(device.number) and device.can_capture and device.can_output:
            mend = reload_command(device.path)
            yield warn(f"{device.path} was made without exclusive_caps=1: Chromium does not list it", mend)
            continue
        busy = [f"{who} (process {number})" for number, who in devices.users(device.path)]
        note = f", open in {', '.join(busy)}" if busy else ", free"
        yield ok(f"{device.path} {device.name}: {module}{note}", exclusive_caps=exclusive(device.number))
    if not survives_boot():
        options = f"options v4l2loopback video_nr={NUMBER} exclusive_caps=1 card_label={LABEL}"
        mend = (
            f"echo '{options}' | sudo tee /etc/modprobe.d/v4l2loopback.conf && "
            "echo v4l2loopback | sudo tee /etc/modules-load.d/v4l2loopback.conf"
        )
        yield warn("the module and its options are gone after the next start of the machine", mend)


def exclusive(number: int) -> bool:
    """Whether the device was made with exclusive_caps=1, as far as the module's list of options tells."""
    from streamer.v4l2 import devices

    try:
        flags = (devices.MODULE / "parameters/exclusive_caps").read_text(encoding="ascii").strip().split(",")
        numbers = (devices.MODULE / "parameters/video_nr").read_text(encoding="ascii").strip().split(",")
    except OSError:
        return False
    place = numbers.index(str(number)) if str(number) in numbers else 0
    return place < len(flags) and flags[place] in ("Y", "1")


def installed_module() -> bool:
    """Whether the module lies where `modprobe` looks for it, for the kernel that runs."""
    folder = Path("/lib/modules") / os.uname().release
    return next(folder.rglob("v4l2loopback.ko*"), None) is not None


def _secure_boot() -> Iterator[Found]:
    for path in Path("/sys/firmware/efi/efivars").glob("SecureBoot-*"):
        try:
            enabled = path.read_bytes()[-1:] == b"\x01"
        except OSError:
            continue
        if enabled:
            key = "/var/lib/dkms/mok.pub"
            yield warn("Secure Boot is on: the module loads only signed", f"sudo mokutil --import {key}")


def survives_boot() -> bool:
    """Whether options and module are written down for the next start."""
    return _mentions(MODPROBE, r"^options\s+v4l2loopback\b") and _mentions(AT_BOOT, r"^v4l2loopback\b")


def _mentions(places: tuple[Path, ...], pattern: str) -> bool:
    for place in places:
        for path in [place] if place.is_file() else sorted(place.glob("*")) if place.is_dir() else []:
            try:
                if re.search(pattern, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE):
                    return True
            except OSError:
                continue
    return False


def foreign(config: DoctorSettings) -> Iterator[Found]:
    """The cameras of OBS and Unity, on Windows and macOS."""
    from streamer.camera.other_systems import INSTALL, child_command

    try:
        ran = subprocess.run([*child_command(), "--list"], capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield fail(f"the virtual camera's process does not start: {error}", INSTALL)
        return
    try:
        said = json.loads(ran.stdout)
    except ValueError:
        said = {"error": (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    if "error" in said or not said["backends"]:
        yield fail(f"no virtual camera can be written to: {said.get('error', 'none is installed')}", INSTALL)
    else:
        names = ", ".join(said["backends"])
        yield ok(f"pyvirtualcam {said['version']} writes to {names}; OBS must have started its camera once", **said)


def pipewire(config: DoctorSettings) -> Iterator[Found]:
    """Whether a camera can be offered to sandboxed programs: one is made for a moment."""
    if sys.platform != "linux":
        yield ok(f"PipeWire is {PLAIN_LINUX}")
        return
    from streamer.camera import pipewire_library
    from streamer.camera.pipewire import START, PipeWireSink
    from streamer.errors import SinkError

    try:
        version = pipewire_library.version()
    except SinkError as error:
        says, _, mend = str(error).partition("; ")
        yield warn(f"{says}: sandboxed programs see no virtual camera of ours", f"sudo {mend}")
        return
    sink = PipeWireSink("vividstream doctor")
    try:
        sink.open(640, 480, 25, None)
        end_s = time.monotonic() + 2.0
        while not sink.there and time.monotonic() < end_s:
            time.sleep(0.02)
        there = sink.there
    except SinkError:
        yield warn(f"PipeWire {version} is installed and does not run for this user", START)
        return
    finally:
        sink.close()
    if not there:
        yield warn(f"PipeWire {version} runs and makes no camera", "systemctl --user restart pipewire wireplumber")
    elif not _runs(MANAGERS):
        mend = "systemctl --user start wireplumber"
        yield warn(f"PipeWire {version} runs without a session manager: cameras are listed and cannot be read", mend)
    elif not _runs(("xdg-desktop-por",)):
        mend = "sudo apt install xdg-desktop-portal && systemctl --user start xdg-desktop-portal"
        yield warn(f"PipeWire {version} makes cameras; Flatpak programs get them by xdg-desktop-portal only", mend)
    else:
        yield ok(f"PipeWire {version} makes cameras that sandboxed programs see", version=version)


def _runs(names: tuple[str, ...]) -> bool:
    """Whether a process has one of these names (the first 15 letters of them)."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text(encoding="utf-8", errors="replace").strip() in names:
                return True
        except OSError:
            continue
    return False


def browsers(config: DoctorSettings) -> Iterator[Found]:
    """Which cameras the browsers here list. Chromium is asked; of others it is said what they go by."""
    asked = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    firefox = shutil.which("firefox") or shutil.which("firefox-esr")
    if asked is None and firefox is None:
        yield ok("no browser is installed here that could be asked which cameras it lists")
        return
    if asked is not None:
        yield _chromium(asked)
    if firefox is not None and is_sandboxed(firefox):
        mend = "vividstream camera --source 0 --sink pipewire"
        yield warn("Firefox is a Snap or Flatpak here: it lists PipeWire's cameras, not /dev/video", mend)
    elif firefox is not None:
        yield ok("Firefox lists /dev/video cameras (Fedora's: PipeWire's; --sink pipewire)")


def _chromium(path: str) -> Found:
    name = Path(path).name
    if is_sandboxed(path):
        flatpak = f"flatpak override --user --device=all {name}"
        mend = f"sudo snap connect {name}:camera" if "snap" in os.path.realpath(path) else flatpak
        return warn(f"{name} is a Snap or Flatpak here, and sees a camera only if it may", mend)
    expected = expected_of_chromium()
    try:
        listed = browser.ask(path)
    except (OSError, ValueError) as error:
        return warn(f"{name} could not be asked which cameras it lists ({error})", quoted(path, "chrome://version"))
    facts = {"lists": listed, "there": expected}
    missing = [one for one in expected if not any(one in label for label in listed)] if any(listed) else expected
    if len(listed) >= len(expected) and not (any(listed) and missing):
        if not listed:
            return ok(f"{name} lists no camera, and there is none now that it could list", **facts)
        return ok(f"{name} lists {', '.join(filter(None, listed)) or f'{len(listed)} cameras'}", **facts)
    mend = "sudo modprobe -r v4l2loopback && sudo modprobe v4l2loopback exclusive_caps=1 card_label=vividstream"
    return warn(f"{name} does not list {', '.join(missing)}", mend, **facts)


def expected_of_chromium() -> list[str]:
    """Names of the cameras that are there now; a loopback device only while something is written to it."""
    if sys.platform != "linux":
        return []
    from streamer.v4l2 import devices

    return [device.name for device in devices.cameras()]


def is_sandboxed(path: str) -> bool:
    """Whether a program is a Snap or a Flatpak."""
    real = os.path.realpath(path)
    if real.endswith("/snap") or "/snap/" in f"{path} {real}" or "/flatpak/" in f"{path} {real}":
        return True
    try:
        with open(real, "rb") as file:
            return b"/snap/bin/" in file.read(4096)
    except OSError:
        return False
