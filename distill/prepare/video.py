"""Reading a video for preparation: upright RGB pictures with their times, as far as the file goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import SideData, Type
from av.stream import Disposition
from av.video.reformatter import ColorRange, Interpolation

from distill.errors import BadClip
from engines import Rgb

# Without these, swscale's fast paths make every picture 1.2 levels darker.
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVCOL_SPC_* in the file -> SWS_CS_* of swscale
HD_HEIGHT_PX = 720  # from here on players take unmarked video for BT.709, below it for BT.601
NO_VIDEO = {"tty", "bin", "idf"}  # FFmpeg paints text files as a terminal would
LEAST_MISSING_S = 0.5  # a file that ends this much before it promised to is called cut off
PROMISES_DURATION = {"mov", "matroska", "avi"}  # other containers guess it from the bit rate


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame: uint8 [H, W, 3], seconds from the video's start, number from 0; damaged ones count, too."""

    rgb_HW3: Rgb
    at_s: float
    number: int


class VideoReader:
    """One video's pictures, once, from front to back.

    Raises BadClip, naming the file, for what cannot be opened and where no picture comes out. Damaged pictures, and
    those that are predicted from them, are left out with their numbers: decoders patch them over in silence. What
    breaks later ends the pictures. `left_out` then says what is missing and why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out: str | None = None

    def __iter__(self) -> Iterator[Picture]:
        with _open(self.path) as container:
            videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not videos or container.format.name in NO_VIDEO:
                raise BadClip(f"{self.path}: there is no video in it")
            stream = videos[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"err_detect": "explode"}
            step_s = float(1 / (stream.average_rate or 25))
            first_s: float | None = None
            last_s, number, damaged = -step_s, 0, 0
            broke_off: str | None = None
            try:
                for picture in _sound(container, stream):
                    if picture is None:
                        damaged += 1
                        number += 1
                        continue
                    stored_s: float | None = picture.time  # PyAV's stubs do not say that it may be missing
                    if first_s is None:
                        first_s = stored_s
                    at_s = -step_s if stored_s is None or first_s is None else stored_s - first_s
                    last_s = at_s if at_s > last_s else last_s + step_s
                    yield Picture(_upright(picture), last_s, number)
                    number += 1
            except FFmpegError as error:
                broke_off = f"broke off at {max(last_s, 0):.2f} s: {error.strerror or 'damaged'}"
            if number == damaged:
                why = f"all of its {number} pictures are damaged" if number else "no picture in it can be decoded"
                raise BadClip(f"{self.path}: {why}")
            promises = PROMISES_DURATION & set(container.format.name.split(","))
            missing_s = (container.duration or 0) / av.time_base - last_s - step_s
            if promises and not broke_off and not damaged and missing_s > LEAST_MISSING_S:
                broke_off = f"broke off at {last_s:.2f} s: {missing_s:.1f} s are missing"
            spoilt = f"{damaged} of {number} pictures are damaged, or predicted from damaged ones" if damaged else None
            self.left_out = "; ".join(line for line in (spoilt, broke_off) if line) or None


def _sound(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame | None]:
    """Decoded pictures; None in place of each that is damaged or comes before the next key frame after one that is."""
    spoilt = False
    for packet in container.demux(stream):
        try:
            pictures = packet.decode()
        except EOFError:
            return
        except FFmpegError:
            spoilt = True
            yield None
            continue
        for picture in pictures:
            spoilt = bool(picture.is_corrupt) or (spoilt and not picture.key_frame)
            yield None if spoilt else picture


def _open(path: Path) -> av.container.InputContainer:
    if not path.is_file():
        raise BadClip(f"{path}: no such file")
    if not path.stat().st_size:
        raise BadClip(f"{path}: the file is empty")
    try:
        return av.open(str(path), "r", metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        raise BadClip(f"{path}: is no video, or was cut off before its index was written") from error


def _upright(picture: av.VideoFrame) -> Rgb:
    """Phones store quarter turns and mirrors as a display matrix: x' = a x + c y, y' = b x + d y."""
    rgb_HW3 = _rgb(picture)
    side_data = picture.side_data.get(Type.DISPLAYMATRIX.name)
    if isinstance(side_data, SideData):
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(side_data), np.int32)[:5])
        swap = abs(b) > abs(a)
        rgb_HW3 = rgb_HW3.transpose(1, 0, 2) if swap else rgb_HW3
        if (c if swap else a) < 0:
            rgb_HW3 = rgb_HW3[:, ::-1]
        if (b if swap else d) < 0:
            rgb_HW3 = rgb_HW3[::-1]
    return np.ascontiguousarray(rgb_HW3)


def _rgb(picture: av.VideoFrame) -> Rgb:
    if picture.format.is_rgb or picture.format.name.startswith("pal"):
        return np.asarray(picture.reformat(format="rgb24", threads=1).to_ndarray(), np.uint8)
    unmarked = 1 if picture.height >= HD_HEIGHT_PX else 6
    full = picture.color_range == ColorRange.JPEG or picture.format.name.startswith("yuvj")
    rgb = picture.reformat(
        format="rgb24",
        interpolation=EXACT,
        src_colorspace=MATRICES.get(picture.colorspace, MATRICES[unmarked]),
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return np.asarray(rgb.to_ndarray(), np.uint8)
