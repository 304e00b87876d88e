"""What runs inside the test's machine: writers and readers of its cameras. Arguments and results are JSON."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines import MediaError, Rgb, SwapSettings, VividError, standby_card
from streamer.camera.command import run_camera
from streamer.camera.layouts import LAYOUTS
from streamer.camera.loopback import LoopbackSink
from streamer.camera.settings import CameraSettings
from streamer.camera.sink import PixelFormat
from streamer.capture.camera import CameraMedium
from streamer.capture.picture import CapturedPicture
from streamer.capture.source import Source
from streamer.capture.wish import Wish
from streamer.control import tell
from streamer.mailbox import Latest
from streamer.v4l2 import abi, devices
from streamer.v4l2.stream import Stream, open_device

OUT = Path("/run/out")
EVERY_S = 0.1  # between two pictures of a writer
PATIENCE_S = 60.0
VIVID = "/sys/bus/platform/drivers/vivid"


def compile_kernels() -> None:
    """Everything of Numba that is used inside, for plain and for locked pictures: on the outside for the cache, inside
    from it."""
    from engines import load

    locked = np.zeros((64, 96, 3), np.uint8)
    locked.flags.writeable = False
    for layout in LAYOUTS.values():
        layout(np.zeros((64, 96, 3), np.uint8))
        layout(locked)
    standby_card(64, 96, "One moment, please")
    session = load(SwapSettings(engine="passthrough"))
    session.warm_up(64, 96)
    session.close()


def pictures(size_px: tuple[int, int]) -> list[Rgb]:
    """The clip's, as the outside left them, at this size."""
    film = np.load(OUT / "film.npy")
    return [np.asarray(Image.fromarray(one).resize(size_px, Image.Resampling.BILINEAR), np.uint8) for one in film]


def look(path: str) -> dict[str, Any]:
    device = devices.look(path)
    return {"name": device.name, "capture": device.can_capture, "output": device.can_output}


def write(
    path: str,
    size_px: tuple[int, int],
    pixel_format: PixelFormat | None = None,
    until: str = "",
    seconds: float = 200.0,
) -> dict[str, Any]:
    """Writes the clip over and over, until the file `until` is there. Counts who watches meanwhile."""
    sink = LoopbackSink(path)
    try:
        shape = sink.open(size_px[0], size_px[1], 10.0, pixel_format)
    except VividError as error:
        return {"refused": str(error)}
    film = pictures((shape.width_px, shape.height_px))
    written, end_s = 0, time.monotonic() + seconds
    watched: list[int | None] = []
    (OUT / f"{Path(path).name}.written").touch()
    while time.monotonic() < end_s and not (until and (OUT / until).exists()):
        sink.write(film[written % len(film)], time.monotonic())
        written += 1
        readers = sink.readers()
        if not watched or watched[-1] != readers:
            watched.append(readers)
        time.sleep(EVERY_S)
    sink.close()
    (OUT / f"{Path(path).name}.written").unlink()
    return {
        "shape": [shape.width_px, shape.height_px, shape.pixel_format], "written": written, "watched": watched,
        "warning": sink.warning,
    }  # fmt: skip


def stop(name: str) -> None:
    """Tells a writer to end."""
    (OUT / name).touch()


def read(path: str, count: int = 6, save: str = "", hold_s: float = 0.0) -> dict[str, Any]:
    """Reads with FFmpeg's v4l2, as other programs do, and says how near each picture is to one of the clip's."""
    _wait(lambda: (OUT / f"{Path(path).name}.written").exists())
    with av.open(path, format="v4l2") as media:
        frames, kind = [], ""
        for frame in media.decode(video=0):
            frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            kind = frame.format.name
            if len(frames) == count:
                break
        time.sleep(hold_s)
    film = pictures((frames[0].shape[1], frames[0].shape[0]))
    near = [max((psnr(frame, one), number) for number, one in enumerate(film)) for frame in frames]
    if save:
        Image.fromarray(frames[-1]).save(OUT / save)
    return {
        "format": kind, "size_px": [frames[0].shape[1], frames[0].shape[0]],
        "psnr_db": [round(one, 1) for one, _ in near], "numbers": [number for _, number in near],
    }  # fmt: skip


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return 10 * float(np.log10(255**2 / max(error, 1e-3)))


def read_on(path: str, until: str, most_s: float = 120.0) -> dict[str, Any]:
    """Reads by plain ioctls without a pause, and says when pictures came: over a writer's end and a new one's start."""
    _wait(lambda: (OUT / f"{Path(path).name}.written").exists())
    fd = open_device(path)
    stream = Stream(fd, abi.CAPTURE)
    stream.start()
    came, lengths, end_s = [], set(), time.monotonic() + most_s
    (OUT / f"{Path(path).name}.read").touch()
    while time.monotonic() < end_s and not (OUT / until).exists():
        taken = stream.take(0.2)
        if taken is not None:
            came.append(time.monotonic())
            lengths.add(len(taken.data))
    stream.close()
    os.close(fd)
    gaps = np.diff(came)
    return {
        "pictures": len(came), "longest_gap_s": float(gaps.max()) if len(gaps) else None, "lengths": sorted(lengths),
    }  # fmt: skip


def refusals(paths: list[str]) -> dict[str, str]:
    """What a person reads who asks for a virtual camera that cannot be."""
    said = {}
    for path in paths:
        sink = LoopbackSink(path)
        try:
            sink.open(320, 180, 10.0, None)
            said[path] = ""
        except VividError as error:
            said[path] = str(error)
        finally:
            sink.close()
    return said


def capture(what: str, size_px: tuple[int, int], fps: float = 30.0, count: int = 5, save: str = "") -> dict[str, Any]:
    """Reads a camera as the product does."""
    medium = CameraMedium(what)
    try:
        facts = medium.open(Wish(size_px[0], size_px[1], fps))
    except MediaError as error:
        return {"refused": str(error)}
    got: list[CapturedPicture] = []
    ages: list[float] = []
    for picture in medium.read(lambda: len(got) >= count):
        got.append(picture)
        ages.append(time.monotonic() - picture.captured_s)
    medium.close()
    rgb_HW3 = got[-1].to_rgb()
    if save:
        Image.fromarray(rgb_HW3).save(OUT / save)
    near = 0.0
    if (OUT / "film.npy").exists():
        near = max(psnr(rgb_HW3, one) for one in pictures((rgb_HW3.shape[1], rgb_HW3.shape[0])))
    return {
        "name": medium.name, "size_px": [facts.width_px, facts.height_px], "format": facts.format, "fps": facts.fps,
        "damaged": medium.damaged, "ages_s": ages, "psnr_db": near, "deviation": float(rgb_HW3.std()),
    }  # fmt: skip


def modes(path: str) -> list[list[Any]]:
    fd = open_device(path)
    try:
        return [[mode.format, mode.width_px, mode.height_px, round(mode.fps, 2)] for mode in devices.modes(fd)]
    finally:
        os.close(fd)


def write_jpeg(path: str, size_px: tuple[int, int], until: str, damage_every: int = 0) -> int:
    """Writes as a webcam with motion JPEG does; every so many pictures one is cut off."""
    fd = open_device(path)
    wanted = abi.Format(type=abi.OUTPUT)
    pix = wanted.fmt.pix
    pix.width, pix.height, pix.pixelformat = *size_px, abi.fourcc("MJPG")
    pix.sizeimage, pix.field = size_px[0] * size_px[1] * 2, abi.FIELD_NONE
    abi.call(fd, abi.S_FMT, wanted)
    with suppress(OSError):
        abi.call(fd, abi.S_PARM, abi.StreamParameters(type=abi.OUTPUT, timeperframe=abi.Fraction(1, 10)))
    stream = Stream(fd, abi.OUTPUT)
    stream.start()
    written = 0
    coded = [_jpeg(one) for one in pictures(size_px)]
    (OUT / f"{Path(path).name}.written").touch()
    while not (OUT / until).exists():
        data = coded[written % len(coded)]
        written += 1
        if damage_every and written % damage_every == 0:
            data = data[:20]
        stream.give(memoryview(data))
        time.sleep(EVERY_S)
    stream.close()
    os.close(fd)
    (OUT / f"{Path(path).name}.written").unlink()
    return written


def _jpeg(rgb_HW3: Rgb) -> bytes:
    data = io.BytesIO()
    Image.fromarray(rgb_HW3).save(data, "JPEG", quality=92)
    return data.getvalue()


def unplug_and_plug(path: str) -> dict[str, Any]:
    """The kernel's test camera is taken away while it is read, and comes back."""
    source = Source(CameraMedium(path), Wish(320, 180, 30))
    box: Latest[CapturedPicture] = Latest()
    told: list[str] = []
    source.start(box, changed=lambda: told.append(f"{source.status.state.value}: {source.status.why}"))
    assert _take(box) is not None
    device = next(one for one in os.listdir(VIVID) if one.startswith("vivid."))
    Path(VIVID, "unbind").write_text(device, encoding="ascii")
    _wait(lambda: source.status.state.value == "waiting")
    why = source.status.why
    Path(VIVID, "bind").write_text(device, encoding="ascii")
    _wait(lambda: source.status.state.value == "live")
    after = _take(box)
    numbers = source.numbers()
    ended = source.close()
    return {"why": why, "told": told, "after": after is not None, "openings": numbers["openings"], "ended": ended}


def busy(path: str) -> str:
    """Another program streams from the camera: what is said of it."""
    other = CameraMedium(path)
    other.open(Wish(320, 180, 30))
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            CameraMedium(path).open(Wish(320, 180, 30))
            said = "it was opened twice"
        except MediaError as error:
            said = str(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 4096).decode()
    other.close()
    return said


def _take(box: Latest[CapturedPicture]) -> CapturedPicture | None:
    return box.take(PATIENCE_S)


def _wait(ready: Any, most_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + most_s
    while not ready():
        if time.monotonic() > end_s:
            raise TimeoutError("waited in vain")
        time.sleep(0.05)


def command(source: str, sink: str, until: str, **options: Any) -> dict[str, Any]:
    """`vividstream camera`, as a person runs it, asked over its socket what it does."""
    path = Path("/run/user/camera.sock")
    settings = CameraSettings(source=source, sink=(sink,), control=path, keys=False, **options)
    ending = threading.Event()
    asked: list[dict[str, Any]] = []

    def ask() -> None:
        while not ending.wait(0.5):
            with suppress(VividError):
                answer = tell(path, {"do": "status"}, 20.0)
                kept = ("showing", "why_card", "readers", "idle", "shown", "age_ms", "identity", "engine")
                asked.append({name: answer.get(name) for name in kept} | {"source": answer["source"]})
                if answer["shown"]:
                    (OUT / f"{Path(sink).name}.written").touch()
            if (OUT / until).exists():
                ending.set()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        run_camera(settings, SwapSettings(engine="passthrough"), ending)
    except VividError as error:
        return {"refused": str(error)}
    finally:
        ending.set()
        thread.join()
        with suppress(FileNotFoundError):
            (OUT / f"{Path(sink).name}.written").unlink()
    return {"asked": asked, "left": path.exists()}


def film(path: str, size_px: tuple[int, int]) -> None:
    """The clip as a small file, in a format that costs little to decode."""
    with av.open(path, "w") as media:
        stream = media.add_stream("mjpeg", rate=Fraction(5), width=size_px[0], height=size_px[1])
        stream.pix_fmt = "yuvj420p"
        for one in pictures(size_px):
            media.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="rgb24")))
        media.mux(stream.encode(None))


def chromium(program: str, most_s: float) -> dict[str, Any]:
    """What a page sees that takes a camera, in headless Chromium: name, size, how near to the clip.

    The kernel's test camera is taken away before: to ask it for all its modes takes minutes.
    """
    for device in [one for one in os.listdir(VIVID) if one.startswith("vivid.")]:
        Path(VIVID, "unbind").write_text(device, encoding="ascii")
    found: list[dict[str, Any]] = []
    page = Path(__file__).with_name("camera.html").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page if self.path == "/" else b"")

        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    arguments = [
        program, "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--enable-logging=stderr",
        "--user-data-dir=/run/chromium", "--use-fake-ui-for-media-stream", "--remote-debugging-port=9222",
        f"http://127.0.0.1:{server.server_address[1]}/",
    ]  # fmt: skip
    with (OUT / "chromium.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd="/run", start_new_session=True)
        try:
            _wait(lambda: found or process.poll() is not None, most_s)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its children hold the camera
    if not found:
        return {"failed": (OUT / "chromium.log").read_text(errors="replace")[-3000:]}
    if "png" in found[0]:
        data = base64.b64decode(found[0].pop("png").split(",")[1])
        (OUT / "chromium.png").write_bytes(data)
        seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8)
        found[0]["psnr_db"] = max(psnr(seen, one) for one in pictures((seen.shape[1], seen.shape[0])))
    return found[0]


def doctor() -> list[dict[str, Any]]:
    """What `vividstream doctor` says of the cameras and of the module."""
    from streamer.doctor import cameras
    from streamer.doctor.settings import DoctorSettings

    return [found.as_json() for look in (cameras.cameras, cameras.loopback) for found in look(DoctorSettings())]
