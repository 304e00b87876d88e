"""Shards: plain tar files of samples, as the WebDataset format has them, written whole or not at all, read strictly.

A sample is a run of neighbouring members that share a key: `KEY.EXTENSION`, the key up to the first dot of the file's
name. Any reader of the format reads these shards; this one refuses what others pass over: a file that was cut (also
between two members, where the tar reader of the standard library sees a regular end), a damaged header, bytes that are
not those that the manifest promises. Why not the `webdataset` package: docs/decisions/006-shards.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from distill.errors import BadShard, NotWritten

MANIFEST_NAME = "manifest.json"
FORMAT = "vividstream-shards-1"
BLOCK = 512
TWIN = ".twin.jpg"  # how the name of a twin's frame ends; of any other frame it is .jpg
HASH_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest knows of a shard."""

    name: str
    sha256: str
    bytes: int
    samples: int


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when all of it is on the disk, and not at all otherwise.

    Raises NotWritten, naming the file, when the disk is full or the folder may not be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> Entry:
    """Writes samples `(key, {extension: bytes})`, in order. The same samples give the same bytes.

    Raises ValueError for a key or extension that the format cannot carry, or a key that comes twice; NotWritten when
    the file cannot be written.
    """
    seen: set[str] = set()
    with written_whole(path) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples:
                _check(key, members, seen)
                for extension, content in members.items():
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size, member.mode = len(content), 0o644
                    tar.addfile(member, io.BytesIO(content))
        size = file.tell()
        file.flush()
        part = Path(file.name)
        sha256 = sha256_of(part)
    return Entry(path.name, sha256, size, len(seen))


def _check(key: str, members: Mapping[str, bytes], seen: set[str]) -> None:
    if not key or "." in key or "/" in key or key in seen:
        raise ValueError(f'"{key}" cannot be the key of a sample here: empty, with a dot or slash, or there already')
    if not members or any(not extension or "/" in extension for extension in members):
        raise ValueError(f'sample "{key}" has no members, or one without a name')
    if max(len(f"{key}.{extension}".encode()) for extension in members) > 100:
        raise ValueError(f'"{key}": names of members may be 100 bytes long')
    seen.add(key)


def sha256_of(path: Path) -> str:
    """Raises OSError where the file cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_STEP):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one member's bytes lie in its shard."""

    extension: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Shard:
    """An index of a shard, so that any sample can be read alone. Holds no open file: it may go to another process."""

    path: Path
    keys: tuple[str, ...]
    places: tuple[tuple[Place, ...], ...]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> dict[str, bytes]:
        """The members of a sample by extension. Raises BadShard when the file changed or went away meanwhile."""
        try:
            with self.path.open("rb") as file:
                return {place.extension: self._read(file, place) for place in self.places[number]}
        except OSError as error:
            raise BadShard(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _read(self, file: IO[bytes], place: Place) -> bytes:
        file.seek(place.offset)
        content = file.read(place.size)
        if len(content) != place.size:
            raise BadShard(f"{self.path}: was cut while it was in use")
        return content


def open_shard(path: Path, entry: Entry | None = None) -> Shard:
    """Reads the headers of a shard; with the manifest's entry, its size and sha256 are compared as well.

    Raises BadShard, naming the file, for anything but a whole, undamaged tar file of samples.
    """
    try:
        size = path.stat().st_size
        if entry is not None and size != entry.bytes:
            raise BadShard(f"{path}: {size} bytes long, but was written with {entry.bytes}: it was cut or exchanged")
        if entry is not None and sha256_of(path) != entry.sha256:
            raise BadShard(f"{path}: its sha256 is not that of the manifest: it was damaged or exchanged")
        with path.open("rb") as file:
            members = _members(path, file, size)
    except OSError as error:
        raise BadShard(f"{path}: cannot be read: {error.strerror or error}") from error
    shard = _grouped(path, members)
    if entry is not None and len(shard) != entry.samples:
        raise BadShard(f"{path}: holds {len(shard)} samples, the manifest says {entry.samples}")
    return shard


def _members(path: Path, file: IO[bytes], size: int) -> list[tuple[str, Place]]:
    found = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue  # folders carry nothing
                if member.offset_data + member.size > size:
                    raise BadShard(f"{path}: cut off inside {member.name}")
                name = member.name.rpartition("/")[2]
                stem, _, extension = name.partition(".")
                found.append((member.name[: len(member.name) - len(name)] + stem, extension, member))
            end = tar.offset
    except tarfile.TarError as error:
        raise BadShard(f"{path}: is no tar file, or was cut off: {error}") from error
    file.seek(end)
    rest = file.read()
    if len(rest) < 2 * BLOCK or rest.strip(b"\0"):
        raise BadShard(f"{path}: the end of the archive is missing: it was cut off or damaged at byte {end}")
    return [(key, Place(extension, member.offset_data, member.size)) for key, extension, member in found if extension]


def _grouped(path: Path, members: Iterable[tuple[str, Place]]) -> Shard:
    keys: list[str] = []
    places: list[list[Place]] = []
    for key, place in members:
        if not keys or keys[-1] != key:
            keys.append(key)
            places.append([])
        places[-1].append(place)
    if not keys:
        raise BadShard(f"{path}: no samples in it")
    if len(set(keys)) != len(keys):
        raise BadShard(f"{path}: the members of a sample do not lie together")
    return Shard(path, tuple(keys), tuple(tuple(of_sample) for of_sample in places))


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The entries of a folder's manifest by file name; empty where there is none. Raises BadShard when unreadable."""
    path = folder / MANIFEST_NAME
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_bytes())
        if stored["format"] != FORMAT:
            raise BadShard(f'{path}: format "{stored["format"]}" is not known here, only "{FORMAT}"')
        return {one["name"]: Entry(**one) for one in stored["shards"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadShard(f"{path}: is no manifest of shards: {error}") from error


def write_manifest(folder: Path, entries: Iterable[Entry]) -> None:
    """Replaces the folder's manifest. Raises NotWritten."""
    shards = [asdict(entry) for entry in sorted(entries, key=lambda one: one.name)]
    content = {"format": FORMAT, "samples": sum(int(one["samples"]) for one in shards), "shards": shards}
    with written_whole(folder / MANIFEST_NAME) as file:
        file.write(json.dumps(content, indent=1).encode())


def open_shards(folder: Path) -> tuple[list[Shard], list[BadShard]]:
    """Every shard of a folder that can be used, by name, and what is wrong with each of the others.

    With a manifest, shards that it does not list are strangers (left over, or not finished) and count as bad.
    Raises BadShard when nothing is left.
    """
    entries = read_manifest(folder)
    good: list[Shard] = []
    bad: list[BadShard] = []
    for name in sorted({*entries, *(path.name for path in folder.glob("*.tar"))}):
        try:
            if entries and name not in entries:
                raise BadShard(f"{folder / name}: is not in the manifest")
            good.append(open_shard(folder / name, entries.get(name)))
        except BadShard as error:
            bad.append(error)
    if not good:
        why = f"; {bad[0]}" if bad else ""
        raise BadShard(f"{folder}: no shard in it can be used ({len(bad)} bad{why})")
    return good, bad
