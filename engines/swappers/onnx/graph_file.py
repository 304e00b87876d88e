"""What an ONNX file takes and gives, and a matrix out of it, read straight from its bytes. Nothing of it is run.

An ONNX file is one message in protobuf's wire format (protobuf.dev/programming-guides/encoding), numbers of fields
after onnx.proto. Only the few that are needed are read; weights are passed over, so half a gigabyte opens in
milliseconds. Why not the package `onnx`: docs/decisions/010-own-swappers.md.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.errors import EngineRefused, EngineUnavailable
from engines.types import Floats

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64", 16: "bfloat16"}
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
TENSOR_DIMS, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_INTS, TENSOR_NAME, TENSOR_RAW, TENSOR_PLACE = 1, 2, 4, 5, 8, 9, 14
MOST_VARINT_BYTES = 10
MOST_INITIALIZER_BYTES = 16_000_000  # of one that is read


class _Damaged(Exception):
    """Why the bytes are no message."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output. A side that the file leaves open is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join('?' if side is None else str(side) for side in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Initializer:
    """A constant of the graph. is_read: whether any operation uses it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_read: bool
    message: memoryview

    def array(self) -> Floats:
        """As float32. Raises EngineRefused where its values are not in the file."""
        return _values(self)


@dataclass(frozen=True, slots=True)
class GraphFile:
    """The graph seen from outside. Inputs without those that are only names of initializers."""

    path: Path
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    initializers: tuple[Initializer, ...]

    def __str__(self) -> str:
        return f"inputs {_listed(self.inputs)}; outputs {_listed(self.outputs)}"


def _listed(values: tuple[Value, ...]) -> str:
    return ", ".join(map(str, values)) or "none"


def read_graph(path: Path) -> GraphFile:
    """Raises EngineUnavailable where there is no such file, EngineRefused for one that is cut off or no ONNX file."""
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise EngineUnavailable(f"{path}: no such file") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise EngineRefused(f"{path}: is empty") from error
    except OSError as error:
        raise EngineUnavailable(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        graphs = [field for number, field in _fields(content) if number == MODEL_GRAPH]
        if len(graphs) != 1 or not isinstance(graphs[0], memoryview):
            raise _Damaged("it holds no graph")
        return _graph(path, graphs[0])
    except (_Damaged, UnicodeDecodeError) as error:
        raise EngineRefused(f"{path}: is no ONNX file, or a damaged or cut one: {error}") from error


def _graph(path: Path, message: memoryview) -> GraphFile:
    inputs: list[Value] = []
    outputs: list[Value] = []
    constants: list[memoryview] = []
    read: set[str] = set()
    for number, field in _fields(message):
        if not isinstance(field, memoryview):
            continue
        if number == GRAPH_NODE:
            read |= {_text(name) for position, name in _fields(field) if position == 1}
        elif number == GRAPH_INITIALIZER:
            constants.append(field)
        elif number == GRAPH_INPUT:
            inputs.append(_value(field))
        elif number == GRAPH_OUTPUT:
            outputs.append(_value(field))
    initializers = tuple(_initializer(one, read) for one in constants)
    known = {one.name for one in initializers}
    return GraphFile(path, tuple(one for one in inputs if one.name not in known), tuple(outputs), initializers)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and content of each field: an integer, or the bytes (also of fixed-width numbers)."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _Damaged(f"byte {at} begins no field")
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise _Damaged(f"byte {at} begins no field")
        if at + size > end:
            raise _Damaged(f"{at + size - end} bytes are missing at its end")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(MOST_VARINT_BYTES):
        if at >= len(message):
            raise _Damaged("it ends in the middle of a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at
    raise _Damaged(f"byte {at} is no number")


def _text(field: int | memoryview) -> str:
    if not isinstance(field, memoryview):
        raise _Damaged("a name is a number")
    return bytes(field).decode()


def _inside(message: memoryview, *path: int) -> memoryview | None:
    """The message that lies at the end of a path of field numbers, the first of each."""
    here = message
    for wanted in path:
        found = next((field for number, field in _fields(here) if number == wanted), None)
        if not isinstance(found, memoryview):
            return None
        here = found
    return here


def _value(message: memoryview) -> Value:
    """ValueInfoProto: name 1, type 2; in it tensor_type 1 with elem_type 1 and shape 2, a list of dim 1."""
    name, tensor, dtype = "", _inside(message, 2, 1), "no tensor"
    shape: list[int | None] = []
    for number, field in _fields(message):
        if number == 1:
            name = _text(field)
    for number, field in _fields(tensor) if tensor is not None else ():
        if number == 1 and isinstance(field, int):
            dtype = DTYPES.get(field, f"type {field}")
        elif number == 2 and isinstance(field, memoryview):
            shape = [_side(side) for position, side in _fields(field) if position == 1]
    return Value(name, tuple(shape), dtype)


def _side(field: int | memoryview) -> int | None:
    """Dimension: dim_value 1, or a name, which leaves it open."""
    if not isinstance(field, memoryview):
        raise _Damaged("a dimension is a number")
    sides = [value for number, value in _fields(field) if number == 1]
    return sides[0] if sides and isinstance(sides[0], int) and 0 < sides[0] < 1 << 31 else None


def _initializer(message: memoryview, read: set[str]) -> Initializer:
    name, dtype, shape = "", "unknown", list[int]()
    for number, field in _fields(message):
        if number == TENSOR_NAME:
            name = _text(field)
        elif number == TENSOR_TYPE and isinstance(field, int):
            dtype = DTYPES.get(field, f"type {field}")
        elif number == TENSOR_DIMS:
            shape += [field] if isinstance(field, int) else _packed(field)
    return Initializer(name, tuple(shape), dtype, name in read, message)


def _packed(message: memoryview) -> list[int]:
    """Numbers one after the other in one field."""
    found, at = list[int](), 0
    while at < len(message):
        value, at = _varint(message, at)
        found.append(value)
    return found


def _values(one: Initializer) -> Floats:
    pieces: dict[int, list[int | memoryview]] = {}
    for number, field in _fields(one.message):
        pieces.setdefault(number, []).append(field)
    count = int(np.prod(one.shape))
    if pieces.get(TENSOR_PLACE, [0])[0] == 1:
        raise EngineRefused(f'the values of "{one.name}" lie in another file: save the model as one file')
    if not 0 < count * 8 <= MOST_INITIALIZER_BYTES:
        raise EngineRefused(f'"{one.name}" {list(one.shape)} is too large to be what it should be')
    if TENSOR_RAW in pieces:
        raw = b"".join(bytes(piece) for piece in pieces[TENSOR_RAW] if isinstance(piece, memoryview))
        array = _numbers(raw, one.dtype)
    elif one.dtype == "float32":
        raw = b"".join(bytes(piece) for piece in pieces.get(TENSOR_FLOATS, ()) if isinstance(piece, memoryview))
        array = _numbers(raw, "float32")
    else:  # 16-bit numbers that are written one by one: their bits as integers
        bits = [
            n for piece in pieces.get(TENSOR_INTS, ()) for n in ([piece] if isinstance(piece, int) else _packed(piece))
        ]
        array = _numbers(np.array(bits, np.uint16).tobytes(), one.dtype)
    if array is None or array.size != count or not np.isfinite(array).all():
        raise EngineRefused(f'"{one.name}" {one.dtype} {list(one.shape)} does not hold the numbers that it should')
    return array.reshape(one.shape)


def _numbers(raw: bytes, dtype: str) -> Floats | None:
    """Little-endian bytes as float32; None where that cannot be."""
    if dtype == "bfloat16" and len(raw) % 2 == 0:
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    width = {"float32": "<f4", "float16": "<f2", "float64": "<f8"}.get(dtype)
    if width is None or len(raw) % np.dtype(width).itemsize:
        return None
    with np.errstate(over="ignore"):
        return np.frombuffer(raw, width).astype(np.float32)
