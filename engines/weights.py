"""Files of weights: one safetensors file with its model card in the header, and the card beside it as JSON for people.

Writing is whole or not at all. Reading is strict: the hash covers the card, the table of tensors and every byte of
them; a file that is truncated, altered, of another configuration or not of exactly the tensors that the network has is
a WeightsError of one line. Nothing is ever unpickled. Checking a file needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from engines.errors import WeightsError
from engines.models.config import SwapperConfig
from engines.settings import StrictModel

if TYPE_CHECKING:
    import torch

FORMAT: Literal[1] = 1
SUFFIX = ".safetensors"
PICKLES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
BINARY = getattr(os, "O_BINARY", 0)  # Windows would write \r\n for every byte 10
MOST_HEADER_BYTES = 100_000_000  # safetensors' own limit
CHUNK_BYTES = 1 << 22
NO_SHA256 = b"0" * 64  # stands in the hash's place while the hash is computed
HEADER_START = b'{"__metadata__":{"sha256":"'
ITEM_BYTES: Mapping[str, int] = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
EXPONENT: Mapping[str, int] = {"F16": 0x7C00, "BF16": 0x7F80}
_NUMPY = {"F64": np.float64, "I64": np.int64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_TORCH = {"torch.float64": "F64", "torch.int64": "I64", "torch.float32": "F32", "torch.float16": "F16"}
_TORCH["torch.bfloat16"] = "BF16"

Shapes = Mapping[str, tuple[int, ...]]


class ModelCard(StrictModel):
    """What a file of weights says of itself."""

    format: Literal[1] = Field(FORMAT, description="version of this kind of file")
    config: SwapperConfig
    licence: str = Field(min_length=1, description="under which the weights may be used")
    data: str = Field(min_length=1, description="what they were trained on")
    recipe: str = Field(min_length=1, description="how: a training recipe's name, or `import`, or `random`")
    stage: Literal["", "autoencoder", "teacher", "causal", "consistency", "rollout"] = Field(
        "", description="the stage of training that ended with these weights; empty: imported or random"
    )
    revision: str = Field(min_length=1, description="git revision of the code that made them, or `unknown`")
    sources: tuple[str, ...] = Field((), description="imported files, each with its sha256")
    untrained: tuple[str, ...] = Field((), description="parts that no source gave and that are still random")
    loss_networks: tuple[str, ...] = Field(
        (), description="networks that a loss looked through, each `NAME sha256:HEX`: as judges they are biased"
    )
    metrics: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: its type in safetensors' words, its shape, and its bytes' place after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of weights holds. `sha256` names card and weights together; it is what an engine is keyed by."""

    card: ModelCard
    sha256: str
    tensors: Mapping[str, Entry]
    size_bytes: int

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(entry.shape, dtype=np.int64)) for entry in self.tensors.values())


def card_path(path: Path) -> Path:
    """Where the readable copy of the card lies."""
    return path.with_suffix(".json")


def inspect(path: Path) -> Contents:
    """Card and table of tensors, from the header alone: fast, and the weights themselves are not looked at."""
    with _opened(path) as file:
        return _header(path, file).contents


def check(path: Path) -> Contents:
    """Reads every byte: raises WeightsError unless the file is whole, unaltered and of finite numbers only."""
    with _opened(path) as file:
        header = _header(path, file)
        digest = header.digest
        for name, entry in sorted(header.contents.tensors.items(), key=lambda item: item[1].start):
            for chunk in _chunks(file, entry.end - entry.start):
                digest.update(chunk)
                if not _finite(chunk, entry.dtype):
                    raise WeightsError(f"{path}: {name} has values that are no finite numbers")
    if digest.hexdigest() != header.contents.sha256:
        raise WeightsError(f"{path}: altered or damaged: what it holds does not have the sha256 that it names")
    return header.contents


def load_into(
    module: torch.nn.Module, path: Path, config: SwapperConfig | None = None, may_differ: Iterable[str] = ()
) -> Contents:
    """Checks the file and copies its weights into the module, all or none.

    config      the configuration that the module was built with; None: taken as it is in the card
    may_differ  fields of the configuration, such as `schedule.times` or `window`, that may be others than the card's

    Numbers are converted to the module's own type. Parameters on the meta device are given memory on the CPU.
    """
    contents = check(path)
    if config is not None:
        compare_configs(path, contents.card.config, config, may_differ)
    wanted = module.state_dict()
    found = {name: entry.shape for name, entry in contents.tensors.items()}
    compare_shapes(str(path), found, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    assign = any(tensor.is_meta for tensor in wanted.values())
    module.load_state_dict(_tensors(path, contents, wanted), strict=True, assign=assign)
    return contents


def compare_configs(path: Path, has: SwapperConfig, wants: SwapperConfig, may_differ: Iterable[str] = ()) -> None:
    """Raises WeightsError that names the fields in which the two differ. The name is no difference."""
    passed_over = ("name", *may_differ)
    mine, theirs = _flat(wants.model_dump()), _flat(has.model_dump())
    differing = [
        f"{field} is {theirs.get(field)}, not {mine.get(field)}"
        for field in sorted({*mine, *theirs})
        if mine.get(field) != theirs.get(field)
        and not any(field == one or field.startswith(f"{one}.") for one in passed_over)
    ]
    if differing:
        raise WeightsError(f"{path}: weights of another configuration: {some(differing, '; ')}")


def compare_shapes(where: str, found: Shapes, wanted: Shapes) -> None:
    """Raises WeightsError that names what is missing, unknown or of another shape."""
    missing = sorted(set(wanted) - set(found))
    unknown = sorted(set(found) - set(wanted))
    misshapen = [
        f"{name} is {list(found[name])}, not {list(shape)}"
        for name, shape in sorted(wanted.items())
        if name in found and found[name] != shape
    ]
    faults = [
        *([f"missing: {some(missing)}"] if missing else []),
        *([f"unknown: {some(unknown)}"] if unknown else []),
        *([f"misshapen: {some(misshapen)}"] if misshapen else []),
    ]
    if faults:
        raise WeightsError(f"{where}: not the weights of this network: {'; '.join(faults)}")


def some(names: Iterable[str], between: str = ", ", most: int = 4) -> str:
    """The first few, and how many there are besides."""
    listed = list(names)
    more = [f"and {len(listed) - most} more"] if len(listed) > most else []
    return between.join([*listed[:most], *more])


def write(path: Path, tensors: Mapping[str, Any], card: ModelCard) -> Contents:
    """Writes weights and card, whole or not at all, and returns what was written.

    tensors: NumPy arrays or torch tensors by name. Raises WeightsError for numbers that are not finite, kinds of
    numbers that are not stored, and a disk that is full.
    """
    if path.suffix != SUFFIX:
        raise WeightsError(f"{path}: weights are written as {SUFFIX} only")
    names = sorted(tensors, key=lambda name: (-ITEM_BYTES[_dtype(path, name, tensors[name])], name))
    table: dict[str, Any] = {}
    end = 0
    for name in names:
        dtype, shape = _dtype(path, name, tensors[name]), [int(side) for side in tensors[name].shape]
        start, end = end, end + ITEM_BYTES[dtype] * int(np.prod(shape, dtype=np.int64))
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path, card_path(path)) as (file, beside):
            sha256 = _write_all(path, file, table, tensors, card)
            beside.write(_readable(path, card, sha256).encode())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror or error}") from error
    return inspect(path)


def refuse_pickle(path: Path) -> None:
    """Raises WeightsError, with the way out, where the file is a pickle by name or by its first bytes."""
    with _reading(path) as file:
        start = file.read(9)
    # A safetensors header of 640 bytes begins like a pickle of protocol 2; but its ninth byte opens a table.
    pickled = start[:2] in (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5") and start[8:] != b"{"
    if path.suffix.lower() in PICKLES or start[:4] == b"PK\x03\x04" or pickled:
        raise WeightsError(
            f"{path}: pickled weights can run code when they are read, so they are never opened here; "
            f"save them as {SUFFIX}, or convert them with `vividstream engines import --from-torch`"
        )


# ---- the file itself


@dataclass(slots=True)
class _Header:
    contents: Contents
    digest: Any  # hashlib's object; it has taken in the card and the table


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    refuse_pickle(path)
    with _reading(path) as file:
        yield file


def _header(path: Path, file: IO[bytes]) -> _Header:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
        raise WeightsError(f"{path}: no file of weights, or a truncated one")
    raw = file.read(length)
    try:
        table = json.loads(raw.decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"{path}: no file of weights, or a damaged one: its header is no JSON") from error
    if not isinstance(table, dict):
        raise WeightsError(f"{path}: damaged: its header is no table")
    about = table.pop("__metadata__", None)
    start, end = len(HEADER_START), len(HEADER_START) + len(NO_SHA256)
    if not raw.startswith(HEADER_START) or not isinstance(about, dict) or set(about) != {"sha256", "card"}:
        raise WeightsError(f"{path}: no model card in it; foreign weights come in by `vividstream engines import`")
    tensors = {name: _entry(path, name, values) for name, values in table.items()}
    _check_layout(path, tensors, size - 8 - length)
    contents = Contents(_card(path, about["card"]), raw[start:end].decode(), tensors, size)
    return _Header(contents, hashlib.sha256(raw[:start] + NO_SHA256 + raw[end:]))


def _entry(path: Path, name: str, values: Any) -> Entry:
    whole = isinstance(values, dict) and set(values) == {"dtype", "shape", "data_offsets"}
    if not whole or values["dtype"] not in ITEM_BYTES:
        raise WeightsError(f"{path}: {name} is no tensor of a kind that is read here ({some(ITEM_BYTES, most=9)})")
    shape, place = values["shape"], values["data_offsets"]
    if not all(isinstance(part, list) and all(type(n) is int and n >= 0 for n in part) for part in (shape, place)):
        raise WeightsError(f"{path}: damaged: {name} has no shape or no place")
    if len(place) != 2:
        raise WeightsError(f"{path}: damaged: {name} has no place")
    return Entry(values["dtype"], tuple(shape), place[0], place[1])


def _check_layout(path: Path, tensors: Mapping[str, Entry], size: int) -> None:
    """The tensors must fill the file from end to end, one after the other."""
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        count = 1
        for side in entry.shape:
            count *= side
        if entry.start != end or entry.end - entry.start != count * ITEM_BYTES[entry.dtype]:
            raise WeightsError(f"{path}: damaged: {name} does not lie where its shape says")
        end = entry.end
    if size < end:
        raise WeightsError(f"{path}: truncated: {size} of {end} bytes of weights are there")
    if size > end:
        raise WeightsError(f"{path}: damaged: {size - end} bytes too many")


def _card(path: Path, text: Any) -> ModelCard:
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"{path}: in the model card, {field or 'the whole'}: {first['msg']}") from error


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = file.read(min(size, CHUNK_BYTES))
        if len(chunk) < min(size, CHUNK_BYTES):  # it was as long as its header said when it was opened
            raise WeightsError(f"{file.name}: truncated while it was read")
        size -= len(chunk)
        yield chunk


def _finite(chunk: bytes | memoryview, dtype: str) -> bool:
    if dtype in EXPONENT:  # all ones there is infinite or no number; NumPy knows no bfloat16, and is slow with float16
        return int((np.frombuffer(chunk, np.uint16) & EXPONENT[dtype]).max(initial=0)) != EXPONENT[dtype]
    return dtype not in FLOATS or bool(np.isfinite(np.frombuffer(chunk, _NUMPY[dtype])).all())


def _dtype(path: Path, name: str, tensor: Any) -> str:
    if isinstance(tensor, np.ndarray):
        kinds = {np.dtype(kind): dtype for dtype, kind in _NUMPY.items() if dtype != "BF16"}
        dtype = kinds.get(tensor.dtype)
    else:
        dtype = _TORCH.get(str(tensor.dtype))
    if dtype is None:
        raise WeightsError(f"{path}: {name} is of {tensor.dtype}, which is not stored ({some(ITEM_BYTES, most=9)})")
    return dtype


def _bytes(tensor: Any) -> memoryview:
    """The tensor's numbers as they are stored, without a copy where it lies whole in the CPU's memory."""
    if isinstance(tensor, np.ndarray):
        little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        return little.reshape(-1).view(np.uint8).data
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)


def _write_all(path: Path, file: IO[bytes], table: dict[str, Any], tensors: Mapping[str, Any], card: ModelCard) -> str:
    """The header with zeros for the hash, then the weights, then the hash in its place. Returns the hash."""
    about = {"__metadata__": {"sha256": NO_SHA256.decode(), "card": card.model_dump_json()}}
    header = json.dumps(about | table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    digest = hashlib.sha256(header)
    file.write(struct.pack("<Q", len(header)) + header)
    entries = {name: _entry(path, name, values) for name, values in table.items()}
    for name, entry in entries.items():
        data = _bytes(tensors[name])
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            if not _finite(chunk, entry.dtype):
                raise WeightsError(f"{path}: {name} has values that are no finite numbers; nothing was written")
            digest.update(chunk)
            file.write(chunk)
    file.seek(8 + len(HEADER_START))
    file.write(digest.hexdigest().encode())
    return digest.hexdigest()


def _readable(path: Path, card: ModelCard, sha256: str) -> str:
    about = {"file": path.name, "sha256": sha256, **card.model_dump(mode="json")}
    return json.dumps(about, indent=2, ensure_ascii=False) + "\n"


@contextmanager
def _replacing(*paths: Path) -> Iterator[list[IO[bytes]]]:
    """Files that take these names when all of all is written and on the disk, and go where anything fails."""
    temporaries = [path.with_name(f".{path.name}.{secrets.token_hex(4)}.part") for path in paths]
    try:
        with ExitStack() as stack:
            files: list[IO[bytes]] = [
                stack.enter_context(open(os.open(one, os.O_CREAT | os.O_EXCL | os.O_RDWR | BINARY, 0o666), "wb"))
                for one in temporaries
            ]
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in zip(temporaries, paths):
            os.replace(temporary, path)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(paths[0].parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _tensors(path: Path, contents: Contents, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The file's tensors, each of the type and on the device of the one that it is for, not bound to the file."""
    import torch
    from safetensors import SafetensorError, safe_open

    loaded = {}
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("sha256") != contents.sha256:
                raise WeightsError(f"{path}: was replaced while it was read")
            for name, target in wanted.items():
                device = torch.device("cpu") if target.is_meta else target.device
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() != target.is_floating_point():
                    raise WeightsError(f"{path}: {name} is of {tensor.dtype}, not {target.dtype}")
                loaded[name] = tensor.to(device, target.dtype, copy=True)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    return loaded


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
