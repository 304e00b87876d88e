"""Identity files: one safetensors file per person, with a JSON manifest in its header.

Reading is strict: whatever is not exactly an identity is an IdentityError of one line that names the file. Writing is
whole or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from platformdirs import user_data_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from engines.errors import IdentityError, SettingError, nearest
from engines.identity import ATLAS_PX, Identity, Manifest
from engines.types import SKIN_LANDMARKS

FORMAT = 1
SUFFIX = ".safetensors"
BUILT_IN = Path(__file__).with_name("personas")
MOST_BYTES = 16_000_000
MOST_CHARACTERS = 64
MOST_NAME_BYTES = 200  # file systems end at 255 with the suffix and a temporary file's additions
PORTRAIT_PX = 256
TENSORS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "albedo_AA3": ("U8", (ATLAS_PX, ATLAS_PX, 3)),
    "confidence_AA": ("U8", (ATLAS_PX, ATLAS_PX)),
    "shape_S3": ("F32", (SKIN_LANDMARKS, 3)),
    "iris_rgb": ("F32", (3,)),
    "portrait_PP3": ("U8", (PORTRAIT_PX, PORTRAIT_PX, 3)),
}
_DTYPES = {"U8": np.uint8, "F32": np.float32}
_DEVICE_NAMES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def check_name(name: str) -> str:
    """The name in Unicode's composed form: letters of any script, digits, and spaces, `-`, `_`, `.` between them.

    It becomes a file name, so nothing that means something to a file system passes. Raises IdentityError.
    """
    composed = unicodedata.normalize("NFC", name)
    shown = ascii(composed) if not composed.isprintable() else f'"{composed}"'
    if not composed:
        raise IdentityError("an identity needs a name")
    if len(composed) > MOST_CHARACTERS or len(composed.encode(errors="replace")) > MOST_NAME_BYTES:
        raise IdentityError(f"identity {shown[:40]}...: a name has at most {MOST_CHARACTERS} characters")
    kinds = [unicodedata.category(character)[0] for character in composed]  # L letters, M their marks, N digits
    inside = all(kind in "LMN" or character in " -_." for kind, character in zip(kinds, composed, strict=True))
    if not inside or kinds[0] not in "LN" or kinds[-1] not in "LMN":
        raise IdentityError(f"identity {shown}: a name is letters and digits, with spaces, - _ . between them")
    if composed.split(".")[0].lower() in _DEVICE_NAMES:
        raise IdentityError(f"identity {shown}: some systems keep this name for a device")
    return composed


def read_identity(path: Path) -> Identity:
    """Reads one identity file. Raises IdentityError that names the file and what is wrong with it."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise IdentityError(f"{path}: larger than any identity")
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            manifest = _manifest(path, header)
            pieces = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            _check_tensors(path, {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in pieces.items()})
            arrays = {name: file.get_tensor(name) for name in TENSORS}
    except FileNotFoundError as error:
        raise IdentityError(f"{path}: no such file") from error
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise IdentityError(f"{path}: no identity file, or a damaged one ({error})") from error
    for name in ("shape_S3", "iris_rgb"):
        if not np.isfinite(arrays[name]).all():
            raise IdentityError(f"{path}: {name} has values that are no numbers")
    return Identity(manifest=manifest, **arrays)


def _manifest(path: Path, header: Mapping[str, str]) -> Manifest:
    if "manifest" not in header:
        raise IdentityError(f"{path}: no identity file: it has no manifest")
    try:
        values = json.loads(header["manifest"])
        if not isinstance(values, dict):
            raise IdentityError(f"{path}: the manifest is no object")
        if values.get("format") != FORMAT:
            raise IdentityError(f"{path}: format {values.get('format')!r}, and this version reads {FORMAT}")
        if isinstance(values.get("images_sha256"), list):
            values["images_sha256"] = tuple(values["images_sha256"])
        return Manifest.read(values)
    except (json.JSONDecodeError, RecursionError) as error:
        raise IdentityError(f"{path}: the manifest is no JSON: {error}") from error
    except SettingError as error:
        raise IdentityError(f"{path}: in the manifest, {error}") from error


def _check_tensors(path: Path, found: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    for name, (dtype, shape) in TENSORS.items():
        if name not in found:
            raise IdentityError(f"{path}: {name} is missing")
        has_dtype, has_shape = found[name]
        if (has_dtype, has_shape) != (dtype, shape):
            raise IdentityError(f"{path}: {name} is {has_dtype} {list(has_shape)}, not {dtype} {list(shape)}")
    unknown = sorted(set(found) - set(TENSORS))
    if unknown:
        raise IdentityError(f"{path}: {unknown[0]} does not belong into an identity")


def write_identity(path: Path, identity: Identity) -> None:
    """Writes the file whole or not at all. Raises IdentityError where the identity or the disk is at fault."""
    arrays = {}
    for name, (dtype, shape) in TENSORS.items():
        array = np.asarray(getattr(identity, name))
        if array.dtype != _DTYPES[dtype] or array.shape != shape:
            raise IdentityError(f"{path}: {name} is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}")
        # safetensors writes an array's memory as it lies, so a transposed one would come back scrambled.
        arrays[name] = np.ascontiguousarray(array)
    data = to_bytes(arrays, {"manifest": identity.manifest.model_dump_json()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        raise IdentityError(f"{path}: cannot be written: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    """Writes beside the file and renames over it, so that a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def default_directory() -> Path:
    """Where a person's own identities lie unless told otherwise."""
    return user_data_path("vividstream", appauthor=False) / "identities"


class IdentityStore:
    """The identities of one folder, and the built-in personas, which cannot be changed.

    directory: where enrolled identities lie; None: `default_directory()`. It is made by the first `save`.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory if directory is not None else default_directory()

    def names(self) -> tuple[str, ...]:
        """All identities that can be loaded by name, sorted, built-in ones included."""
        return tuple(sorted({*self.built_in(), *_names_in(self.directory)}))

    def built_in(self) -> tuple[str, ...]:
        return tuple(sorted(_names_in(BUILT_IN)))

    def load(self, name: str) -> Identity:
        """Raises IdentityError for an unknown name (it says the nearest known one) and for a file that is not whole."""
        composed = unicodedata.normalize("NFC", name)
        if composed in self.built_in():
            return read_identity(BUILT_IN / f"{composed}{SUFFIX}")
        known = self.names()
        if composed not in known:
            raise IdentityError(f'no identity "{name}"; {nearest(composed, known) if known else "none is enrolled"}')
        path = self.directory / f"{composed}{SUFFIX}"
        identity = read_identity(path)
        if identity.name != composed:
            raise IdentityError(f'{path}: holds identity "{identity.name}"; rename the file to {identity.name}{SUFFIX}')
        return identity

    def save(self, identity: Identity) -> Path:
        """Writes or replaces the identity's file, atomically, and returns its path."""
        path = self._own_path(identity.name)
        if identity.name != path.stem:
            raise IdentityError(f'identity "{identity.name}": the name is not in Unicode\'s composed form')
        write_identity(path, identity)
        return path

    def delete(self, name: str) -> None:
        path = self._own_path(name)
        try:
            path.unlink()
        except FileNotFoundError as error:
            own = sorted(_names_in(self.directory))
            raise IdentityError(f'no identity "{name}"; {nearest(name, own) if own else "none is enrolled"}') from error
        except OSError as error:
            raise IdentityError(f"{path}: cannot be deleted: {error.strerror or error}") from error

    def _own_path(self, name: str) -> Path:
        composed = check_name(name)
        if composed in self.built_in():
            raise IdentityError(f'identity "{composed}" is built in and cannot be changed; take another name')
        return self.directory / f"{composed}{SUFFIX}"


def _names_in(folder: Path) -> set[str]:
    """Names of the identity files in a folder; files whose names no identity can have are passed over."""
    try:
        stems = [path.stem for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise IdentityError(f"{folder}: {error.strerror or error}") from error
    return {stem for stem in stems if _is_name(stem)}


def _is_name(stem: str) -> bool:
    try:
        return check_name(stem) == stem
    except IdentityError:
        return False
