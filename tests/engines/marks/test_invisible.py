"""The invisible mark: small, still, the same for the same payload, found again after what happens to videos."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from engines.errors import KeyFault, SettingError
from engines.marks.detect import MOST_FRAMES, Gathered, detect_mark
from engines.marks.invisible import AMPLITUDE, MOST_SHARE, PARTS, Marker, cell_px, field_of
from engines.marks.own import own_payload
from engines.marks.payload import CODED_BITS, Payload, decode, decode_all, encode
from engines.standby import standby_card
from engines.types import Floats, Rgb

PAYLOAD = Payload(0x123456, 326)
MOST = AMPLITUDE * MOST_SHARE / PARTS + 1  # steps that are ever added
Frames = list[Rgb]


@pytest.fixture(scope="module")
def raw(shared_data: Path) -> Frames:
    with av.open(str(shared_data / "clips" / "asl" / "asl_eat.mkv")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(4), container.decode(video=0))]
    return [picture.astype(np.uint8) for picture in pictures]


@pytest.fixture(scope="module")
def marked(raw: Frames) -> Frames:
    return [with_mark(frame) for frame in raw]


def with_mark(frame: Rgb, payload: Payload = PAYLOAD) -> Rgb:
    canvas = frame.copy()
    Marker(payload).apply(canvas)
    return canvas


def resized(frames: Frames, scale: float) -> Frames:
    height, width = frames[0].shape[:2]
    size = round(width * scale), round(height * scale)
    return [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames]


def vp8(frames: Frames, bits_per_s: int = 500_000) -> Frames:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("libvpx", rate=30, options={"deadline": "realtime", "cpu-used": "8"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", bits_per_s
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as back:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in back.decode(video=0)]


def cropped(frames: Frames) -> Frames:
    return [np.ascontiguousarray(frame[51:392, 77:530]) for frame in frames]


def on_a_desktop(frames: Frames) -> Frames:
    shots = [np.full((480, 640, 3), (40, 70, 110), np.uint8) for _ in frames]
    for shot, frame in zip(shots, resized(frames, 0.75)):
        shot[33 : 33 + frame.shape[0], 21 : 21 + frame.shape[1]] = frame
    return shots


@pytest.mark.parametrize(
    "attack",
    [
        vp8,
        lambda frames: vp8(resized(frames, 0.5), 300_000),
        lambda frames: resized(frames, 2.0),
        lambda frames: vp8(cropped(frames), 1_000_000),
        on_a_desktop,
        lambda frames: [np.ascontiguousarray(frame[:, ::-1]) for frame in frames],
    ],
    ids=["vp8", "half", "double", "cropped", "desktop", "mirrored"],
)
def test_is_found_and_read(marked: Frames, attack: Callable[[Frames], Frames]) -> None:
    found = detect_mark(attack(marked)[::2])
    assert found.marked
    assert found.payload == PAYLOAD
    assert found.false_positive_log10 <= -6
    assert found.confidence > 0.999999
    assert found.bit_errors is not None
    assert found.bit_errors < 0.2


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_whole_frames_may_be_turned(marked: Frames, quarters: int) -> None:
    found = detect_mark([np.rot90(frame, quarters) for frame in vp8(marked)], search=False)
    assert (found.payload, found.turned) == (PAYLOAD, 360 - 90 * quarters)


def test_is_not_found_where_it_is_not(raw: Frames) -> None:
    found = detect_mark(vp8(raw[:4])[::2])
    assert not found.marked
    assert found.payload is None
    assert found.bit_errors is None


def test_cannot_be_seen(raw: Frames, marked: Frames) -> None:
    added = [after.astype(int) - before for before, after in zip(raw, marked)]
    assert max(int(abs(plane).max()) for plane in added) <= MOST
    error = np.mean([np.mean(plane**2) for plane in added])
    assert 10 * np.log10(255**2 / error) > 42


def test_what_moves_under_it_does_not_make_it_flicker() -> None:
    """The light that is added stays nearly the same share of the light around; that of an even step does not."""
    y, x = np.mgrid[:320, :400]
    waves = np.sin(2 * np.pi * x / 20) * np.sin(2 * np.pi * y / 20)
    cloth = np.rint(60 * (1 + 0.6 * waves)).astype(np.uint8)
    step = field_of(PAYLOAD, 320, 320) / PARTS
    added: tuple[list[Floats], list[Floats]] = [], []
    for at in range(0, 40, 5):
        picture = np.repeat(cloth[:, at : at + 320, None], 3, axis=2)
        light = (picture[..., 0] / 255) ** 2.2
        for to, levels in zip(added, (with_mark(picture)[..., 0], picture[..., 0] + step)):
            more = (np.clip(levels, 0, 255) / 255) ** 2.2 - light
            to.append(np.asarray(gaussian_filter(more / light.mean(), 3), np.float32))
    ours, even = (np.std(each, axis=0).mean() / np.abs(np.mean(each, axis=0)).mean() for each in added)
    assert ours < 0.6 * even


def as_it_is_described(frame: Rgb) -> Rgb:
    """The mark in plain whole numbers of any length."""
    height, width = frame.shape[:2]
    cell = cell_px(height, width)
    down, across = -(-height // cell), -(-width // cell)
    inverses = np.empty((down, across, 3), np.int64)
    for j, i in np.ndindex(down, across):
        part = frame[j * cell : (j + 1) * cell : 4, i * cell : (i + 1) * cell].reshape(-1, 3).astype(np.int64)
        lifted = part.sum(axis=0) + 4 * len(part)
        inverses[j, i] = (2 * 11776 * len(part) + lifted) // (2 * lifted)

    def between(length: int, cells: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        at = 2 * np.arange(length) + 1 - cell
        before = at // (2 * cell)
        return [before.clip(0), (before + 1).clip(0, cells - 1), 16 * (at - 2 * cell * before) // (2 * cell)]

    (left, right, way), (upper, lower, way_down) = between(width, across), between(height, down)
    way, way_down = way[:, None], way_down[:, None, None]
    rows = (inverses[:, left] * (16 - way) + inverses[:, right] * way + 8) // 16
    inverse = rows[upper] * (16 - way_down) + rows[lower] * way_down
    before = frame.astype(np.int64)
    share = np.minimum(before + 2, np.clip(27 - (4 * (before + 4) * inverse >> 16), 8, 20))
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    threshold = 16 * np.tile(bayer, (height // 4 + 1, width // 4 + 1))[:height, :width, None] + 8
    added = (field_of(PAYLOAD, height, width).astype(np.int64)[..., None] * share + threshold) >> 8
    return np.asarray(np.clip(before + added, 0, 255), np.uint8)


@pytest.mark.parametrize("levels", [[0, 255], [0, 1, 5, 200], [255], list(range(256))])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (130, 202), (481, 90)])
def test_sixteen_bits_are_enough(levels: list[int], height: int, width: int) -> None:
    frame = np.random.default_rng(height).choice(levels, (height, width, 3)).astype(np.uint8)
    frame[: height // 2, : width // 3] = 0  # beside it a ratio is as large as can be
    frame[height // 3 : height // 2 : 5, : width // 3 : 7] = 255
    np.testing.assert_array_equal(with_mark(frame), as_it_is_described(frame))


def test_brightness_does_not_change_on_the_whole() -> None:
    grey = np.full((720, 1280, 3), 128, np.uint8)
    assert abs(with_mark(grey).astype(float).mean() - 128) < 0.1


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_do_not_wrap_round(level: int) -> None:
    canvas = with_mark(np.full((480, 640, 3), level, np.uint8))
    assert abs(canvas.astype(int) - level).max() <= MOST


@pytest.mark.parametrize(("level", "rms"), [(0, 0.5), (4, 0.9), (14, 1.9), (128, 1.9)])
def test_less_is_added_to_what_is_nearly_black(level: int, rms: float) -> None:
    added = with_mark(np.full((480, 640, 3), level, np.uint8)).astype(float) - level
    assert 0 < np.sqrt(np.mean(added**2)) < rms
    assert level < 14 or np.sqrt(np.mean(added**2)) > 1.6


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 400), (17, 33), (90, 160), (1280, 720)])
def test_any_size_can_be_marked(height: int, width: int) -> None:
    canvas = with_mark(np.full((height, width, 3), 90, np.uint8))
    assert canvas.shape == (height, width, 3)


def test_two_payloads_are_told_apart(raw: Frames) -> None:
    other = Payload(0x123457, 326)
    assert detect_mark([with_mark(frame, other) for frame in raw[:4]], search=False).payload == other


def test_a_call_may_change_its_size(raw: Frames) -> None:
    sizes = zip(raw, (1.0, 0.5, 0.75, 0.5))
    found = detect_mark([with_mark(resized([frame], scale)[0]) for frame, scale in sizes], search=False)
    assert found.payload == PAYLOAD


def test_one_look_can_be_had_without_a_search(raw: Frames, marked: Frames) -> None:
    assert detect_mark(marked[:2], search=False).marked
    assert not detect_mark(cropped(marked[:2]), search=False).marked


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "no frame"),
        ([np.zeros((40, 640, 3), np.uint8)], "too small"),
    ],
)
def test_what_cannot_be_looked_at_is_said(frames: Sequence[Rgb], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        detect_mark(frames)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_pictures_without_anything_in_them_are_not_marked(level: int) -> None:
    assert not detect_mark([np.full((120, 160, 3), level, np.uint8)]).marked


def test_frames_are_taken_from_all_over_a_clip() -> None:
    gathered = Gathered(8)
    for number in range(100):
        gathered.add(np.full((64, 64, 3), number, np.uint8))
    levels = [float(plane.mean()) for plane in gathered.luma]
    assert 4 <= len(levels) <= 8 <= MOST_FRAMES
    assert levels[0] == 0
    assert levels[-1] >= 75
    assert len(set(np.diff(levels).round(2))) == 1


def test_many_codes_are_read_as_one_is() -> None:
    random = np.random.default_rng(1)
    soft = np.stack([encode(Payload(n, n)) + random.normal(0, sigma, CODED_BITS) for n, sigma in ((5, 0.5), (9, 4))])
    assert decode_all(soft.astype(np.float32)) == [decode(one) for one in soft.astype(np.float32)]
    assert decode_all(soft.astype(np.float32))[0] == Payload(5, 5)


def test_the_standby_card_is_marked_even_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert detect_mark([standby_card(360, 640, "A moment")], search=False).payload == own_payload()

    def broken() -> Payload:
        raise KeyFault("the disk is full")

    monkeypatch.setattr("engines.standby.own_payload", broken)
    assert detect_mark([standby_card(360, 640, "A moment")], search=False).payload == Payload(0, 0)
