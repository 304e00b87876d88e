"""How a video's numbers mean colours, so that a picture that nobody drew on comes out as it went in."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation

from engines import Rgb

# Without these two, swscale's fast paths make every picture 1.2 levels darker, each way.
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

UNSPECIFIED = 2  # AVCOL_SPC_, AVCOL_PRI_ and AVCOL_TRC_UNSPECIFIED
BT709, SMPTE170M = 1, 6  # AVCOL_SPC_*, and the same numbers among primaries and transfer characteristics
HIGH_DYNAMIC_RANGE = {16, 18}  # AVCOL_TRC_SMPTE2084 (PQ) and AVCOL_TRC_ARIB_STD_B67 (HLG)
# AVCOL_SPC_* -> SWS_CS_*: the tag in the file and the matrix that swscale works with
SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
HD_HEIGHT_PX = 720  # from here on players take unmarked video for BT.709, below it for BT.601


@dataclass(frozen=True, slots=True)
class Colour:
    """The tags of a video stream (AVCOL_* numbers, kept as they are) and the matrix that they mean."""

    space: int
    primaries: int
    transfer: int
    full_range: bool
    matrix: int  # SWS_CS_*, for swscale

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Colour:
        """What a decoded picture says of itself. Unmarked video stays unmarked; RGB gets the tags of its size."""
        by_size = BT709 if picture.height >= HD_HEIGHT_PX else SMPTE170M
        if picture.format.is_rgb or picture.format.name.startswith("pal") or picture.colorspace == 0:
            return cls(by_size, by_size, by_size, False, SWSCALE_MATRIX[by_size])
        space = picture.colorspace if picture.colorspace in SWSCALE_MATRIX else UNSPECIFIED
        full_range = picture.color_range == ColorRange.JPEG or picture.format.name.startswith("yuvj")
        matrix = SWSCALE_MATRIX[by_size if space == UNSPECIFIED else space]
        return cls(space, picture.color_primaries, picture.color_trc, full_range, matrix)

    @property
    def is_high_dynamic_range(self) -> bool:
        return self.transfer in HIGH_DYNAMIC_RANGE

    @property
    def range(self) -> ColorRange:
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    def to_rgb(self, picture: av.VideoFrame) -> Rgb:
        """uint8 [H, W, 3] of a decoded picture, not turned."""
        if picture.format.is_rgb or picture.format.name.startswith("pal"):
            rgb = picture.reformat(format="rgb24", interpolation=EXACT, threads=1)
        else:
            rgb = picture.reformat(
                format="rgb24",
                interpolation=EXACT,
                src_colorspace=self.matrix,
                src_color_range=self.range,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
        return np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)

    def to_yuv420p(self, rgb_HW3: Rgb) -> av.VideoFrame:
        """The picture as an encoder takes it, tagged. Sides must be even."""
        picture = av.VideoFrame.from_ndarray(rgb_HW3, format="rgb24")
        yuv = picture.reformat(
            format="yuv420p",
            interpolation=EXACT,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=self.matrix,
            dst_color_range=self.range,
            threads=1,  # starting threads for one picture takes longer than converting it
        )
        yuv.colorspace, yuv.color_range = self.space, self.range
        yuv.color_primaries, yuv.color_trc = self.primaries, self.transfer
        return yuv
