"""Clips for `benchmarks.marks`, and what is done to them: codecs, scaling, cropping, a screen, filters."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from PIL import Image, ImageFilter

from benchmarks.corpus import DATA, read_clip
from engines import IdentityStore, SwapSettings, load
from engines.types import Rgb

Frames = list[Rgb]
Kind = Literal["real", "rendered", "swapped"]
FRAMES = 12
FPS = 30
HEIGHT_PX, WIDTH_PX = 480, 640
# The detector's filter was chosen by looking at portraits before the 60th and at the first stretch of each real clip.
FIRST_RENDERED, FIRST_STRETCH = 60, 16


@dataclass(frozen=True, slots=True)
class Clip:
    """Pictures before the mark; `marked` are those that a session marked itself, for swapped ones."""

    name: str
    kind: Kind
    frames: Frames
    marked: Frames | None = None


def clips(wanted: dict[Kind, int], but: dict[Kind, int] | None = None) -> Iterator[Clip]:
    """So many of each kind, in turns, without the first `but`, none that was looked at while the detector was made.
    A real clip is FRAMES frames that no other shares, some brought to 1280x720.
    """
    sources: dict[Kind, Callable[[int, int], Iterator[Clip]]] = {
        "rendered": _rendered,
        "real": _real,
        "swapped": _swapped,
    }
    turns = [source(wanted[kind], (but or {}).get(kind, 0)) for kind, source in sources.items()]
    while turns:
        for source in tuple(turns):
            clip = next(source, None)
            if clip is None:
                turns.remove(source)
            else:
                yield clip


def _real(wanted: int, but: int = 0) -> Iterator[Clip]:
    for number, (name, frames) in enumerate(_windows(wanted)):
        if number < but:
            continue
        large = number % 10 == 9
        yield Clip(name, "real", [resized(frame, 1280, 720) for frame in _wide(frames)] if large else frames)


def _wide(frames: Frames) -> Frames:
    height, width = frames[0].shape[:2]
    rows = min(height, width * 9 // 16)
    top = (height - rows) // 2
    return [frame[top : top + rows] for frame in frames]


def _windows(wanted: int) -> Iterator[tuple[str, Frames]]:
    """Stretches of the real clips, the first of each clip first; then again, mirrored and nearer."""
    paths = [*sorted((DATA / "clips" / "asl").glob("*.mkv")), *(DATA / "clips" / name for name in _OTHERS)]
    given = -FIRST_STRETCH
    for zoom in (1.0, 1.3):
        for start in range(0, 400, FRAMES):
            for path in paths:
                if given == wanted:
                    return
                frames = list(read_clip(path, start + FRAMES).frames[start:])
                if len(frames) < FRAMES:
                    continue
                given += 1
                if given <= 0:
                    continue
                yield f"{path.stem}+{start}x{zoom}", [_nearer(frame, zoom) for frame in frames]


_OTHERS = ("single_face.mp4", "head-pose-face-detection-male.gif")


def _nearer(frame: Rgb, zoom: float) -> Rgb:
    if zoom == 1:
        return frame
    height, width = frame.shape[:2]
    rows, columns = round(height / zoom), round(width / zoom)
    return resized(frame[:rows, width - columns :][:, ::-1], width, height)


def _rendered(wanted: int, but: int = 0) -> Iterator[Clip]:
    """People who do not exist, under a hand-held camera with noise: a third drawn, the others generated portraits."""
    from benchmarks.render_speed import shot
    from distill.people.assets import load_assets
    from distill.people.render import render

    assets = load_assets(DATA)
    portraits = sorted((DATA / "synth_faces").glob("*.jpg"))
    for number in range(FIRST_RENDERED + but, FIRST_RENDERED + wanted):
        if number % 3 == 0:
            still = render(assets, [shot(number)], 384).rgb_BHW3.numpy()[0]
            name = f"drawn {number}"
        else:
            with Image.open(portraits[number % len(portraits)]) as image:
                still = np.asarray(image.convert("RGB"))
            name = portraits[number % len(portraits)].stem
        yield Clip(name, "rendered", _filmed(still, number))


def on_a_tripod(count: int) -> Iterator[Clip]:
    """Generated close-ups in which nothing moves but noise: what stands still cannot be told from the picture."""
    portraits = sorted((DATA / "synth_faces").glob("*.jpg"))[FIRST_RENDERED:]
    for number, path in enumerate(portraits[:count]):
        with Image.open(path) as image:
            yield Clip(path.stem, "rendered", _filmed(np.asarray(image.convert("RGB")), number, 0.0))


def _filmed(still: Rgb, seed: int, shake_px: float = 0.8) -> Frames:
    random = np.random.default_rng(seed)
    picture = Image.fromarray(still)
    scale = 1.12 * WIDTH_PX / still.shape[1]
    x, y = 0.05 * WIDTH_PX, random.uniform(0.05, 0.25) * WIDTH_PX
    frames = []
    for _ in range(FRAMES):
        x, y = np.clip([x + random.normal(0, shake_px), y + random.normal(0, shake_px)], 0, 0.11 * WIDTH_PX)
        moved = picture.transform(
            (WIDTH_PX, HEIGHT_PX), Image.Transform.AFFINE, (1 / scale, 0, x / scale, 0, 1 / scale, y / scale), 3
        )
        noisy = np.asarray(moved).astype(np.float32) + random.normal(0, 1.5, (HEIGHT_PX, WIDTH_PX, 3))
        frames.append(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))
    return frames


def _swapped(wanted: int, but: int = 0) -> Iterator[Clip]:
    """Real clips through a session, which labels and marks them."""
    store = IdentityStore()
    identities = [store.load(name) for name in sorted(store.built_in())]
    session = load(SwapSettings(engine="proxy", bystanders="show"), identities[0])
    marker = session.marker
    for number, (name, frames) in enumerate(_windows(wanted)):
        if number < but:
            continue
        session.set_identity(identities[number % len(identities)])
        drawn: list[Frames] = []
        for session.marker in (None, marker):
            state = session.init()
            drawn.append([session.step(state, frame, k / FPS).rgb_HW3 for k, frame in enumerate(frames)])
        yield Clip(f"{name} as {identities[number % len(identities)].manifest.name}", "swapped", *drawn)
    session.close()


def resized(frame: Rgb, width_px: int, height_px: int) -> Rgb:
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((width_px, height_px), Image.Resampling.BILINEAR))


def scaled(frames: Frames, scale: float) -> Frames:
    height, width = frames[0].shape[:2]
    return [resized(frame, round(width * scale), round(height * scale)) for frame in frames]


def cropped(frames: Frames, side: float) -> Frames:
    """A part of the frame off its centre, `side` of each side long."""
    height, width = frames[0].shape[:2]
    rows, columns = round(height * side), round(width * side)
    top, left = round((height - rows) * 0.4), round((width - columns) * 0.57)
    return [np.ascontiguousarray(frame[top : top + rows, left : left + columns]) for frame in frames]


_OPTIONS = {
    "libx264": {"preset": "veryfast", "tune": "zerolatency"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
}


def coded(frames: Frames, codec: Literal["libx264", "libvpx"], bits_per_s: int) -> Frames:
    """Through an encoder as a call runs it, and back."""
    height, width = frames[0].shape[0] // 2 * 2, frames[0].shape[1] // 2 * 2
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        rate = {"maxrate": str(bits_per_s), "bufsize": str(bits_per_s // 2)} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=FPS, options=_OPTIONS[codec] | rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", bits_per_s
        stream.codec_context.thread_count = 1
        for frame in frames:
            cut = np.ascontiguousarray(frame[:height, :width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
        out.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as back:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in back.decode(video=0)]


def on_a_screen(frames: Frames) -> Frames:
    """A window on a desktop, 0.8 as large, with another gamma and a camera's noise, recorded at 2 Mbit/s."""
    height, width = frames[0].shape[:2]
    random = np.random.default_rng(1)
    tiles = Image.fromarray(random.integers(0, 255, (9, 12, 3)).astype(np.uint8))
    desktop = np.asarray(tiles.resize((width, height), Image.Resampling.NEAREST)).copy()
    curve = (255 * (np.arange(256) / 255) ** 1.1 + 0.5).astype(np.uint8)
    shots = []
    for frame in scaled(frames, 0.8):
        shot = desktop.copy()
        shot[23 : 23 + frame.shape[0], 37 : 37 + frame.shape[1]] = curve[frame]
        shots.append(shot)
    return coded(shots, "libx264", 2_000_000)


def filtered(frames: Frames) -> Frames:
    """Softened, sharpened again, brighter, more contrast."""
    done = []
    for frame in frames[::2]:
        image = Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.0)).filter(ImageFilter.UnsharpMask(2, 80, 2))
        done.append(np.clip((np.asarray(image).astype(np.float32) - 128) * 1.15 + 136, 0, 255).astype(np.uint8))
    return done


QUARTER = "cropped to 50 % of each side, H.264 1 Mbit/s"
ATTACKS: dict[str, Callable[[Frames], Frames]] = {
    "nothing": lambda frames: frames,
    "H.264 300 kbit/s": lambda frames: coded(frames, "libx264", 300_000),
    "H.264 2 Mbit/s": lambda frames: coded(frames, "libx264", 2_000_000),
    "VP8 300 kbit/s": lambda frames: coded(frames, "libvpx", 300_000),
    "VP8 2 Mbit/s": lambda frames: coded(frames, "libvpx", 2_000_000),
    "scaled by 0.5, H.264 300 kbit/s": lambda frames: coded(scaled(frames, 0.5), "libx264", 300_000),
    "scaled by 2": lambda frames: scaled(frames[::2], 2.0),
    "cropped to 50 % of the area, H.264 1 Mbit/s": lambda frames: coded(cropped(frames, 0.7071), "libx264", 1_000_000),
    QUARTER: lambda frames: coded(cropped(frames, 0.5), "libx264", 1_000_000),
    "a window on a screen, H.264 2 Mbit/s": on_a_screen,
    "soft, sharpened, brighter": filtered,
    "VP8, then H.264, 500 kbit/s each": lambda frames: coded(coded(frames, "libvpx", 500_000), "libx264", 500_000),
}
