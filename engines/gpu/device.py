"""Where kernels run: memory, one stream, launches. CuPy on an accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineUnavailable

KERNELS = Path(__file__).with_name("images.cu")
BLOCK = (32, 8)
INSTALL = 'pip install "vividstream[gpu]"'

HostArray = NDArray[Any]
DeviceArray = Any  # whatever the device calls its arrays: indexable, with `shape`


class Device(Protocol):
    """Memory and launches of one accelerator on one stream. Work is done in the order it is asked for."""

    def empty(self, shape: Sequence[int], dtype: str) -> DeviceArray:
        """Memory that nobody has written yet."""

    def upload(self, onto: DeviceArray, values: HostArray) -> None:
        """Copies host values into the device's array of the same shape."""

    def clear(self, array: DeviceArray) -> None:
        """Fills with zeros."""

    def download(self, array: DeviceArray) -> HostArray:
        """A host copy. Waits for all work before it: the one synchronisation of a frame."""

    def launch(self, kernel: str, width: int, height: int, arguments: tuple[object, ...]) -> None:
        """One thread per pixel of width x height. Arguments: device arrays, ints, floats, None for a null pointer."""


class CupyDevice:
    """A CUDA device through CuPy. Shares memory with torch by DLPack (`torch.from_dlpack(array)`), without copies."""

    def __init__(self, index: int = 0, stream_pointer: int | None = None) -> None:
        """stream_pointer: of the stream to work on, e.g. torch.cuda.current_stream().cuda_stream; None: a new one.

        Raises EngineUnavailable without CuPy or without a CUDA device.
        """
        try:
            import cupy
        except ImportError as error:
            raise EngineUnavailable(f"image work on the GPU needs CuPy: {INSTALL}") from error
        try:
            count = int(cupy.cuda.runtime.getDeviceCount())
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise EngineUnavailable(f"CuPy finds no CUDA device: {error}") from error
        if index >= count:
            raise EngineUnavailable(f"there is no CUDA device {index}; {count} found")
        self._cupy = cupy
        self._device = cupy.cuda.Device(index)
        with self._device:
            made = stream_pointer is None
            self.stream = cupy.cuda.Stream(non_blocking=True) if made else cupy.cuda.ExternalStream(stream_pointer)
            self._module = cupy.RawModule(code=KERNELS.read_text(encoding="utf-8"), options=("--std=c++14",))
        self._kernels: dict[str, Any] = {}

    def empty(self, shape: Sequence[int], dtype: str) -> DeviceArray:
        with self._device, self.stream:
            return self._cupy.empty(tuple(shape), dtype)

    def upload(self, onto: DeviceArray, values: HostArray) -> None:
        with self._device, self.stream:
            onto.set(np.ascontiguousarray(values), stream=self.stream)

    def clear(self, array: DeviceArray) -> None:
        with self._device, self.stream:
            array.fill(0)

    def download(self, array: DeviceArray) -> HostArray:
        with self._device, self.stream:
            host: HostArray = array.get(stream=self.stream)
        return host

    def launch(self, kernel: str, width: int, height: int, arguments: tuple[object, ...]) -> None:
        if kernel not in self._kernels:
            self._kernels[kernel] = self._module.get_function(kernel)
        grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]))
        with self._device, self.stream:
            self._kernels[kernel](grid, BLOCK, tuple(self._plain(value) for value in arguments))

    def _plain(self, value: object) -> object:
        """Numbers as C has them: CuPy would pass a Python float as a double."""
        if isinstance(value, int):
            return np.int32(value)
        if isinstance(value, float):
            return np.float32(value)
        return np.uintp(0) if value is None else value
