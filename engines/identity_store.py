"""Identity files: one safetensors file per person, with a JSON manifest in its header.

Reading is strict: whatever is not exactly an identity is an IdentityError of one line that names the file. Writing is
whole or not at all. What the store writes is signed with the installation's key, every byte of it; what is not as it
was signed, or whose consent has ended, is not loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_bytes

from engines.errors import ConsentEnded, ConsentMissing, IdentityError, NotGenuine, SettingError, nearest
from engines.identity import ATLAS_PX, Identity, Manifest
from engines.identity_list import BUILT_IN, SUFFIX, check_name, default_directory, identity_names, names_in
from engines.trust.agreement import Agreement
from engines.trust.key import LocalKey, local_key
from engines.trust.lists import of_before, withdrawn
from engines.trust.records import records_directory, write_whole
from engines.trust.seal import BLANK, is_whole, seal
from engines.types import SKIN_LANDMARKS

UNSIGNED, FORMAT = 1, 2
MOST_BYTES = 16_000_000
PORTRAIT_PX = 256
TENSORS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "albedo_AA3": ("U8", (ATLAS_PX, ATLAS_PX, 3)),
    "confidence_AA": ("U8", (ATLAS_PX, ATLAS_PX)),
    "shape_S3": ("F32", (SKIN_LANDMARKS, 3)),
    "iris_rgb": ("F32", (3,)),
    "portrait_PP3": ("U8", (PORTRAIT_PX, PORTRAIT_PX, 3)),
}
_DTYPES = {"U8": np.uint8, "F32": np.float32}

log = logging.getLogger(__name__)


def read_identity(path: Path) -> Identity:
    """Reads one identity file. Raises IdentityError that names the file and what is wrong with it.

    A signed file is as the key that it names signed it; whose key that is, and whether the consent holds, is for
    `IdentityStore.load` to say.
    """
    return parse_identity(path, _bytes_of(path))


def _bytes_of(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise IdentityError(f"{path}: not a file")
        if path.stat().st_size > MOST_BYTES:
            raise IdentityError(f"{path}: larger than any identity")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise IdentityError(f"{path}: no such file") from error
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror or error}") from error


def parse_identity(path: Path, data: bytes) -> Identity:
    """As `read_identity`, of bytes at hand; `path` is for messages."""
    try:
        pieces = dict(deserialize(data))  # type: ignore[no-untyped-call]
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, RecursionError) as error:
        raise IdentityError(
            f"{path}: no identity file, or a damaged one ({error}); enrol again, or take a whole copy"
        ) from error
    manifest = _manifest(path, header.get("__metadata__", {}))
    if manifest.format == FORMAT and not is_whole(data, manifest.signed_by):
        raise NotGenuine(f"{path}: was changed after it was signed; the person has to be enrolled again")
    _check_tensors(path, {name: (one["dtype"], tuple(one["shape"])) for name, one in pieces.items()})
    arrays = {
        name: np.frombuffer(pieces[name]["data"], _DTYPES[dtype]).reshape(shape).copy()
        for name, (dtype, shape) in TENSORS.items()
    }
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
        if values.get("format") not in (UNSIGNED, FORMAT):
            raise IdentityError(
                f"{path}: format {values.get('format')!r}, and this version reads {UNSIGNED} and {FORMAT}"
            )
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


def write_identity(path: Path, identity: Identity, key: LocalKey | None = None) -> None:
    """Writes the file whole or not at all, signed where a key is given.

    Raises IdentityError where the identity or the disk is at fault.
    """
    data = identity_bytes(path, identity, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "" if full else "; let this user write to the folder, or name another (--identities-dir)"
        raise IdentityError(f"{path}: cannot be written: {error.strerror or error}{hint}") from error


def identity_bytes(path: Path, identity: Identity, key: LocalKey | None) -> bytes:
    """What `write_identity` writes; `path` is for messages."""
    arrays = {}
    for name, (dtype, shape) in TENSORS.items():
        array = np.asarray(getattr(identity, name))
        if array.dtype != _DTYPES[dtype] or array.shape != shape:
            raise IdentityError(f"{path}: {name} is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}")
        # safetensors writes an array's memory as it lies, so a transposed one would come back scrambled.
        arrays[name] = np.ascontiguousarray(array)
    if key is None:
        manifest = identity.manifest.model_copy(update={"format": UNSIGNED, "signed_by": "", "agreement": None})
        return to_bytes(arrays, {"manifest": manifest.model_dump_json(exclude={"agreement", "signed_by"})})
    manifest = identity.manifest.model_copy(update={"format": FORMAT, "signed_by": key.public})
    return seal(to_bytes(arrays, {"manifest": manifest.model_dump_json(), "signature": BLANK}), key)


class IdentityStore:
    """The identities of one folder, and the built-in personas, which cannot be changed.

    directory: where enrolled identities lie; None: `default_directory()`. It is made by the first `save`.
    records: the folder of key and lists; None: `records_directory()`. now: the time, for consents that end.
    """

    def __init__(
        self,
        directory: Path | None = None,
        records: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.directory = directory if directory is not None else default_directory()
        self._records = records
        self._now = now
        self._warned: set[Path] = set()  # files whose missing signature was told: a call looks again and again

    @property
    def records(self) -> Path:
        return records_directory() if self._records is None else self._records

    def names(self) -> tuple[str, ...]:
        """All identities that can be loaded by name, sorted, built-in ones included."""
        return identity_names(self.directory)

    def built_in(self) -> tuple[str, ...]:
        return tuple(sorted(names_in(BUILT_IN)))

    def load(self, name: str) -> Identity:
        """The identity, if it may be worn.

        Raises IdentityError for an unknown name (it says the nearest known one) and for a file that is not whole,
        NotGenuine for one that this installation did not sign, ConsentEnded where consent has expired or was withdrawn.
        """
        composed = unicodedata.normalize("NFC", name)
        if composed in self.built_in():
            return read_identity(BUILT_IN / f"{composed}{SUFFIX}")
        path, data, identity = self._open(name)
        key = local_key(self.records)
        self._check_origin(key, path, data, identity.manifest)
        manifest = identity.manifest
        if manifest.origin_sha256 in withdrawn(self.records).read(key):
            raise ConsentEnded(
                f'identity "{composed}": the consent was withdrawn; the person would have to be enrolled again'
            )
        if manifest.agreement is not None and manifest.agreement.has_expired(self._now()):
            raise ConsentEnded(
                f'identity "{composed}": the consent ended on {manifest.agreement.expires}; ask again, then '
                f"`vividstream consent renew`"
            )
        return identity

    def look(self, name: str) -> Manifest:
        """What a file says, whether it may be worn or not. Raises IdentityError for one that is not whole."""
        composed = unicodedata.normalize("NFC", name)
        if composed in self.built_in():
            return read_identity(BUILT_IN / f"{composed}{SUFFIX}").manifest
        return self._open(name)[2].manifest

    def _open(self, name: str) -> tuple[Path, bytes, Identity]:
        composed = unicodedata.normalize("NFC", name)
        known = self.names()
        if composed not in known:
            raise IdentityError(f'no identity "{name}"; {nearest(composed, known) if known else "none is enrolled"}')
        path = self.directory / f"{composed}{SUFFIX}"
        data = _bytes_of(path)
        identity = parse_identity(path, data)
        if identity.name != composed:
            raise IdentityError(f'{path}: holds identity "{identity.name}"; rename the file to {identity.name}{SUFFIX}')
        return path, data, identity

    def _check_origin(self, key: LocalKey, path: Path, data: bytes, manifest: Manifest) -> None:
        """Signed here; or unsigned, and here before there were signatures."""
        mends = f'`vividstream consent renew "{manifest.name}"` says who agreed and signs it'
        if manifest.format == FORMAT:
            if manifest.signed_by != key.public:
                raise NotGenuine(f"{path}: signed by another installation; if it is to be worn here, {mends}")
            return
        if self._of_before(key).get(path.stem) != hashlib.sha256(data).hexdigest():
            raise NotGenuine(
                f"{path}: not signed, and not here before identities were; if it is to be worn here, {mends}"
            )
        if path not in self._warned:
            self._warned.add(path)
            log.warning("identity %s is not signed: it was made by an earlier version; %s", manifest.name, mends)

    def _of_before(self, key: LocalKey) -> dict[str, str]:
        """Unsigned files of this folder, taken stock of once, when this installation first looks at it."""
        stock = of_before(self.records)
        entries = stock.read(key)
        folder = str(self.directory.resolve())
        if folder not in entries:
            entries[folder] = dict(_unsigned_in(self.directory))
            stock.write(key, entries)
        return entries[folder]

    def save(self, identity: Identity) -> Path:
        """Signs, writes or replaces the identity's file, atomically, and returns its path.

        Raises ConsentMissing for a real person of whom it is not said who agreed, when, for what and for how long.
        """
        path = self._own_path(identity.name)
        if identity.name != path.stem:
            raise IdentityError(f'identity "{identity.name}": the name is not in Unicode\'s composed form')
        if identity.manifest.agreement is None and not identity.manifest.synthetic:
            raise ConsentMissing(f'identity "{identity.name}": not said who agreed, when, for what and for how long')
        key = local_key(self.records)
        self._of_before(key)  # a folder's stock is taken before anything new lies in it
        write_identity(path, identity, key)
        return path

    def renew(self, name: str, agreement: Agreement) -> Path:
        """Puts a new agreement into a file, of whichever version or installation, and signs it.

        Raises ConsentEnded where the consent was withdrawn: who took it back is enrolled anew or not at all.
        """
        self._own_path(name)
        identity = self._open(name)[2]
        if identity.manifest.origin_sha256 in withdrawn(self.records).read(local_key(self.records)):
            raise ConsentEnded(f'identity "{identity.name}": the consent was withdrawn; it cannot be renewed')
        manifest = identity.manifest.model_copy(update={"agreement": agreement, "consent": agreement.sentence()})
        return self.save(replace(identity, manifest=manifest))

    def withdrawn(self) -> frozenset[str]:
        """Origins (`Manifest.origin_sha256`) of all consents that were taken back here."""
        return frozenset(withdrawn(self.records).read(local_key(self.records)))

    def withdraw(self, name: str, why: str = "") -> str:
        """Ends a consent for good: the file is deleted, and no copy of it is loaded here again. Returns its origin."""
        path = self._own_path(name)
        manifest = self._open(name)[2].manifest
        key = local_key(self.records)
        listed = withdrawn(self.records)
        entries = listed.read(key)
        entries[manifest.origin_sha256] = {"at": self._now().isoformat(timespec="seconds"), "why": why}
        listed.write(key, entries)
        try:
            path.unlink()
        except OSError as error:
            raise IdentityError(f"{path}: withdrawn, but cannot be deleted: {error.strerror or error}") from error
        return manifest.origin_sha256

    def delete(self, name: str) -> None:
        path = self._own_path(name)
        try:
            path.unlink()
        except FileNotFoundError as error:
            own = sorted(names_in(self.directory))
            raise IdentityError(f'no identity "{name}"; {nearest(name, own) if own else "none is enrolled"}') from error
        except OSError as error:
            raise IdentityError(f"{path}: cannot be deleted: {error.strerror or error}") from error

    def _own_path(self, name: str) -> Path:
        composed = check_name(name)
        if composed in self.built_in():
            raise IdentityError(f'identity "{composed}" is built in and cannot be changed; take another name')
        return self.directory / f"{composed}{SUFFIX}"


def _unsigned_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and sha256 of the unsigned identity files in a folder; what cannot be read is passed over."""
    for name in sorted(names_in(folder)):
        path = folder / f"{name}{SUFFIX}"
        with suppress(IdentityError):
            data = _bytes_of(path)
            if parse_identity(path, data).manifest.format == UNSIGNED:
                yield name, hashlib.sha256(data).hexdigest()
