"""Image work of one session on the accelerator: decoded video in, network inputs out, the face pasted, the label on.

Equal to the CPU path (engines.face.align, region, paste; engines.marks.label) within 1 of 255. All buffers are made
once per frame size: a frame allocates nothing, and waits for the device once, when its picture is downloaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.face.align import SPAN_CM, inverse, sampling
from engines.face.paste import FINER
from engines.face.region import FEATHER_CM, Fill, composed, hull_sides
from engines.gpu.colour import Standard, rgb_from_yuv_matrix
from engines.gpu.device import Device, DeviceArray
from engines.marks.invisible import cell_px, field_of
from engines.marks.label import label_plate
from engines.marks.payload import Payload
from engines.types import Floats, Mask, Occlusion, Rgb

MOST_SIDES = 500  # of a hull of 468 landmarks
PARAMETERS = 3 * MOST_SIDES + 64
FINE, ROUGH_FINE, COVERED, THERE, MATRIX = (PARAMETERS - 64 + 12 * i for i in range(5))  # places among the parameters
MOST_COVERED_CELLS = 512 * 512


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """What a learned engine reads of one frame, on the device. Borrowed: valid until the next frame.

    masked, proxy  float32 [1, 3, S, S], -1..1
    mask           float32 [1, 1, S, S], 0..1
    attribute      float32 [1, 3, A, A], -1..1
    """

    masked: DeviceArray
    proxy: DeviceArray
    mask: DeviceArray
    attribute: DeviceArray


class GpuImages:
    """Image work for frames of one size. Not thread safe: one thread owns the accelerator."""

    def __init__(self, device: Device, height_px: int, width_px: int, size_px: int, attribute_px: int) -> None:
        self._device = device
        self._rows, self._columns, self._size, self._small = height_px, width_px, size_px, attribute_px
        empty = device.empty
        self._frame = empty((height_px, width_px, 3), "uint8")
        self._rough = empty((height_px, width_px, 3), "uint8")
        self._crop, self._proxy_crop = (empty((size_px, size_px, 3), "uint8") for _ in range(2))
        self._parameters = empty((PARAMETERS,), "float32")
        self._host = np.zeros(PARAMETERS, np.float32)
        self._covered = empty((MOST_COVERED_CELLS,), "uint8")
        self._sums = empty((4,), "uint64")
        self._alpha = empty((size_px, size_px), "float32")
        self._inputs = NetworkInputs(
            empty((1, 3, size_px, size_px), "float32"),
            empty((1, 3, size_px, size_px), "float32"),
            empty((1, 1, size_px, size_px), "float32"),
            empty((1, 3, attribute_px, attribute_px), "float32"),
        )
        self._pyramid = self._levels()
        self._planes = [empty((height_px * width_px,), "uint8") for _ in range(3)]
        plate, self._plate_x, self._plate_y = label_plate(height_px, width_px)
        self._plate_shape = plate.shape
        self._plate = empty(plate.shape, "uint8")
        device.upload(self._plate, plate)

        self._mark: DeviceArray | None = None
        self._cell = cell_px(height_px, width_px)
        self._cells = -(-height_px // self._cell), -(-width_px // self._cell)
        self._surroundings = empty((*self._cells, 3), "float32")

    def mark_with(self, payload: Payload) -> None:
        """From now on every finished picture carries the invisible mark. One upload; then two launches a picture."""
        field = field_of(payload, self._rows, self._columns)
        self._mark = self._device.empty(field.shape, "uint8")
        self._device.upload(self._mark, (field.astype(np.int16) + 128).astype(np.uint8))

    def _levels(self) -> list[DeviceArray]:
        """The face in colour times opacity at S, S/2, S/4 ... pixels."""
        sizes = [self._size]
        while sizes[-1] % 2 == 0 and sizes[-1] > 8:
            sizes.append(sizes[-1] // 2)
        return [self._device.empty((size, size, 4), "float32") for size in sizes]

    def take_rgb(self, rgb_HW3: Rgb) -> None:
        """The frame to work on, uint8 [H, W, 3]."""
        self._device.upload(self._frame, rgb_HW3)

    def take_nv12(
        self, luma_HW: Mask, chroma_hw2: Mask, standard: Standard = "bt601", full_range: bool = False
    ) -> None:
        """The frame as a hardware decoder gives it: uint8 [H, W] and [H/2, W/2, 2]. Sides are even."""
        count = self._rows * self._columns
        chroma = self._planes[1][: count // 2]
        self._device.upload(self._planes[0][:count], luma_HW.reshape(-1))
        self._device.upload(chroma, chroma_hw2.reshape(-1))
        self._convert(chroma, chroma[1:], self._columns, 2, standard, full_range)

    def take_i420(
        self, luma_HW: Mask, u_hw: Mask, v_hw: Mask, standard: Standard = "bt601", full_range: bool = False
    ) -> None:
        """The frame as a software decoder gives it: three planes, uint8 [H, W] and twice [H/2, W/2]. Sides are even."""
        count = self._rows * self._columns
        u, v = self._planes[1][: count // 4], self._planes[2][: count // 4]
        for onto, plane in ((self._planes[0][:count], luma_HW), (u, u_hw), (v, v_hw)):
            self._device.upload(onto, plane.reshape(-1))
        self._convert(u, v, self._columns // 2, 1, standard, full_range)

    def _convert(
        self, u: DeviceArray, v: DeviceArray, chroma_pitch: int, step: int, standard: Standard, full_range: bool
    ) -> None:
        matrix = self._parameters[MATRIX : MATRIX + 12]
        self._device.upload(matrix, rgb_from_yuv_matrix(standard, full_range).reshape(-1))
        where = (self._columns, chroma_pitch, step, self._rows, self._columns)
        arguments = (self._planes[0], u, v, *where, matrix, self._frame)
        self._device.launch("rgb_from_yuv420", self._columns, self._rows, arguments)

    def inputs(
        self, rough_HW3: Rgb, points_px: Floats, crop_from_frame: Floats, occlusion: Occlusion | None, fill: Fill
    ) -> NetworkInputs:
        """What the network reads of the frame taken last.

        rough_HW3   uint8 [H, W, 3], the frame with the proxy's face
        points_px   float32 [>= 468, 2 or 3], landmarks on the crop
        """
        device, size = self._device, self._size
        device.upload(self._rough, rough_HW3)
        sides, covered = self._place(points_px, crop_from_frame, occlusion)
        samples = sampling(crop_from_frame, size)[1]
        fine = self._parameters[FINE : FINE + 6]
        for picture, crop in ((self._frame, self._crop), (self._rough, self._proxy_crop)):
            arguments = (picture, self._rows, self._columns, fine, samples, size, crop)
            device.launch("crop_of_frame", size, size, arguments)
        device.clear(self._sums)
        mask, feather_px = self._inputs.mask, FEATHER_CM * size / SPAN_CM
        region = (self._parameters, sides, float(feather_px), *covered, self._crop, size, mask, self._alpha, self._sums)
        device.launch("region_of_face", size, size, region)
        sums = self._sums if fill == "mean" else None
        filled = (self._crop, self._proxy_crop, mask, sums, size, self._inputs.masked, self._inputs.proxy)
        device.launch("network_inputs", size, size, filled)
        self._attribute()
        return self._inputs

    def _place(
        self, points_px: Floats, crop_from_frame: Floats, occlusion: Occlusion | None
    ) -> tuple[int, tuple[object, ...]]:
        """Uploads the frame's parameters, once. Returns the hull's number of sides, and the occlusion's arguments."""
        host, size = self._host, self._size
        sides = hull_sides(points_px, size)
        host[: sides.size] = sides.reshape(-1)
        host[FINE : FINE + 6] = sampling(crop_from_frame, size)[0].reshape(-1)
        covered: tuple[object, ...] = (None, 0, 0, None)
        if occlusion is not None and occlusion.covered_HW.any():
            rows, columns = occlusion.covered_HW.shape
            cells = self._covered[: rows * columns]
            self._device.upload(cells, occlusion.covered_HW.reshape(-1))
            host[COVERED : COVERED + 6] = composed(occlusion.mask_from_frame, inverse(crop_from_frame)).reshape(-1)
            covered = (cells, rows, columns, self._parameters[COVERED : COVERED + 6])
        there, self._level = self._sampling_of_face(crop_from_frame)
        host[THERE : THERE + 6] = there.reshape(-1)
        self._device.upload(self._parameters[:MATRIX], host[:MATRIX])
        return len(sides), covered

    def _sampling_of_face(self, crop_from_frame: Floats) -> tuple[Floats, int]:
        """As engines.face.paste.paste: from the frame to the level of the pyramid that is fine enough for it."""
        there = crop_from_frame.astype(np.float64)
        scale, level = math.sqrt(abs(float(np.linalg.det(there[:, :2])))), 0
        while scale >= FINER and level + 1 < len(self._pyramid):
            there, scale, level = (there - [[0, 0, 0.5], [0, 0, 0.5]]) / 2, scale / 2, level + 1
        return there.astype(np.float32), level

    def _attribute(self) -> None:
        size, small = self._size, self._small
        divides = size % small == 0
        arguments = (self._crop, size, size // small if divides else small, self._inputs.attribute)
        self._device.launch("small_picture" if divides else "sampled_picture", small, small, arguments)

    def finish(self, face: DeviceArray, label: bool = True) -> Rgb:
        """The frame with the drawn face and the label: uint8 [H, W, 3] on the host.

        face: float32 [3, S, S] on the device, finite, -1..1
        """
        device, size = self._device, self._size
        device.launch("coloured", size, size, (face, self._alpha, size, self._pyramid[0]))
        for level in range(1, self._level + 1):
            side = size >> level
            device.launch("halved", side, side, (self._pyramid[level - 1], side, self._pyramid[level]))
        plate = (self._plate, *self._plate_shape[:2], self._plate_x, self._plate_y) if label else (None, 0, 0, 0, 0)
        there = self._parameters[THERE : THERE + 6]
        pasted = (self._frame, self._rows, self._columns, self._pyramid[self._level], size >> self._level, there)
        device.launch("paste_and_label", self._columns, self._rows, (*pasted, *plate))
        if self._mark is not None:
            frame = (self._frame, self._rows, self._columns, self._cell, self._surroundings)
            device.launch("mark_surroundings", self._cells[1], self._cells[0], frame)
            device.launch("add_mark", self._columns, self._rows, (*frame, self._mark))
        return self._device.download(self._frame)

    def frame(self) -> Rgb:
        """The frame as it is now, on the host: uint8 [H, W, 3]."""
        return self._device.download(self._frame)
