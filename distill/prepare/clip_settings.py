"""The settings that decide what a clip is: shards made with others do not belong into the same folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from distill.prepare.settings import PrepareSettings
from distill.shards import sha256_of
from engines import SettingError

RUNNING = {"output", "consent", "licence", "workers", "cluster", "shard_clips"}  # of a run, not of its clips
FILES = ("decoupler", "decoupler_embedder", "decoupler_converter")


def clip_settings(settings: PrepareSettings) -> dict[str, object]:
    """As JSON has them, with hashes for files. Raises SettingError for a file that cannot be read."""
    decoupling = {name for name in type(settings).model_fields if name.startswith("decoupler")}
    kept = settings.model_dump(mode="json", exclude=RUNNING | decoupling)
    return {**kept, "decoupler": _decoupler(settings)}


def _decoupler(settings: PrepareSettings) -> dict[str, object] | None:
    """What decides the twins, without paths: sha256 of every file. None where no twins are made."""
    if settings.decoupler is None:
        return None
    found: dict[str, object] = {"type": settings.decoupler_type}
    for name in FILES:
        path = getattr(settings, name)
        found[name] = None if path is None else _hashed(name, path)
    folder = settings.decoupler_identities
    found["identities"] = (
        None if folder is None else {path.stem: _hashed("", path) for path in sorted(folder.glob("*.safetensors"))}
    )
    return found


def _hashed(name: str, path: Path) -> str:
    try:
        stat = path.stat()
        return _hashed_once(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise SettingError(f'setting "{name}": {path}: cannot be read: {error.strerror or error}') from error


@lru_cache(maxsize=256)
def _hashed_once(path: Path, changed_ns: int, size_bytes: int) -> str:
    return sha256_of(path)
